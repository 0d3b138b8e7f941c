"""The file of codes that `distill encode` writes and `distill decode` reads.

It is a safetensors file. The header's `__metadata__` has a single key, `distill_codes`, with canonical JSON: the
recordings and the geometry of their codes. Each recording has a tensor `[F, Q]` uint16 named by its key; keys ascend in
the order of the recordings. The tensors of `side_info_arrays` hold their side information.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor

from distill.audio.decode import Decoder
from distill.audio.output import Output
from distill.audio.side_info import ARRAYS as SIDE_INFO_ARRAYS
from distill.audio.side_info import UNKNOWN, SideInfo, side_info_arrays, side_info_of
from distill.audio.upmix import upmixed
from distill.audio.write import AudioFormat, write_audio
from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each, encode_each, within_full_scale
from distill.codes.store import CodeLevels, Codes, out_of_range
from distill.errors import ArtifactError
from distill.params import Settings, first_problem
from distill.progress import Progress
from distill.storage.files import atomic_folder, canonical_json, check_replaceable, write_bytes
from distill.storage.weights import Kind, read_header, weights_sha256
from distill.text import normal_form

FORMAT = "distill_codes"
OWN = {"format": FORMAT, "version": [1, 0]}
AGAIN = "encode the recordings again"
KIND = Kind(
    "a file of codes that `distill encode` wrote",
    FORMAT,
    OWN,
    AGAIN,
    header_bytes=64 << 20,  # about 300,000 recordings
    json_bytes=64 << 20,
    depth=4,
)


class NamedCodes(NamedTuple):
    """A recording: file name, length in samples, codes `[F, Q]` and side information."""

    name: str
    samples: int
    codes: Codes
    side_info: SideInfo = UNKNOWN


class CodedRecording(Settings):
    """A recording in the header: key of its tensor, file name, length in samples at the codec's rate."""

    key: Annotated[str, Field(pattern=r"^[0-9]{8}$")]
    name: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/\\\x00-\x1f\x7f]+$")]
    samples: Annotated[int, Field(ge=1, le=1 << 48)]


class CodesHeader(CodeLevels):
    """JSON header of a file of codes, without format and version; rates are in Hz."""

    codec_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    sample_rate: int
    frame_rate: float
    recordings: Annotated[list[CodedRecording], Field(min_length=1)]

    @classmethod
    def of_codec(cls, codec: VQVAE, recordings: Sequence[CodedRecording]) -> Self:
        """Make the header for recordings encoded with this codec."""
        return cls(
            codec_sha256=weights_sha256(codec),
            sample_rate=codec.spectrogram.sample_rate,
            frame_rate=codec.spectrogram.frame_rate,
            codebook_sizes=codec.architecture.codebook_sizes,
            recordings=list(recordings),
        )


def write_codes(path: Path, codec: VQVAE, recordings: Iterable[NamedCodes]) -> None:
    """Write a file of codes atomically."""
    entries, tensors, side_info = [], {}, []
    for number, (name, samples, codes, about) in enumerate(recordings):
        entries.append(CodedRecording(key=f"{number:08d}", name=name, samples=samples))
        tensors[f"{number:08d}"] = codes.astype(np.uint16)
        side_info.append(about)
    tensors |= side_info_arrays(side_info)
    header = CodesHeader.of_codec(codec, entries).model_dump(mode="json")
    write_bytes(path, save(tensors, {FORMAT: canonical_json({**OWN, **header})}))


