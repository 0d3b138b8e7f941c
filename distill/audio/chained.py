"""Files of several streams, one after another, as recorders of radio and `cat` make them: the first alone is read."""

import re
from pathlib import Path
from typing import BinaryIO

_CAPTURE, _HEADER, _FIRST_OF_STREAM = b"OggS", 27, 2  # of an Ogg page (RFC 3533): its beginning, its bytes, a flag
# A FLAC stream (RFC 9639) begins so; its STREAMINFO of 34 bytes, the last block of metadata or not, follows.
_FLAC = b"fLaC"
_FLAC_STREAM = re.compile(_FLAC + rb"[\x00\x80]\x00\x00\x22")
_BLOCK, _OVERLAP = 1 << 20, 7


def is_chained(path: Path) -> bool:
    """Whether another stream begins after the first one in an Ogg or FLAC file. False for other files."""
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
