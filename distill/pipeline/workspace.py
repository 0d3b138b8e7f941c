"""Exclusive folder for work in progress."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from distill.errors import ParamsError
from distill.storage.files import remove_leftovers

LOCK = "lock"


@contextmanager
def workplace(work: Path, *around: Path, what: str = "the same training") -> Iterator[None]:
    """Hold the lock of `work`; on exit remove those of `work` and `around` that are empty.

    What killed processes left beside `work` half-deleted is removed.
    Raises ParamsError where another process holds the lock, as it does `what`.
    """
    with _no_empty_folders(work, *around), _locked(work, what):
        remove_leftovers(work.parent)
        yield


@contextmanager
def _no_empty_folders(*folders: Path) -> Iterator[None]:
    """Remove empty folders on exit."""
    try:
        yield
    finally:
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextmanager
def _locked(work: Path, what: str) -> Iterator[None]:
    """Lock the folder for this process; the system releases the lock when the process ends."""
    with _lock_file(work) as lock:
        if os.name != "nt":
            import fcntl

            held = ParamsError(
                f"{work}: expected no other process with {what}, found one that holds the lock; wait until it ends"
            )
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise held from error
            if not _is_at(lock, work / LOCK):  # its holder has ended and removed it since it was opened
                raise held
        try:
            yield
        finally:
            (work / LOCK).unlink(missing_ok=True)


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock_file(work: Path) -> IO[str]:
    try:
        work.mkdir(parents=True, exist_ok=True)
        return (work / LOCK).open("w")
    except (FileExistsError, NotADirectoryError) as error:
        raise ParamsError(
            f"{error.filename}: expected a folder for work in progress, found a file; move it away"
        ) from error
