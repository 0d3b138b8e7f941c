"""Chained Ogg files: streams one after another, as recordings of radio have them. libsndfile reads the first alone."""

from pathlib import Path

_CAPTURE, _HEADER, _FIRST_OF_STREAM = b"OggS", 27, 2  # of a page (RFC 3533): its beginning, its bytes, a flag


def is_chained(path: Path) -> bool:
    """Whether another stream begins after the first one in an Ogg file. False for other files."""
    began = False
    with path.open("rb") as stream:
        while len(head := stream.read(_HEADER)) == _HEADER and head.startswith(_CAPTURE):
            is_first = bool(head[5] & _FIRST_OF_STREAM)
            if began and is_first:
                return True
            began = began or not is_first
            stream.seek(sum(stream.read(head[26])), 1)
    return False