def _load_header(codec: VQVAE, path: Path) -> CodesHeader:
    """Read the header of a file of this codec's codes and check it against the tensors. Raises ArtifactError."""
    values, stored = read_header(path, KIND)
    try:
        header = CodesHeader.model_validate(
            {key: value for key, value in values.items() if key not in OWN}
        )
    except ValidationError as error:
        raise ArtifactError(
            f"{path}: expected a valid header, found {first_problem(error)}; {AGAIN}"
        ) from error
    ours = CodesHeader.of_codec(codec, header.recordings)
    if header.codec_sha256 != ours.codec_sha256:
        raise ArtifactError(
            f"{path}: expected codes of the codec {ours.codec_sha256[:12]}…, found those of {header.codec_sha256[:12]}…: "
            "decode them with the model that encoded them"
        )
    if values != {**OWN, **ours.model_dump(mode="json")}:
        raise ArtifactError(f"{path}: expected the geometry of its codec, found another; {AGAIN}")
    if "noise" not in stored:
        raise ArtifactError(
            f"{path}: expected the noise floors of its recordings, found a file made before they were kept; {AGAIN}"
        )
    if [entry.key for entry in header.recordings] != sorted(stored.keys() - SIDE_INFO_ARRAYS):
        raise ArtifactError(
            f"{path}: expected one tensor for each recording it names, found others; {AGAIN}"
        )
    for entry in header.recordings:
        tensor = stored[entry.key]
        expected = (codec.spectrogram.frames_for(entry.samples), header.num_quantizers)
        if tensor != ("U16", expected):
            raise ArtifactError(
                f"{path}: expected uint16 codes {list(expected)} for the {entry.samples} samples of {entry.name}, "
                f"found {tensor.dtype} {list(tensor.shape)}; {AGAIN}"
            )
    return header


def load_codes(codec: VQVAE, path: Path) -> list[NamedCodes]:
    """Read and check the recordings in a file of this codec's codes. Raises ArtifactError."""
    header = _load_header(codec, path)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: expected {KIND.name}, found a damaged file ({error}); {AGAIN}"
        ) from error
    for entry in header.recordings:
        if problem := out_of_range(tensors[entry.key], header.codebook_sizes):
            raise ArtifactError(f"{path}: {entry.name}: {problem}; {AGAIN}")
    try:
        side_info = side_info_of(tensors, len(header.recordings))
    except ValueError as error:
        raise ArtifactError(
            f"{path}: expected the side information of its recordings, found that {error}; {AGAIN}"
        ) from error
    codes = [tensors[entry.key].astype(np.int64) for entry in header.recordings]
    parts = zip(header.recordings, codes, side_info, strict=True)
    return [NamedCodes(entry.name, entry.samples, own, about) for entry, own, about in parts]


@dataclass(frozen=True)
class Encoded:
    """Result of `encode_files`. The real-time factor `times_real_time` includes reading the files."""

    recordings: int
    seconds: float
    frames: int
    times_real_time: float


@dataclass(frozen=True)
class DecodedFile:
    """A file that `decode_file` wrote. `gain_db` is negative if the sound was attenuated to avoid clipping.

    `under_db` is the shortfall from the requested loudness.
    """

    path: Path
    seconds: float
    gain_db: float
    under_db: float = 0.0


def encode_files(
    codec: VQVAE,
    paths: Sequence[Path],
    output: Path,
    progress: Progress = lambda *_: None,
    replace: bool = False,
    stereo: bool = False,
) -> Encoded:
    """Encode the recordings `paths` and write the file of codes `output`, or nothing if any recording is unusable.

    `replace` allows overwriting a file that Distill made. `stereo` keeps the parametric-stereo parameters of stereo
    recordings. Remarks on recordings are AudioWarnings. Raises AudioError and ParamsError.
    """
    check_replaceable("-o", [output], replace)
    rate, began = codec.spectrogram.sample_rate, time.monotonic()
    recordings: list[NamedCodes] = []
    lengths: list[int] = []
    side_info: list[SideInfo] = []

    def sounds() -> Iterator[Tensor]:
        with Decoder() as decoder:
            for path in paths:
                found = decoder.recording(path, rate, "fold" if stereo else "mono")
                lengths.append(len(found.pcm))
                side_info.append(found.side_info)
                yield torch.from_numpy(within_full_scale(codec, found.samples, str(path)))

    # `zip` advances `encode_each` first, which appends the length and side information of the same recording.
    coded = zip(encode_each(codec, sounds()), paths, lengths, side_info, strict=True)
    for codes, path, samples, about in coded:
        recordings.append(NamedCodes(_printable(path.name), samples, codes.cpu().numpy(), about))
        progress(len(recordings), len(paths), path.name)
    seconds = sum(lengths) / rate
    speed = seconds / (time.monotonic() - began)
    check_replaceable("-o", [output], replace)  # it may have changed meanwhile
    write_codes(output, codec, recordings)
    return Encoded(
        len(recordings), seconds, sum(len(recording.codes) for recording in recordings), speed
    )


