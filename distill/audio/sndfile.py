"""Sound files of libsndfile's formats, read from front to back. Shapes: `n` frames of the file, `C` channels."""

import io
import mmap
import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from distill.audio.chunks import samples_behind_end
from distill.errors import AudioError

F32 = NDArray[np.float32]

# fmt: off
SUFFIXES = (
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64",
    ".wav", ".wave",
)
# fmt: on

_LONGEST_PATH = 1000  # libsndfile refuses longer ones, but reads from a descriptor
# Sizes in the headers that writers to a pipe leave.
_UNKNOWN_SIZES = (range(0x7FFFF000, 0x80000001), range(0xFFFFF000, 0x100000000))
# Of codings without blocks, whose samples can be read without a header.
_SAMPLE_BYTES = {
    **{"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4},
    **{"FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1},
}
_LEAST_BEHIND = 0.1  # seconds of samples behind their end: less may be what another program appended
_UNKNOWN_FRAMES = 1 << 62  # libsndfile reports about 2^63 for a stream of unknown length
# By the first bytes of a file: what is in its first stream, and what begins another one. Of Ogg (RFC 3533) a page that is
# not the first of a stream, then one that is; of FLAC (RFC 9639) its name, then that with its STREAMINFO.
_CHAINS = {
    b"OggS": (rb"OggS\x00[\x00\x01\x04\x05]", rb"OggS\x00[\x02\x06]"),
    b"fLaC": (rb"fLaC", rb"fLaC[\x00\x80]\x00\x00\x22"),
}


class AudioStream:
    """Sound file that is open, by libsndfile. Use as a context manager; a reader of other formats is a subclass.

    `watch` is called with True before each block, and with False when there are no more.
    """

    watch: ClassVar[Callable[[bool], None]] = staticmethod(lambda _: None)

    def __init__(self, path: Path) -> None:
        """Open a file. Raises AudioError with the reason alone."""
        with ExitStack() as opened:
            self._file = file = opened.enter_context(_opened(path))
            self.sample_rate, self.channels, self.coding = int(file.samplerate), int(file.channels), str(file.format)
            # What can be read at most, and what the header announces; None where that is not known.
            self.frames = int(file.frames) if file.frames < _UNKNOWN_FRAMES else None
            self.announced = _announced(file, self.frames)
            if (start := _start_of_more(path, file)) is not None:
                whole = opened.enter_context(_From(path, start))
                self._file = opened.enter_context(_FrontToBack(whole, **_as_raw(file)))
                self.frames = int(self._file.frames)
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

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
        return []

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


def _opened(path: Path) -> _FrontToBack:
    name = os.fspath(path) if os.name == "nt" else os.fsencode(path)
    try:
        if len(name) <= _LONGEST_PATH:
            return _FrontToBack(name)
        return _FrontToBack(os.open(path, os.O_RDONLY), closefd=True)
    except sf.LibsndfileError as error:
        if error.code == 1 or path.suffix.lower() == ".mp3":  # for MP3 libsndfile blames the file system
            found = f"suffix {path.suffix or 'missing'}, {path.stat().st_size} bytes"
            raise AudioError(f"is not audio in a known format ({found})") from error
        raise AudioError(f"cannot be decoded: {_short(error)}") from error
    except (OSError, sf.SoundFileError) as error:
        raise AudioError(f"cannot be opened: {error}") from error


def _start_of_more(path: Path, file: sf.SoundFile) -> int | None:
    """The first byte of the samples in a file that has more of them than its header states, None in others."""
    size = _SAMPLE_BYTES.get(file.subtype, 0) * file.channels
    found = samples_behind_end(path) if size else None
    if found is None or (found.held - found.stated) / size < _LEAST_BEHIND * file.samplerate:
        return None
    return found.start


def _as_raw(file: sf.SoundFile) -> dict[str, Any]:
    """How to open the samples of a file without its header."""
    order = file.endian if file.endian != "FILE" else "BIG" if file.format in ("AIFF", "CAF") else "LITTLE"
    shape = {"samplerate": file.samplerate, "channels": file.channels}
    return {"format": "RAW", "subtype": file.subtype, "endian": order, **shape}


class _From(io.FileIO):
    """A file from `start` on."""

    def __init__(self, path: Path, start: int) -> None:
        super().__init__(path)
        self._start = start
        self.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return super().seek(offset + (self._start if whence == os.SEEK_SET else 0), whence) - self._start

    def tell(self) -> int:
        return super().tell() - self._start


def _announced(file: sf.SoundFile, frames: int | None) -> int | None:
    """Frames by the header. In `frames` libsndfile has what an uncompressed file can hold; its log has the original."""
    log = str(file.extra_info)
    align = re.search(r"Block Align *: ([1-9]\d*)", log)
    if found := re.search(r"from '(?:ds64|COMM)' chunk (?:of )?\(?(\d+)\)?", log):
        return int(found[1]) if file.subtype in _SAMPLE_BYTES else frames  # others count packets
    if found := re.search(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", log, re.MULTILINE):
        size, held = int(found[1]), int(found[2])
        if any(size in sizes for sizes in _UNKNOWN_SIZES):
            return None
        if file.frames:
            return round(int(file.frames) * size / held)
        return size // int(align[1]) if align else None
    if file.format == "W64" and (found := re.search(r"^ *data : (\d+)", log, re.MULTILINE)):
        return (int(found[1]) - 24) // int(align[1]) if align else None  # the size counts the chunk's own header
    return frames


def is_chained(path: Path) -> bool:
    """Whether more streams follow the first one in an Ogg or FLAC file, as recorders of radio and `cat` make it."""
    with path.open("rb") as file:
        if (patterns := _CHAINS.get(file.read(4))) is None:
            return False
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    first = re.search(patterns[0], held)
    return first is not None and re.compile(patterns[1]).search(held, first.end()) is not None


def _short(error: sf.LibsndfileError) -> str:
    """Message of libsndfile without the prefix that names the file."""
    return re.sub(r"^Error(?: ?: | in .+? file[.,] )", "", error.error_string).rstrip(".")
