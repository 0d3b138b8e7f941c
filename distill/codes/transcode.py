"""Encode recordings to a file of codes, and decode it: `distill encode` and `distill decode`."""

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from distill.audio.augment import samples_of
from distill.audio.decode import Decoder
from distill.audio.write import AudioFormat, write_audio
from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each, encode_each
from distill.codes.file import CodesGeometry, read_codes, write_codes
from distill.codes.store import Codes
from distill.errors import ArtifactError
from distill.status import Progress
from distill.storage.files import atomic_folder
from distill.storage.made import check_replaceable
from distill.storage.weights import weights_sha256

MAX_STEM_BYTES = 200  # file systems take 255, and a number and a suffix follow


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
    rate = codec.spectrogram.sample_rate
    began = time.monotonic()
    recordings: list[tuple[str, int, Codes]] = []
    lengths: list[int] = []
    warnings: list[str] = []

    def sounds() -> Iterator[Tensor]:
        with Decoder() as decoder:
            for path in paths:
                recording = decoder.recording(path, rate)
                warnings.extend(f"{path}: {warning}" for warning in filter(None, [recording.reason]))
                lengths.append(len(recording.pcm))
                yield samples_of(recording.pcm)

    for path, codes in zip(paths, encode_each(codec, sounds()), strict=True):
        recordings.append((_printable(path.name), lengths[len(recordings)], codes.cpu().numpy()))
        if progress is not None:
            progress(len(recordings), len(paths), path.name)
    seconds = sum(samples for _, samples, _ in recordings) / rate
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


def load_codes(codec: VQVAE, path: Path) -> list[tuple[str, int, Codes]]:
    """(name, samples, codes `[F, Q]`) of each recording in a file of this codec's codes. Raises ArtifactError."""
    header, codes = read_codes(path)
    ours = codes_geometry(codec)
    if header.codec_sha256 != ours.codec_sha256:
        raise ArtifactError(
            f"{path}: expected codes of the codec {ours.codec_sha256[:12]}…, found those of {header.codec_sha256[:12]}…: "
            "decode them with the model that encoded them"
        )
    if CodesGeometry(**header.model_dump(include=set(CodesGeometry.model_fields))) != ours:
        raise ArtifactError(f"{path}: expected the geometry of its codec, found another; encode the recordings again")
    for entry, one in zip(header.recordings, codes, strict=True):
        if codec.spectrogram.frames_for(entry.samples) != len(one):
            raise ArtifactError(
                f"{path}: expected {codec.spectrogram.frames_for(entry.samples)} frames for the {entry.samples} samples "
                f"of {entry.name}, found {len(one)}; encode the recordings again"
            )
    return [(entry.name, entry.samples, one) for entry, one in zip(header.recordings, codes, strict=True)]


def decode_file(
    codec: VQVAE,
    recordings: Sequence[tuple[str, int, Codes]],
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
        stem = PurePosixPath(name).stem.encode("utf-8")[:MAX_STEM_BYTES].decode("utf-8", "ignore")
        candidate = f"{stem}.{kind}"
        while candidate.casefold() in taken:
            numbers[stem] += 1
            candidate = f"{stem}_{numbers[stem] + 1}.{kind}"
        taken.add(candidate.casefold())
        chosen.append(candidate)
    return chosen


def printable_stem(path: Path) -> str:
    """The name of a file without its suffix, printable and short enough that a number and another suffix may follow."""
    return _printable(path.stem).encode("utf-8")[:MAX_STEM_BYTES].decode("utf-8", "ignore")


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() and character not in "/\\" else "_" for character in name)
