"""The file of codes, and recordings to it and back: `distill encode` and `distill decode`.

A file holds encoded recordings in safetensors with their geometry in its header. The header's `__metadata__` has one key,
`distill_codes`, with canonical JSON. One tensor `[F, Q]` uint16 for each recording, named by its key; keys ascend in the
order of the recordings.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from distill.audio.augment import samples_of
from distill.audio.decode import Decoder
from distill.audio.write import AudioFormat, write_audio
from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each, encode_each
from distill.codes.store import Codes
from distill.errors import ArtifactError
from distill.params import CodebookSize, Levels, Settings, first_problem
from distill.progress import Progress
from distill.storage.files import atomic_folder, canonical_json, check_replaceable, write_bytes
from distill.storage.weights import Limits, read_header, weights_sha256

FORMAT: Literal["distill_codes"] = "distill_codes"
VERSION = [1, 0]
LIMITS = Limits(header_bytes=64 << 20, tensors=1 << 20, json_bytes=64 << 20, depth=4)  # some 300,000 recordings
WHAT = "a file of codes that `distill encode` wrote"
AGAIN = "encode the recordings again"
MAX_STEM_BYTES = 200  # file systems take 255, and a number and a suffix follow

NamedCodes = tuple[str, int, Codes]  # of one recording: name of its file, length in samples, codes [F, Q]


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


def write_codes(path: Path, geometry: CodesGeometry, recordings: Iterable[NamedCodes]) -> None:
    """Write a file of codes, atomically."""
    entries, tensors = [], {}
    for number, (name, samples, codes) in enumerate(recordings):
        entries.append(CodedRecording(key=f"{number:08d}", name=name, samples=samples))
        tensors[f"{number:08d}"] = codes.astype(np.uint16)
    header = CodesHeader(**geometry.model_dump(), format=FORMAT, version=VERSION, recordings=entries)
    write_bytes(path, save(tensors, {FORMAT: canonical_json(header.model_dump(mode="json"))}))


def read_codes(path: Path) -> tuple[CodesHeader, list[Codes]]:
    """The header and the codes `[F, Q]` int64 of each recording, checked. Raises ArtifactError."""
    values, _ = read_header(path, FORMAT, WHAT, LIMITS, {"format": FORMAT, "version": VERSION}, AGAIN)
    try:
        header = CodesHeader.model_validate(values)
    except ValidationError as error:
        raise ArtifactError(f"{path}: expected a valid header, found {first_problem(error)}; {AGAIN}") from error
    keys = [entry.key for entry in header.recordings]
    try:
        with safe_open(path, framework="numpy") as file:
            if keys != sorted(set(file.keys())):
                raise ArtifactError(f"{path}: expected one tensor for each recording it names, found others; {AGAIN}")
            return header, [_tensor(path, header, file, entry) for entry in header.recordings]
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: expected {WHAT}, found a damaged file ({error}); {AGAIN}") from error


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


@dataclass(frozen=True)
class Encoded:
    """Result of `encode_files`. The real-time factor `times_real_time` includes reading the files."""

    recordings: int
    seconds: float
    frames: int
    times_real_time: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class DecodedFile:
    """A file that `decode_file` wrote. `gain_db` is below 0 where the sound was attenuated to avoid clipping."""

    path: Path
    seconds: float
    gain_db: float


def encode_files(
    codec: VQVAE, paths: Sequence[Path], output: Path, progress: Progress | None = None, replace: bool = False
) -> Encoded:
    """Encode the recordings `paths` and write the file of codes `output`, or nothing if one of them is unusable.

    With `replace` a file that Distill made may be there. Raises AudioError and ParamsError.
    """
    check_replaceable("-o", [output], replace)
    rate, began = codec.spectrogram.sample_rate, time.monotonic()
    recordings: list[NamedCodes] = []
    lengths: list[int] = []
    warnings: list[str] = []

    def sounds() -> Iterator[Tensor]:
        with Decoder() as decoder:
            for path in paths:
                found = decoder.recording(path, rate)
                if found.reason:
                    warnings.append(f"{path}: {found.reason}")
                lengths.append(len(found.pcm))
                yield samples_of(found.pcm)

    for path, codes in zip(paths, encode_each(codec, sounds()), strict=True):
        recordings.append((_printable(path.name), lengths[len(recordings)], codes.cpu().numpy()))
        if progress is not None:
            progress(len(recordings), len(paths), path.name)
    seconds = sum(lengths) / rate
    speed = seconds / (time.monotonic() - began)
    write_codes(output, codes_geometry(codec), recordings)
    return Encoded(len(recordings), seconds, sum(len(codes) for _, _, codes in recordings), speed, tuple(warnings))


def codes_geometry(codec: VQVAE) -> CodesGeometry:
    """Geometry of the codes of this codec."""
    return CodesGeometry(
        codec_sha256=weights_sha256(codec),
        sample_rate=codec.spectrogram.sample_rate,
        frame_rate=codec.spectrogram.frame_rate,
        codebook_size=codec.architecture.codebook_size,
        num_quantizers=codec.architecture.num_quantizers,
    )


def load_codes(codec: VQVAE, path: Path) -> list[NamedCodes]:
    """The recordings in a file of this codec's codes. Raises ArtifactError."""
    header, codes = read_codes(path)
    ours = codes_geometry(codec)
    if header.codec_sha256 != ours.codec_sha256:
        raise ArtifactError(
            f"{path}: expected codes of the codec {ours.codec_sha256[:12]}…, found those of {header.codec_sha256[:12]}…: "
            "decode them with the model that encoded them"
        )
    if CodesGeometry(**header.model_dump(include=set(CodesGeometry.model_fields))) != ours:
        raise ArtifactError(f"{path}: expected the geometry of its codec, found another; {AGAIN}")
    for entry, one in zip(header.recordings, codes, strict=True):
        frames = codec.spectrogram.frames_for(entry.samples)
        if frames != len(one):
            raise ArtifactError(
                f"{path}: expected {frames} frames for the {entry.samples} samples of {entry.name}, found {len(one)}; "
                f"{AGAIN}"
            )
    return [(entry.name, entry.samples, one) for entry, one in zip(header.recordings, codes, strict=True)]


