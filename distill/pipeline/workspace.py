"""Folders of artefacts, locks of work in progress, and a record of the places of recordings on this computer."""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

from distill.errors import ParamsError
from distill.storage.files import remove_leftovers, write_bytes

logger = logging.getLogger(__name__)

LOCK = "lock"
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}  # drive without locks
REGISTRY = "corpora"  # a file for each corpus; model files hold no paths, as they are shared


@dataclass(frozen=True)
class PipelineFolders:
    """Folders of the artefacts, the file of the split, and folders of unfinished work."""

    corpus: Path
    vqvae: Path
    codes: Path
    split: Path
    prior: Path
    decoded: Path
    coded: Path

    @classmethod
    def below(cls, folder: Path) -> "PipelineFolders":
        """Make the paths in one folder."""
        names = ("corpus", "vqvae", "codes", "split/split.parquet", "prior", "ingest", "coded")
        return cls(*(folder / name for name in names))


@contextmanager
def workplace(work: Path, *around: Path, what: str = "the same training") -> Iterator[None]:
    """Create `work` and hold its lock; on exit remove `work` and the folders `around` it if they are empty.

    Removes half-deleted folders that killed processes left next to `work`. The system releases the lock when the
    process ends. Raises ParamsError if another process holds the lock; `what` names its work.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ParamsError(
            f"{error.filename}: expected a folder for work in progress, found a file; move it away"
        ) from error
    try:
        with locked(work / LOCK) as is_held:
            if not is_held:
                raise ParamsError(
                    f"{work}: expected no other process with {what}, found one that holds the lock; wait until it ends"
                )
            try:
                remove_leftovers(work.parent)
                yield
            finally:
                (work / LOCK).unlink(missing_ok=True)
    finally:
        for folder in (work, *around):
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextmanager
def locked(path: Path, waits: bool = False) -> Iterator[bool]:
    """Hold the lock of a file; with `waits`, wait for it. Yields False if another process holds it.

    On a drive without locks, such as some network drives, nothing is locked, with a warning; nor is it on Windows.
    """
    with path.open("a") as lock:
        yield os.name == "nt" or _is_locked(lock.fileno(), path, waits)


def _is_locked(lock: int, path: Path, waits: bool) -> bool:
    """Lock an open file; False if another process holds the lock, or removed the file since it was opened."""
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        return os.path.samestat(os.fstat(lock), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _warn_of_no_locks(path.parent, str(error.strerror))
        return True


def has_locks(folder: Path) -> bool:
    """Whether files of a folder can be locked; on Windows always True."""
    if os.name == "nt":
        return True
    import fcntl

    with TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            return error.errno not in NO_LOCKS
    return True


@cache
def _warn_of_no_locks(folder: Path, reason: str) -> None:
    """Warn once per folder that nothing is locked."""
    logger.warning(
        "%s: expected a drive with locks, found: %s; nothing keeps two commands from changing the same files: run them "
        "one after the other",
        folder,
        reason,
    )


def remember_corpus(state: Path, data_sha256: str, address: str) -> None:
    """Record the address, an absolute path or a URL, of the recordings of the corpus with this hash."""
    write_bytes(state / REGISTRY / data_sha256, os.fsencode(address))


def find_corpus(state: Path, data_sha256: str) -> str | None:
    """Recorded address of a corpus; None without a record, or if the folder no longer exists."""
    try:
        address = os.fsdecode((state / REGISTRY / data_sha256).read_bytes())
    except OSError:
        return None
    return address if "://" in address or Path(address).is_dir() else None