def decode_file(
    codec: VQVAE,
    recordings: Sequence[NamedCodes],
    output: Path,
    kind: AudioFormat,
    progress: Progress = lambda *_: None,
    replace: bool = False,
    sample_rate: int | None = None,
    loudness: float | None = None,
) -> list[DecodedFile]:
    """Decode the recordings of `load_codes` to `output`: a file for a single recording, otherwise a folder.

    An existing folder is accepted for a single recording, too. Recordings with parametric-stereo parameters become
    stereo. A sound whose peak is above full scale is attenuated. A new folder is written atomically; in an existing
    folder, files of the same name are replaced only with `replace` and if Distill made them. Raises ParamsError.
    """
    rate = codec.spectrogram.sample_rate
    made = Output(sample_rate or rate, loudness)
    parent, names = output, file_names([recording.name for recording in recordings], kind)
    is_file = len(recordings) == 1 and not output.is_dir()
    if is_file:
        parent, names = output.parent, [output.name]
    whole = nullcontext(parent) if parent.is_dir() or is_file else atomic_folder(output)
    targets = [parent / name for name in names]
    check_replaceable("-o", targets, replace)
    written = []
    with whole as folder:
        side_info = (recording.side_info for recording in recordings)
        sounds = decode_each(
            codec, (torch.from_numpy(recording.codes) for recording in recordings), side_info
        )
        for name, path, recording, sound in zip(names, targets, recordings, sounds, strict=True):
            first, *other = np.atleast_2d(sound[..., : recording.samples].cpu().numpy())
            audio = upmixed(first, other[0], recording.side_info.image, rate) if other else first
            gain = 1.0 / max(1.0, float(abs(audio).max()))
            check_replaceable("-o", [path], replace)  # it may have changed meanwhile
            samples, under_db = made.of(audio * np.float32(gain), rate)
            write_audio(folder / name, samples, made.sample_rate, kind)
            written.append(DecodedFile(path, len(audio) / rate, 20.0 * math.log10(gain), under_db))
            progress(len(written), len(recordings), name)
        if folder not in (output, output.parent) and output.exists():
            check_replaceable("-o", [output], replace=False)
    return written


def file_names(names: Sequence[str], kind: AudioFormat) -> list[str]:
    """Unique file name for each recording, with suffix `kind`; names equal up to case or normal form get a number."""
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    chosen = []
    for name in names:
        stem = printable_stem(PurePosixPath(name))
        candidate = f"{stem}.{kind}"
        while normal_form(candidate).casefold() in taken:
            numbers[stem] += 1
            candidate = f"{stem}_{numbers[stem] + 1}.{kind}"
        taken.add(normal_form(candidate).casefold())
        chosen.append(candidate)
    return chosen


def printable_stem(path: PurePath) -> str:
    """Printable file name without its suffix, cut to 200 bytes to leave room for a number and a new suffix.

    File systems allow 255 bytes.
    """
    return _printable(path.stem).encode("utf-8")[:200].decode("utf-8", "ignore")


def _printable(name: str) -> str:
    return "".join(
        character if character.isprintable() and character not in "/\\" else "_"
        for character in name
    )