def decode_file(
    codec: VQVAE,
    recordings: Sequence[NamedCodes],
    output: Path,
    kind: AudioFormat,
    progress: Progress | None = None,
    replace: bool = False,
) -> list[DecodedFile]:
    """Decode the recordings of `load_codes`: one to the file `output`, several into the folder `output`.

    A sound whose peak is above full scale is attenuated. A new folder is written atomically; in one that exists, files
    of the same names are replaced only if Distill made them, and with `replace`. Raises ParamsError.
    """
    rate = codec.spectrogram.sample_rate
    single = len(recordings) == 1
    whole = nullcontext(output.parent) if single else nullcontext(output) if output.is_dir() else atomic_folder(output)
    names = [output.name] if single else file_names([name for name, _, _ in recordings], kind)
    check_replaceable("-o", [output] if single else [output / name for name in names], replace)
    written = []
    with whole as folder:
        sounds = decode_each(codec, (torch.from_numpy(codes) for _, _, codes in recordings))
        for name, (_, samples, _), sound in zip(names, recordings, sounds, strict=True):
            audio = sound[:samples].cpu().numpy()
            gain = 1.0 / max(1.0, float(abs(audio).max()))
            write_audio(folder / name, audio * np.float32(gain), rate, kind)
            path = output if single else output / name
            written.append(DecodedFile(path, len(audio) / rate, 20.0 * math.log10(gain)))
            if progress is not None:
                progress(len(written), len(recordings), name)
    return written


def file_names(names: Sequence[str], kind: AudioFormat) -> list[str]:
    """A file name with the suffix of `kind` for each recording; recordings of the same name are numbered."""
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    chosen = []
    for name in names:
        stem = printable_stem(PurePosixPath(name))
        candidate = f"{stem}.{kind}"
        while candidate.casefold() in taken:
            numbers[stem] += 1
            candidate = f"{stem}_{numbers[stem] + 1}.{kind}"
        taken.add(candidate.casefold())
        chosen.append(candidate)
    return chosen


def printable_stem(path: PurePath) -> str:
    """The name of a file without its suffix, printable and short enough that a number and another suffix may follow."""
    return _printable(path.stem).encode("utf-8")[:MAX_STEM_BYTES].decode("utf-8", "ignore")


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() and character not in "/\\" else "_" for character in name)
