"""Sound files of libsndfile's formats, read from front to back. Shapes: `n` frames of the file, `C` channels."""

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
    **dict.fromkeys(("PCM_S8", "PCM_U8", "PCM_16", "ALAC_16", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"), 16),
    **dict.fromkeys(("PCM_24", "ALAC_20", "ALAC_24"), 24),
    **dict.fromkeys(("PCM_32", "ALAC_32", "DOUBLE"), 64),
}


class AudioStream(AbstractContextManager["AudioStream"]):
    """Sound file that is open, by libsndfile. Use as a context manager; a reader of other formats is a subclass.

    `frames` is what can be read at most, and `announced` what the header states; None where that is not known. `bits` are
    those of a sample, 16 at least, 32 of what is decoded to floats; more where a float cannot hold them.
    `watch` is called with True before each block, and with False when there are no more.
    """

    watch: ClassVar[Callable[[bool], None]] = staticmethod(lambda _: None)

    def __init__(self, path: Path) -> None:
        """Open a file. Raises AudioError with the reason alone."""
        with ExitStack() as opened:
            header = read_header(path)
            # libsndfile opens no BW64, and where samples are in several parts the first one at most.
            is_odd = header is not None and (header.is_bw64 or len(header.parts) > 1)
            first = opened.enter_context(_Head(path, [(0, header.parts[0][1])])) if header and is_odd else None
            file = opened.enter_context(_opened(path, first))
            self.sample_rate, self.channels, self.coding = int(file.samplerate), int(file.channels), str(file.format)
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
        """Up to `most` frames `[n, C]`, none at the end, and why there are no more: "" where nothing failed.

        soundfile forgets what came before a failure; here it counts. Nothing is asked for beyond the end that the header
        announces, where a tag of another program would be a failure.
        """
        AudioStream.watch(True)
        block = np.full((most, self.channels), np.nan, dtype=np.float32)
        try:
            return self._file.read(out=block), ""
        except sf.LibsndfileError as error:
            untouched = np.isnan(block).all(axis=1)
            return block[: int(untouched.argmax()) if untouched.any() else most], _short(error)

    def remarks(self) -> list[str]:
        """What was noticed up to here, as parts of a sentence."""
        return [self._remark] * bool(self._remark)

    def skip_to(self, frame: int) -> bool:
        """Go on with `frame`, which lies ahead. False where the file is damaged."""
        try:
            self._file.seek(frame)
        except sf.LibsndfileError:
            return False
        return True


class _FrontToBack(sf.SoundFile):  # type: ignore[misc]
    """Seeking after each block fails on damaged files and is slow in MP3."""

    def seekable(self) -> bool:
        return False


def _opened(path: Path, part: io.FileIO | None) -> _FrontToBack:
    """The file at a path, or a part of it."""
    name = os.fspath(path) if os.name == "nt" else os.fsencode(path)
    try:
        if part is not None:
            return _FrontToBack(part)
        if len(name) <= 1000:
            return _FrontToBack(name)
        return _FrontToBack(os.open(path, os.O_RDONLY), closefd=True)  # libsndfile refuses a longer path
    except sf.LibsndfileError as error:
        if error.code == 1 or path.suffix.lower() == ".mp3":  # for MP3 libsndfile blames the file system
            file = f"suffix {path.suffix or 'missing'}, {path.stat().st_size} bytes"
            raise AudioError(f"is not audio in a known format ({file})") from error
        raise AudioError(f"cannot be decoded: {_short(error)}") from error
    except (OSError, sf.SoundFileError) as error:
        raise AudioError(f"cannot be opened: {error}") from error


def _short(error: sf.LibsndfileError) -> str:
    """Message of libsndfile without the prefix that names the file."""
    return re.sub(r"^Error(?: ?: | in .+? file[.,] )", "", error.error_string).rstrip(".")


def _frames(file: sf.SoundFile) -> int | None:
    """Frames as libsndfile counts them, None for a stream of unknown length, where it reports about 2^63."""
    return int(file.frames) if file.frames < 1 << 62 else None


def _frame_bytes(file: sf.SoundFile) -> int:
    """Bytes of a frame, 0 in a coding with blocks, whose samples cannot be read without a header."""
    whole = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4}
    others = {"FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
    return (whole | others).get(file.subtype, 0) * int(file.channels)


def _announced(file: sf.SoundFile, header: Header | None) -> int | None:
    """Frames by the header, None where it does not tell; libsndfile counts what an uncompressed file can hold."""
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
    """Whether libsndfile takes tags for samples, or leaves out enough of these, which follow the end in the header.

    Less than 0.1 s may be what another program appended.
    """
    frame_bytes = _frame_bytes(file)
    is_enough = header.held - header.stated >= 0.1 * int(file.samplerate) * frame_bytes
    is_partial = len(header.parts) > 1 or (header.is_short and is_enough)
    return frame_bytes > 0 and (header.has_tags or is_partial)


def _frames_of_blocks(file: sf.SoundFile, header: Header) -> int | None:
    """Frames of a coding with blocks, without those that fill the last block. The delay of MPEG is not stated."""
    frames, (start, stop) = _frames(file), header.parts[0]
    is_known = frames is not None and header.frames and not file.subtype.startswith("MPEG")
    if frames is None or not is_known:
        return frames
    frames_per_block = math.ceil(frames * header.block_bytes / max(1, stop - start))
    return header.frames if 0 < frames - header.frames < 2 * frames_per_block else frames


def _left_out(file: sf.SoundFile, header: Header) -> str:
    """Remark on samples in blocks that libsndfile leaves out, since they follow the end in the header, or ""."""
    start, stop = header.parts[0]
    read = min(header.stated, stop - start)
    seconds = (header.held - read) / max(1, read) * file.frames / file.samplerate
    is_partial = len(header.parts) > 1 or header.is_short
    return f"about {seconds:.1f} s after the end that its header states was left out" * (is_partial and seconds >= 0.1)


def _as_raw(file: sf.SoundFile) -> dict[str, Any]:
    """How to open the samples of a file without its header."""
    orders = {"AIFF": "BIG", "CAF": "BIG", "AU": "BIG"}
    order = orders.get(file.format, "LITTLE") if file.endian == "FILE" else file.endian
    shape = {"samplerate": file.samplerate, "channels": file.channels}
    return {"format": "RAW", "subtype": file.subtype, "endian": order, **shape}


class _Parts(io.FileIO):
    """Parts of a file from `start` to `stop`, one after another."""

    def __init__(self, path: Path, parts: Sequence[tuple[int, int]]) -> None:
        super().__init__(path)
        self._parts, self._position = parts, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = sum(stop - start for start, stop in self._parts)
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: size}[whence] + offset
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
    """The beginning of a file; BW64 (ITU-R BS.2088) has the name that libsndfile knows it by."""

    def readinto(self, buffer: Any) -> int:
        is_first, done = self._position == 0, super().readinto(buffer)
        if is_first and bytes(memoryview(buffer)[:4]) == b"BW64":
            memoryview(buffer)[:4] = b"RF64"
        return done


def is_chained(path: Path) -> bool:
    """Whether more streams follow the first one in an Ogg or FLAC file, as recorders of radio and `cat` make it.

    In Ogg (RFC 3533) a page that begins a stream follows another one; in FLAC (RFC 9639) its name and STREAMINFO follow.
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
