"""Reader of the formats of libsndfile: WAV, AIFF, FLAC, Ogg, MP3 and others."""

import os
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf

from distill.audio.stream import F32, AudioStream
from distill.errors import AudioError

# fmt: off
SUFFIXES = (
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64",
    ".wav", ".wave",
)
# fmt: on

_LONGEST_PATH = 1000  # libsndfile refuses longer ones, but reads from a descriptor
# Sizes in the headers that writers to a pipe leave.
_UNKNOWN_SIZES = (range(0x7FFFF000, 0x80000001), range(0xFFFFF000, 0x100000000))
_UNKNOWN_FRAMES = 1 << 62  # libsndfile reports about 2^63 for a stream of unknown length

_CAPTURE, _HEADER, _FIRST_OF_STREAM = b"OggS", 27, 2  # of an Ogg page (RFC 3533): its beginning, its bytes, a flag
# A FLAC stream (RFC 9639) begins so; its STREAMINFO of 34 bytes, the last block of metadata or not, follows.
_FLAC = b"fLaC"
_FLAC_STREAM = re.compile(_FLAC + rb"[\x00\x80]\x00\x00\x22")
_BLOCK, _OVERLAP = 1 << 20, 7


def open_sndfile(path: Path) -> AudioStream:
    """Open a file. Raises AudioError with the reason alone."""
    name = os.fspath(path) if os.name == "nt" else os.fsencode(path)
    try:
        if len(name) <= _LONGEST_PATH:
            return _SndfileStream(path, _FrontToBack(name))
        return _SndfileStream(path, _FrontToBack(os.open(path, os.O_RDONLY), closefd=True))
    except sf.LibsndfileError as error:
        if error.code == 1 or path.suffix.lower() == ".mp3":  # for MP3 libsndfile blames the file system
            found = f"suffix {path.suffix or 'missing'}, {path.stat().st_size} bytes"
            raise AudioError(f"is not audio in a known format ({found})") from error
        raise AudioError(f"cannot be decoded: {_short(error)}") from error
    except (OSError, sf.SoundFileError) as error:
        raise AudioError(f"cannot be opened: {error}") from error


class _FrontToBack(sf.SoundFile):  # type: ignore[misc]
    """Seeking after each block fails on damaged files and is slow in MP3."""

    def seekable(self) -> bool:
        return False


class _SndfileStream(AudioStream):
    def __init__(self, path: Path, file: sf.SoundFile) -> None:
        self._path, self._file = path, file
        self.sample_rate, self.channels = int(file.samplerate), int(file.channels)
        self.frames = int(file.frames) if file.frames < _UNKNOWN_FRAMES else None

    @property
    def announced(self) -> int | None:
        """For uncompressed formats libsndfile replaces them by what the file can hold; only its log has the original."""
        frames, log = int(self._file.frames), str(self._file.extra_info)
        if found := re.search(r"from '(?:ds64|COMM)' chunk (?:of )?\(?(\d+)\)?", log):
            return int(found[1])
        if found := re.search(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", log, re.MULTILINE):
            size, held = int(found[1]), int(found[2])
            if any(size in sizes for sizes in _UNKNOWN_SIZES):
                return None
            return round(frames * size / held) if frames else _frames_in(size, log)
        if self._file.format == "W64" and (found := re.search(r"^ *data : (\d+)", log, re.MULTILINE)):
            return _frames_in(int(found[1]) - 24, log)  # the size counts the chunk's own header
        return self.frames

    @property
    def warning(self) -> str:
        if is_chained(self._path):
            return "holds several recordings one after another (a chained file), of which the first was decoded"
        return ""

    def _read(self, most: int) -> tuple[F32, str]:
        """soundfile forgets what came before a failure; here it counts.

        Nothing is asked for beyond the end that the header announces, where a tag of another program would be a failure.
        """
        block = np.full((most, self.channels), np.nan, dtype=np.float32)
        try:
            return self._file.read(out=block), ""
        except sf.LibsndfileError as error:
            untouched = np.isnan(block).all(axis=1)
            return block[: int(untouched.argmax()) if untouched.any() else most], _short(error)

    def skip_to(self, frame: int) -> bool:
        try:
            self._file.seek(frame)
        except sf.LibsndfileError:
            return False
        return True

    def close(self) -> None:
        self._file.close()


def is_chained(path: Path) -> bool:
    """Whether another stream begins after the first one in an Ogg or FLAC file, as recorders of radio and `cat` do it."""
    with path.open("rb") as stream:
        kind = stream.read(len(_CAPTURE))
        stream.seek(0)
        if kind == _CAPTURE:
            return _has_second_ogg(stream)
        return kind == _FLAC and _has_second_flac(stream)


def _has_second_ogg(stream: BinaryIO) -> bool:
    began = False
    while len(head := stream.read(_HEADER)) == _HEADER and head.startswith(_CAPTURE):
        is_first = bool(head[5] & _FIRST_OF_STREAM)
        if began and is_first:
            return True
        began = began or not is_first
        stream.seek(sum(stream.read(head[26])), 1)
    return False


def _has_second_flac(stream: BinaryIO) -> bool:
    before = b" "  # so that the first stream is not found
    stream.seek(1)
    while block := stream.read(_BLOCK):
        if _FLAC_STREAM.search(before + block):
            return True
        before = (before + block)[-_OVERLAP:]
    return False


def _frames_in(size: int, log: str) -> int | None:
    found = re.search(r"Block Align *: ([1-9]\d*)", log)
    return size // int(found[1]) if found else None


def _short(error: sf.LibsndfileError) -> str:
    """Message of libsndfile without the prefix that names the file."""
    return re.sub(r"^Error(?: ?: | in .+? file[.,] )", "", error.error_string).rstrip(".")
