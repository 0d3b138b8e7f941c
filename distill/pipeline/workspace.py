"""A folder for work in progress: one process at a time, and nothing left of it but what is worth something."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from distill.errors import ParamsError

STATE = Path(".distill")
STOP = "stop"
LOCK = "lock"


@contextmanager
def workplace(work: Path, *around: Path) -> Iterator[None]:
    """Work in `work`, alone; empty folders among `work` and `around` are removed in the end."""
    with _no_empty_folders(work, *around), _alone(work):
        yield


@contextmanager
def _no_empty_folders(*folders: Path) -> Iterator[None]:
    """Leave only folders with work in them, ours or that of others."""
    try:
        yield
    finally:
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Keep the work folder to this process; the system gives it free when the process ends, however it ends."""
    with _lock_file(work) as lock:
        if os.name != "nt":
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ParamsError(
                    f"{work}: expected to train alone, found the same training at work already; wait until it ends"
                ) from error
        try:
            yield
        finally:
            (work / LOCK).unlink(missing_ok=True)


def _lock_file(work: Path) -> IO[str]:
    try:
        work.mkdir(parents=True, exist_ok=True)
        return (work / LOCK).open("w")
    except (FileExistsError, NotADirectoryError) as error:
        raise ParamsError(
            f"{error.filename}: expected a folder for work in progress, found a file; move it away"
        ) from error
