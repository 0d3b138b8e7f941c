"""The file of codes: encoded recordings in one safetensors file with their geometry in its header.

The header's `__metadata__` has one key, `distill_codes`, with canonical JSON. One tensor `[F, Q]` uint16 for each
recording, named by its key; keys ascend in the order of the recordings.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from distill.codes.store import Codes
from distill.errors import ArtifactError
from distill.params import CodebookSize, Levels, Settings, first_problem
from distill.storage.files import canonical_json, write_bytes
from distill.storage.safetensors_header import Limits, read_header
from distill.text import one_line

FORMAT: Literal["distill_codes"] = "distill_codes"
VERSION = [1, 0]
LIMITS = Limits(header_bytes=64 << 20, tensors=1 << 20, json_bytes=64 << 20, depth=4)  # some 300,000 recordings
WHAT = "a file of codes that `distill encode` wrote"
AGAIN = "encode the recordings again"


class CodesGeometry(Settings):
    """Geometry of codes: the hash of their codec, sample rate and frame rate in Hz, codebook size, quantizers."""

    codec_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    sample_rate: Annotated[int, Field(ge=1)]
    frame_rate: Annotated[float, Field(gt=0)]
    codebook_size: CodebookSize
    num_quantizers: Levels


class CodedRecording(Settings):
    """One recording: key of its tensor, name of its file, length in samples at the codec's rate."""

    key: Annotated[str, Field(pattern=r"^[0-9]{8}$")]
    name: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/\\\x00-\x1f\x7f]+$")]
    samples: Annotated[int, Field(ge=1, le=1 << 48)]


class CodesHeader(CodesGeometry):
    """The JSON of a file of codes."""

    format: Literal["distill_codes"]
    version: list[int]
    recordings: Annotated[list[CodedRecording], Field(min_length=1)]


def write_codes(path: Path, geometry: CodesGeometry, recordings: Iterable[tuple[str, int, Codes]]) -> CodesHeader:
    """Write (name, length in samples, codes `[F, Q]`) of each recording, atomically. Returns the header."""
    entries, tensors = [], {}
    for number, (name, samples, codes) in enumerate(recordings):
        entries.append(CodedRecording(key=f"{number:08d}", name=name, samples=samples))
        tensors[f"{number:08d}"] = codes.astype(np.uint16)
    header = CodesHeader(**geometry.model_dump(), format=FORMAT, version=VERSION, recordings=entries)
    write_bytes(path, save(tensors, {FORMAT: canonical_json(header.model_dump(mode="json"))}))
    return header


def read_codes(path: Path) -> tuple[CodesHeader, list[Codes]]:
    """The header and the codes `[F, Q]` int64 of each recording, checked. Raises ArtifactError."""
    header = _read_header(path)
    keys = [entry.key for entry in header.recordings]
    try:
        with safe_open(path, framework="numpy") as file:
            if keys != sorted(set(file.keys())):
                raise ArtifactError(f"{path}: expected one tensor for each recording it names, found others; {AGAIN}")
            return header, [_tensor(path, header, file, entry) for entry in header.recordings]
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: expected {WHAT}, found a damaged file ({error}); {AGAIN}") from error


def _read_header(path: Path) -> CodesHeader:
    values = read_header(path, FORMAT, WHAT, LIMITS).values
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ArtifactError(f"{path}: expected {WHAT}, found another kind of safetensors file; check the path")
    version = values.get("version")
    if version != VERSION:
        raise ArtifactError(
            f"{path}: expected codes of format version {VERSION[0]}.{VERSION[1]}, found {one_line(repr(version), 80)}; {AGAIN}, "
            "or use the version of Distill that wrote it"
        )
    try:
        return CodesHeader.model_validate(values)
    except ValidationError as error:
        raise ArtifactError(f"{path}: expected a valid header, found {first_problem(error)}; {AGAIN}") from error


def _tensor(path: Path, header: CodesHeader, file: Any, entry: CodedRecording) -> Codes:
    """Codes `[F, Q]` of one recording, checked for type, shape and range."""
    stored = file.get_slice(entry.key)
    kind, shape = stored.get_dtype(), list(stored.get_shape())
    if kind != "U16" or len(shape) != 2 or not shape[0] or shape[1] != header.num_quantizers:
        raise ArtifactError(
            f"{path}: expected uint16 codes [frames, {header.num_quantizers}] of {entry.name}, "
            f"found {kind} {shape}; {AGAIN}"
        )
    codes: Codes = file.get_tensor(entry.key).astype(np.int64)
    if codes.max() >= header.codebook_size:
        raise ArtifactError(
            f"{path}: expected codes below {header.codebook_size} in {entry.name}, found {codes.max()}; {AGAIN}"
        )
    return codes
