"""Sequential reading of libsndfile's formats. Shapes: `n` frames of the file, `C` channels."""

import io
import math
import mmap
import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import soundfile as sf

from distill.audio.headers import Header, read_header
from distill.audio.pcm import F32
from distill.errors import AudioError

# fmt: off
SUFFIXES = (
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64",
    ".wav", ".wave",
)
# fmt: on
BITS = {
    **dict.fromkeys(
        ("PCM_S8", "PCM_U8", "PCM_16", "ALAC_16", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"), 16
    ),
    **dict.fromkeys(("PCM_24", "ALAC_20", "ALAC_24"), 24),
    **dict.fromkeys(("PCM_32", "ALAC_32", "DOUBLE"), 64),
}


class AudioStream(AbstractContextManager["AudioStream"]):
    """Open sound file, read with libsndfile. Use as a context manager; readers of other formats are subclasses.

    `frames` is the largest number of frames that can be read, `announced` the number that the header states; None if
    unknown. `bits` is the bit depth, 16 or more: 32 for codings decoded to floats, 64 if float32 cannot hold samples.
    `watch` is called with True before each block, and with False after the file is closed.
    """

    watch: ClassVar[Callable[[bool], None]] = staticmethod(lambda _: None)

    def __init__(self, path: Path) -> None:
        """Open a file. Raises AudioError with the reason only."""
        with ExitStack() as opened:
            header = read_header(path)
            # libsndfile cannot open BW64, and reads at most the first part of samples in several parts.
            is_odd = header is not None and (header.is_bw64 or len(header.parts) > 1)
            first = (
                opened.enter_context(_Head(path, [(0, header.parts[0][1])]))
                if header and is_odd
                else None
            )
            file = opened.enter_context(_opened(path, first))
            self.sample_rate, self.channels, self.coding = (
                int(file.samplerate),
                int(file.channels),
                str(file.format),
            )
            self.bits = BITS.get(file.subtype, 32)
            self.announced, self._remark = _announced(file, header), ""
            if header is not None and _is_misread(file, header):
                whole = opened.enter_context(_Parts(path, header.parts))
                file = opened.enter_context(_FrontToBack(whole, **_as_raw(file)))
            self._file, self.frames = file, _frames(file)
            if header is not None and not _frame_bytes(file):
                self.frames, self._remark = _frames_of_blocks(file, header), _left_out(file, header)
            self._opened = opened.pop_all()

    def __exit__(self, *_: object) -> None:
        self._opened.close()
        AudioStream.watch(False)

    def read_block(self, most: int) -> tuple[F32, str]:
        """Read up to `most` frames `[n, C]`, none at the end, and the reason for a failure or "".

        Frames before a failure are returned, which soundfile would drop. Callers should stop at `frames`: reading
        another program's tag after it would fail.
        """
        AudioStream.watch(True)
        block = np.full((most, self.channels), np.nan, dtype=np.float32)
        try:
            return self._file.read(out=block), ""
        except sf.LibsndfileError as error:
            untouched = np.isnan(block).all(axis=1)
            return block[: int(untouched.argmax()) if untouched.any() else most], _short(error)

    def remarks(self) -> list[str]:
        """Remarks on the file, as parts of a sentence."""
        return [self._remark] * bool(self._remark)

    def skip_to(self, frame: int) -> bool:
        """Skip ahead to `frame`. False if the file is damaged."""
        try:
            self._file.seek(frame)
        except sf.LibsndfileError:
            return False
        return True


class _FrontToBack(sf.SoundFile):  # type: ignore[misc]
    """Not seekable: soundfile would seek after each block, which fails on damaged files and is slow in MP3."""

    def seekable(self) -> bool:
        return False


def _opened(path: Path, part: io.FileIO | None) -> _FrontToBack:
    """Open the file at `path`, or `part` of it."""
    name = os.fspath(path) if os.name == "nt" else os.fsencode(path)
    try:
        if part is not None:
            return _FrontToBack(part)
        if len(name) <= 1000:
            return _FrontToBack(name)
        return _FrontToBack(
            os.open(path, os.O_RDONLY), closefd=True
        )  # libsndfile rejects longer paths
    except sf.LibsndfileError as error:
        if (
            error.code == 1 or path.suffix.lower() == ".mp3"
        ):  # for MP3 libsndfile blames the file system
            file = f"suffix {path.suffix or 'missing'}, {path.stat().st_size} bytes"
            raise AudioError(f"is not audio in a known format ({file})") from error
        raise AudioError(f"cannot be decoded: {_short(error)}") from error
    except (OSError, sf.SoundFileError) as error:
        raise AudioError(f"cannot be opened: {error}") from error


def _short(error: sf.LibsndfileError) -> str:
    """libsndfile's error message without the prefix that names the file."""
    return re.sub(r"^Error(?: ?: | in .+? file[.,] )", "", error.error_string).rstrip(".")


def _frames(file: sf.SoundFile) -> int | None:
    """Number of frames by libsndfile; None for a stream of unknown length, reported as about 2^63."""
    return int(file.frames) if file.frames < 1 << 62 else None


def _frame_bytes(file: sf.SoundFile) -> int:
    """Bytes in a frame; 0 for block codings, which cannot be read without a header."""
    whole = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4}
    others = {"FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
    return (whole | others).get(file.subtype, 0) * int(file.channels)


def _announced(file: sf.SoundFile, header: Header | None) -> int | None:
    """Number of frames that the header states, or None. libsndfile's own count is limited by the file size."""
    if header is None:
        return _frames(file)
    if header.is_of_a_pipe:
        return None
    if frame_bytes := _frame_bytes(file):
        return header.stated // frame_bytes
    frames = int(file.frames)
    if header.stated > header.held:
        return round(frames * header.stated / max(1, header.held))
    return header.frames if 0 < header.frames < frames else frames


def _is_misread(file: sf.SoundFile, header: Header) -> bool:
    """Whether libsndfile would read tags as samples, or miss samples after the stated end.

    Less than 0.1 s after the end is ignored, as another program may have appended it.
    """
    frame_bytes = _frame_bytes(file)
    is_enough = header.held - header.stated >= 0.1 * int(file.samplerate) * frame_bytes
    is_partial = len(header.parts) > 1 or (header.is_short and is_enough)
    return frame_bytes > 0 and (header.has_tags or is_partial)


def _frames_of_blocks(file: sf.SoundFile, header: Header) -> int | None:
    """Number of frames of a block coding, without padding of the last block. MPEG does not state its padding."""
    frames, (start, stop) = _frames(file), header.parts[0]
    is_known = frames is not None and header.frames and not file.subtype.startswith("MPEG")
    if frames is None or not is_known:
        return frames
    frames_per_block = math.ceil(frames * header.block_bytes / max(1, stop - start))
    return header.frames if 0 < frames - header.frames < 2 * frames_per_block else frames


def _left_out(file: sf.SoundFile, header: Header) -> str:
    """Remark on blocks after the stated end, which libsndfile does not read, or ""."""
    start, stop = header.parts[0]
    read = min(header.stated, stop - start)
    seconds = (header.held - read) / max(1, read) * file.frames / file.samplerate
    is_partial = len(header.parts) > 1 or header.is_short
    return f"about {seconds:.1f} s after the end that its header states was left out" * (
        is_partial and seconds >= 0.1
    )


def _as_raw(file: sf.SoundFile) -> dict[str, Any]:
    """Arguments that open the samples of a file without its header."""
    orders = {"AIFF": "BIG", "CAF": "BIG", "AU": "BIG"}
    order = orders.get(file.format, "LITTLE") if file.endian == "FILE" else file.endian
    shape = {"samplerate": file.samplerate, "channels": file.channels}
    return {"format": "RAW", "subtype": file.subtype, "endian": order, **shape}


class _Parts(io.FileIO):
    """File object that joins parts (start, stop) of a file."""

    def __init__(self, path: Path, parts: Sequence[tuple[int, int]]) -> None:
        super().__init__(path)
        self._parts, self._position = parts, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = sum(stop - start for start, stop in self._parts)
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: size}[
            whence
        ] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        room, before, done = memoryview(buffer), 0, 0
        for start, stop in self._parts:
            offset = self._position + done - before
            if offset < stop - start:
                super().seek(start + offset)
                done += super().readinto(room[done : done + stop - start - offset])
            before += stop - start
        self._position += done
        return done


class _Head(_Parts):
    """Beginning of a file; presents BW64 (ITU-R BS.2088) as RF64, which libsndfile can read."""

    def readinto(self, buffer: Any) -> int:
        is_first, done = self._position == 0, super().readinto(buffer)
        if is_first and bytes(memoryview(buffer)[:4]) == b"BW64":
            memoryview(buffer)[:4] = b"RF64"
        return done


def is_chained(path: Path) -> bool:
    """Whether an Ogg or FLAC file holds several streams in a row, as radio recorders and `cat` produce.

    Looks for a page that begins a stream after other pages (Ogg, RFC 3533), or for a second "fLaC" with STREAMINFO
    (FLAC, RFC 9639).
    """
    patterns = {
        b"OggS": (rb"OggS\x00[\x00\x01\x04\x05]", rb"OggS\x00[\x02\x06]"),
        b"fLaC": (rb"fLaC", rb"fLaC[\x00\x80]\x00\x00\x22"),
    }
    with path.open("rb") as file:
        if (pattern := patterns.get(file.read(4))) is None:
            return False
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    before, behind = map(re.compile, pattern)
    return any(behind.search(held, first.end()) for first in islice(before.finditer(held), 1))
