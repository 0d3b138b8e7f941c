"""Files that others wrote, read in bounded time and memory: the folder may be a stranger's."""

import json
import os
import stat
from pathlib import Path
from typing import IO, Any

MOST_BYTES = 32 << 20  # of a file of a job
# Opening a pipe waits for who writes into it, and a link may lead to a device that never ends.
_NO_LINK = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"))


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a file, without what is no UTF-8. Raises OSError where it is no plain file or longer than `most`."""
    data = _read(path, most + 1)
    if len(data) > most:
        raise OSError(f"{path}: expected at most {most} bytes, found more")
    return data.decode("utf-8", "replace")


def read_end(path: Path, most: int) -> str:
    """The last bytes of a file as text; "" where it is no plain file."""
    try:
        return _read(path, most, from_end=True).decode("utf-8", "replace")
    except OSError:
        return ""


def read_json(path: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """A JSON object that a command wrote; {} where there is none."""
    try:
        values = json.loads(read_text(path, most))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def open_own(path: Path) -> IO[bytes]:
    """A file of the page's own, made where it is missing, to be locked. Raises OSError where it is a link."""
    flags = os.O_RDWR | os.O_CREAT | _NO_LINK
    return os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)


def _read(path: Path, most: int, from_end: bool = False) -> bytes:
    number = os.open(path, os.O_RDONLY | _NO_LINK)
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode):
        os.close(number)
        raise OSError(f"{path}: expected a plain file, found another kind")
    with os.fdopen(number, "rb") as file:
        if from_end:
            file.seek(max(0, found.st_size - most))
        return file.read(most)
