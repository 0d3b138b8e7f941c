"""Files on their way: uploads that nobody used, and folders sent as archives."""

import contextlib
import io
import time
import zipfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import IO, Any, cast

KEPT_SECONDS = 24 * 3600  # of an upload; a form that was filled in yesterday asks for it again
_BLOCK = 1 << 20


def remove_old(uploads: Path) -> None:
    """Remove uploads of more than a day ago, and folders that are empty since then."""
    oldest = time.time() - KEPT_SECONDS
    for path in sorted(uploads.rglob("*"), reverse=True):  # files before their folders
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime >= oldest:
                continue
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()


def zipped(folder: Path, suffixes: Container[str]) -> Iterator[bytes]:
    """A zip archive of the files below a folder, links left out, in parts: it may be larger than the memory."""
    made = _Parts()
    with zipfile.ZipFile(cast(IO[bytes], made), "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.is_symlink() or path.suffix.lower() not in suffixes:
                continue
            entry = zipfile.ZipInfo.from_file(path, path.relative_to(folder), strict_timestamps=False)
            with path.open("rb") as file, archive.open(entry, "w") as target:
                while block := file.read(_BLOCK):
                    target.write(block)
                    yield made.taken()
    yield made.taken()


class _Parts(io.RawIOBase):
    """A file that is written and taken away in parts."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """It can be written, and nothing else."""
        return True

    def write(self, data: Any) -> int:
        """Add a part."""
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
