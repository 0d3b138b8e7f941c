"""Folders of artefacts, the lock of work in progress, and a record of where the corpora of this computer come from."""

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
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}  # of a drive that has none
REGISTRY = "corpora"  # a file for each corpus, next to work in progress: model files are shared and hold no paths


@dataclass(frozen=True)
class PipelineFolders:
    """Folders of the artefacts, the file of the split, and folders of what is kept for the next try."""

    corpus: Path
    vqvae: Path
    codes: Path
    split: Path
    prior: Path
    decoded: Path
    coded: Path

    @classmethod
    def below(cls, folder: Path) -> "PipelineFolders":
        """The paths below one folder."""
        names = ("corpus", "vqvae", "codes", "split/split.parquet", "prior", "ingest", "coded")
        return cls(*(folder / name for name in names))


@contextmanager
def workplace(work: Path, *around: Path, what: str = "the same training") -> Iterator[None]:
    """Hold the lock of `work`; on exit remove `work` and `around` where they are empty.

    Half-deleted folders that killed processes left next to `work` are removed. The system releases the lock when the
    process ends. Raises ParamsError where another process holds the lock, as it does `what`.
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
    """Hold the lock of a file, with `waits` once it is free. Yields False where another process holds it.

    A drive without locks, as some network drives are, is a warning, and nothing is locked; nor is anything on
    Windows.
    """
    with path.open("a") as lock:
        yield os.name == "nt" or _is_locked(lock.fileno(), path, waits)


def _is_locked(lock: int, path: Path, waits: bool) -> bool:
    """Lock an open file; False where another process holds it, or has ended and removed it since it was opened."""
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
    """Whether files of a folder can be locked; True on Windows, where nobody asks."""
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
    """Say once that nothing is locked in a folder."""
    logger.warning(
        "%s: expected a drive with locks, found: %s; nothing keeps two commands from changing the same files: run them one "
        "after the other",
        folder,
        reason,
    )


def remember_corpus(state: Path, data_sha256: str, address: str) -> None:
    """Record that the corpus with this hash was made from the recordings at an address, an absolute path or a URL."""
    write_bytes(state / REGISTRY / data_sha256, os.fsencode(address))


def find_corpus(state: Path, data_sha256: str) -> str | None:
    """The recorded address of a corpus; None where there is no record, or the folder no longer exists."""
    try:
        address = os.fsdecode((state / REGISTRY / data_sha256).read_bytes())
    except OSError:
        return None
    return address if "://" in address or Path(address).is_dir() else None
