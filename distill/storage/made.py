"""What Distill made, and may replace: known by a mark in the file itself, which goes where the file goes."""

import os
from collections.abc import Iterable
from pathlib import Path

from distill.errors import ParamsError

MARK = "made with Distill"  # in the comment of a sound or picture, and in a model card
_MARKS = (MARK.encode(), b'{"__metadata__":{"distill')  # the second begins model files and files of codes
_HEAD, _TAIL = 4096, 128  # bytes that are looked at; an MP3's comment is at its end


def made_by_distill(path: Path) -> bool:
    """Whether a file carries the mark of what Distill writes."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return any(mark in head + file.read(_TAIL) for mark in _MARKS)
    except OSError:
        return False


def check_replaceable(flag: str, paths: Iterable[Path], replace: bool) -> None:
    """Refuse to write where there is a file: one of Distill's without `replace`, any other always. Raises ParamsError."""
    for path in paths:
        if not path.exists() and not path.is_symlink():
            continue
        if not made_by_distill(path):
            raise ParamsError(
                f"{flag} {path}: expected a new file, found one that Distill did not make and never replaces; "
                "choose another name or folder"
            )
        if not replace:
            raise ParamsError(
                f"{flag} {path}: expected a new file, found one that Distill made; use --replace to replace it, or "
                "choose another name or folder"
            )
