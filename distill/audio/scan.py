"""Scan of a folder for audio files; the result does not depend on the file system's order."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from distill.audio.read import SUPPORTED_SUFFIXES
from distill.text import escaped

HIDDEN = "(hidden)"
NO_SUFFIX = "(no suffix)"


@dataclass(frozen=True)
class AudioFile:
    """File with an audio suffix: its path relative to the folder as the system spells it, and as it can be printed.

    `identity` changes when its content may have changed; "" where the system does not tell.
    """

    relative: str
    path: str
    size: int = field(default=0, compare=False)
    identity: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """Path of its folder relative to the scanned one; "" at the top."""
        parent = PurePosixPath(self.path).parent.as_posix()
        return "" if parent == "." else parent


@dataclass(frozen=True)
class Scan:
    """Result of `scan`. `skipped` holds (folder, reason) of folders that were not entered."""

    audio: tuple[AudioFile, ...]  # sorted by path
    ignored: dict[str, int]  # suffix, HIDDEN or NO_SUFFIX to number of entries
    skipped: tuple[tuple[str, str], ...]


@dataclass
class _Walk:
    audio: list[AudioFile] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    visited: dict[tuple[int, int], str] = field(default_factory=dict)


def scan(folder: Path) -> Scan:
    """List the audio files below `folder`, links followed, each real folder entered once.

    Real folders come before links to them, so a file is listed under its real path where it has one.
    Raises OSError if `folder` itself cannot be read.
    """
    walk = _Walk()
    _enter(walk, folder, "")
    while walk.links:
        walk.links.sort(key=printable, reverse=True)
        _enter(walk, folder, walk.links.pop())
    return Scan(
        tuple(sorted(walk.audio, key=lambda file: file.path)),
        dict(sorted(walk.ignored.items())),
        tuple(sorted(walk.skipped)),
    )


def unhashable(folder: Path) -> list[tuple[str, str]]:
    """List (entry, reason) of everything below `folder` that DVC cannot hash.

    Names that are not UTF-8, links to folders, broken links, entries that are not files, files that cannot be read.
    """
    found = []
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(parent, name)  # noqa: PTH118 - names may hold bytes that are not UTF-8
            reason = _unhashable_reason(path, name)
            if reason:
                found.append((printable(os.path.relpath(path, folder)), reason))
    return sorted(found)


def _unhashable_reason(path: str, name: str) -> str:
    if name != name.encode("utf-8", "replace").decode("utf-8"):
        return "its name is not UTF-8"
    if not os.path.exists(path):  # noqa: PTH110
        return "a link that leads nowhere"
    if os.path.isdir(path):  # noqa: PTH112
        return "a link to a folder, behind which DVC sees no change" if os.path.islink(path) else ""  # noqa: PTH114
    if not os.path.isfile(path):  # noqa: PTH113
        return "neither a file nor a folder"
    return "" if os.access(path, os.R_OK) else "no permission to read it"


def printable(name: str) -> str:
    """Escape by backslashes what cannot be printed or encoded as UTF-8; unequal names stay unequal."""
    if name.isascii() and name.isprintable() and "\\" not in name:
        return name
    return "".join("\\\\" if character == "\\" else escaped(character) for character in name)


def _enter(walk: _Walk, folder: Path, top: str) -> None:
    """Walk the real folders from `top` down, `top` relative to `folder`; links to folders are queued."""
    pending = [top]
    while pending:
        relative = pending.pop()
        try:
            if not _first_visit(walk, folder, relative):
                continue
            with os.scandir(folder / relative) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError as error:
            if not relative:
                raise
            walk.skipped.append((printable(relative), f"cannot be read: {error.strerror or error}"))
            continue
        _sort_entries(walk, folder, f"{relative}/" if relative else "", names, pending.append)


def _sort_entries(walk: _Walk, folder: Path, prefix: str, names: list[str], descend: Callable[[str], None]) -> None:
    root = os.fspath(folder)
    for name in names:
        relative = prefix + name
        path = f"{root}/{relative}"
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - pathlib disagrees with itself about "name."
        if name.startswith("."):
            walk.ignored[HIDDEN] += 1
        elif os.path.isdir(path):  # noqa: PTH112 - False, not OSError, where a link leads in circles
            if os.path.islink(path):  # noqa: PTH114 - text is joined and looked at in a third of the time of a Path
                walk.links.append(relative)
            else:
                descend(relative)
        elif suffix in SUPPORTED_SUFFIXES:
            walk.audio.append(AudioFile(relative, printable(relative), *_size_and_identity(path)))
        else:
            walk.ignored[printable(suffix) or NO_SUFFIX] += 1


def _size_and_identity(path: str) -> tuple[int, str]:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return 0, ""
    return found.st_size, f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def _first_visit(walk: _Walk, folder: Path, relative: str) -> bool:
    status = (folder / relative).stat()
    name = printable(relative) or "the folder itself"
    seen = walk.visited.setdefault((status.st_dev, status.st_ino), name)
    if seen != name:
        walk.skipped.append((name, f"leads to the same folder as {seen}, which was read once"))
    return seen == name
