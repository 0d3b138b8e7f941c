"""Files: atomic writes, which of them may be replaced, canonical JSON and SHA-256 hashes."""

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from distill.errors import ArtifactError, ParamsError
from distill.text import normal_form, one_line

MARK = "made with Distill"  # in the comment of a sound or picture
CARD_MARK = f"A model of one collection of recordings, {MARK}"  # begins a model card; notes of a person may hold MARK
_COMPUTER = hashlib.sha256(os.fsencode(platform.node())).hexdigest()[
    :8
]  # several may write into one folder


@contextmanager
def atomic_path(path: Path, replaces: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success fsync it and rename it onto `path`, else remove it.

    With `replaces` False a file that is at `path` by then stays. Raises ArtifactError for a folder or a device, which root
    could replace by a file.
    """
    if path.is_dir():
        raise ArtifactError(
            f"{path}: expected a file to write, found a folder; choose another name"
        )
    if path.exists() and not path.is_file():
        raise ArtifactError(
            f"{path}: expected a file to write, found something else, such as a device; choose another name"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers_once(path.parent)
    temporary = _beside(path, "tmp")
    try:
        yield temporary
        _fsync(temporary)
        if replaces:
            temporary.replace(path)
        else:
            rename_to_new(temporary, path)
        _fsync(path.parent)
    except OSError as error:
        error.filename = error.filename or str(
            path
        )  # a failed write does not tell which file it was
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder next to `folder`; on success it replaces `folder` whole, else it is removed.

    The old folder is hidden for a moment; if the process is killed then, `remove_leftovers` brings it back.
    """
    folder = folder.resolve() if folder.is_symlink() else folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent)
    temporary, old = _beside(folder, "tmp"), _beside(folder, "old")
    _remove(temporary)
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            _fsync(file)
        _fsync(temporary)
        if folder.exists():
            folder.replace(old)
        temporary.replace(folder)
        _remove(old)
        _fsync(folder.parent)
    finally:
        _remove(temporary)


def remove_folder(folder: Path) -> None:
    """Remove a folder, as far as the system lets: killed at any moment, all of it is there or nothing."""
    remove_leftovers(folder.parent)
    hidden = _beside(folder, "tmp")
    with suppress(OSError):
        folder.replace(hidden)
        _remove(hidden)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes of this computer that no longer exist left half-written or half-deleted in a folder.

    A folder that one of those processes had hidden to replace it comes back where nothing has replaced it.
    """
    import psutil

    # Names with a computer and a process in them; also files that SQLite writes next to an unfinished database.
    leftover = re.compile(r"\.(.+)\.([0-9a-f]{8})-(\d{1,10})\.(?:tmp|old)[-a-z]*", re.DOTALL)
    with suppress(OSError):  # of another process that does the same
        for path in folder.iterdir():
            match = leftover.fullmatch(path.name)
            if match and match[2] == _COMPUTER and not psutil.pid_exists(int(match[3])):
                if path.suffix == ".old" and not path.with_name(match[1]).exists():
                    path.replace(path.with_name(match[1]))
                else:
                    _remove(path)


# In a process's first write to a folder: a pass over all names at each write would take too long.
_remove_leftovers_once = lru_cache(maxsize=1000)(
    remove_leftovers
)  # a page makes a folder for each job


def rename_to_new(path: Path, name: Path) -> bool:
    """Rename a file, unless there is a file of the new name by then: False where there is, and nothing is done.

    Where the file system has no hard links, one that comes at the same moment is replaced.
    """
    try:
        os.link(path, name)
    except OSError:
        if os.path.lexists(name):
            return False
        path.replace(name)
        return True
    path.unlink()
    return True


def holds(path: Path, data: bytes) -> bool:
    """Whether `path` is a file of exactly these bytes."""
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def write_new(path: Path, data: bytes) -> bool:
    """Write `data` to `path` if nothing is there; what is there stays. Returns whether `path` holds `data` then."""
    if not os.path.lexists(path):
        with atomic_path(path, replaces=False) as temporary:
            temporary.write_bytes(data)
    return holds(path, data)


def link_or_copy(source: Path, name: Path) -> None:
    """Give a file another name, of a copy where the file system has no hard links. Neither may be written to later."""
    try:
        os.link(source, name)
    except OSError:
        with atomic_path(name) as temporary:
            shutil.copyfile(source, temporary)


def as_on_disk(path: Path) -> Path:
    """`path`, or what is there under its name in another normal form: keyboards write accents otherwise than macOS."""
    with suppress(OSError):
        if not path.exists() and path != path.parent:
            folder = as_on_disk(path.parent)
            names = sorted(entry.name for entry in folder.iterdir())
            return folder / next(
                (name for name in names if normal_form(name) == normal_form(path.name)), path.name
            )
    return path


def identity(path: Path) -> tuple[int, int] | None:
    """Inode and time of a file, which tell it from another of its name; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def check_replaceable(flag: str, paths: Iterable[Path], replace: bool) -> None:
    """Refuse to write where there is a file: one of Distill's without `replace`, any other always. Raises ParamsError.

    What Distill made is known by a mark in the file itself, which goes where the file goes.
    """
    for path in filter(os.path.lexists, paths):
        expected, remedy = (
            f"{flag} {path}: expected a new file, found",
            "choose another name or folder",
        )
        if not made_by_distill(path):
            raise ParamsError(
                f"{expected} one that Distill did not make and never replaces; {remedy}"
            )
        if not replace:
            raise ParamsError(
                f"{expected} one that Distill made; use --replace to replace it, or {remedy}"
            )


def made_by_distill(path: Path) -> bool:
    """Whether a file has Distill's mark, at its beginning or, in the comment of an MP3, at its end."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
            file.seek(max(0, file.seek(0, os.SEEK_END) - 128))
            ends = head + file.read()
    except OSError:
        return False
    # Marks of cards, of model files and files of codes, and of ONNX: a field with its length before it.
    text_marks = (CARD_MARK.encode(), b'{"__metadata__":{"distill', b"2\x11" + MARK.encode())
    return (b"\0" in ends and MARK.encode() in ends) or any(mark in ends for mark in text_marks)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal text."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically. Raises ValueError on NaN or infinity."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file that Distill wrote. Raises ArtifactError that names it `what` when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, what, error) from error


def damaged(path: Path, expected: str, found: object) -> ArtifactError:
    """Error of a file of the pipeline; `found` is what is wrong with it, or what was raised when it was read."""
    match found:
        case FileNotFoundError():
            problem: object = "no such file"
        case Exception():
            problem = f"a damaged file ({one_line(found)})"
        case _:
            problem = found
    return ArtifactError(f"{path}: expected {expected}, found {problem}; run `dvc repro` again")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_files(paths: Iterable[Path], root: Path) -> str:
    """Hex SHA-256 over names (relative to `root`) and contents of `paths`, independent of their order."""
    lines = sorted(f"{path.relative_to(root).as_posix()}\0{sha256_file(path)}" for path in paths)
    return sha256_text("\n".join(lines))


def sha256_text(text: str) -> str:
    """Hex SHA-256 of `text` in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a value as canonical JSON."""
    return sha256_text(canonical_json(value))


def _beside(path: Path, kind: str) -> Path:
    """Hidden name in the folder of `path`; a hash in place of a long name, as file systems take 255 bytes."""
    name = os.fsencode(path.name)
    if len(name) > 200 and kind == "tmp":
        name = hashlib.sha256(name).hexdigest().encode()
    return path.with_name(f".{os.fsdecode(name)}.{_COMPUTER}-{os.getpid()}.{kind}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
