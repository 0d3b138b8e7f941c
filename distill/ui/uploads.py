"""Recordings that a person adds to a folder: files as they are, archives unpacked, each name checked.

An upload is a file and its path as the browser has it. Folders stay, as they can be labels, but for one around all others
that are added or in an archive.
"""

import itertools
import lzma
import os
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from distill.audio.read import EXAMPLES, SUPPORTED_SUFFIXES
from distill.audio.source import NO_SUFFIX, left_out_line, printable, suffix_of
from distill.errors import ParamsError
from distill.storage.files import atomic_path
from distill.text import is_utf8, one_line

# What a damaged or encrypted archive raises; one of a few bytes may ask for gigabytes of memory.
_DAMAGED = (OSError, EOFError, MemoryError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


class File(NamedTuple):
    """A file that is added: what copies it to a path, and the parts of its own path."""

    copy: Callable[[Path], object]
    parts: Sequence[str]


class Uploads:
    """Uploads on their way into a folder: the number of recordings that were added, and a sentence for each refusal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count, self.refused = 0, list[str]()

    def add(self, uploads: Sequence[tuple[Path, str]]) -> None:
        """Copy the recordings among the uploads into the folder."""
        others = Counter[str]()  # suffixes of files that are no recordings
        with ExitStack() as archives:
            for file in self._files(uploads, archives):
                name = file.parts[-1]
                if is_recording(name) and not name.startswith("._"):
                    self._add(file)
                elif not name.startswith("."):
                    others[printable(PurePosixPath(name).suffix) or NO_SUFFIX] += 1
        if others:
            self.refused.append(f"{left_out_line(dict(others.most_common()))}; expected recordings {EXAMPLES}")

    def _files(self, uploads: Sequence[tuple[Path, str]], archives: ExitStack) -> list[File]:
        """The uploaded files, and those of archives, which stay open."""
        plain, unpacked = list[File](), list[File]()
        for upload, path in uploads:
            if path.lower().endswith(".zip") and "/._" not in f"/{path}":
                unpacked += _inside(self._unpacked(upload, path, archives))
            else:
                plain.append(File(partial(shutil.copyfile, upload), path.split("/")))
        return [*_inside(plain), *unpacked]

    def _unpacked(self, upload: Path, path: str, archives: ExitStack) -> list[File]:
        """The files of an archive; none where it is refused."""
        try:
            archive = archives.enter_context(zipfile.ZipFile(upload))
            if sum(entry.file_size for entry in archive.infolist()) > shutil.disk_usage(upload.parent).free:
                raise OSError("more than the disk has room for")
            return _entries(archive, PurePosixPath(path).stem)
        except _DAMAGED as error:
            self.refused.append(
                f"{one_line(path, 100)}: expected an archive that can be unpacked, found: {_reason(error)}; unpack it and add "
                "the folder"
            )
            return []

    def _add(self, file: File) -> None:
        """Copy a recording, beside another one of its name."""
        try:
            target = self.folder.joinpath(*map(checked_name, file.parts))
            others = (target.with_stem(f"{target.stem} {number}") for number in itertools.count(2))
            free = next(path for path in itertools.chain([target], others) if not os.path.lexists(path))
            with atomic_path(free) as temporary:
                file.copy(temporary)
            self.count += 1
        except ParamsError as error:
            self.refused.append(str(error))
        except _DAMAGED as error:
            name = one_line(file.parts[-1], 100)
            self.refused.append(f"{name}: expected a file that can be copied, found: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Why something cannot be unpacked or copied; the end of a file, and too little memory, have no text of their own."""
    return one_line(getattr(error, "strerror", None) or error) or "damaged contents"


def is_recording(name: str) -> bool:
    """Whether a file of this name is a recording, as where they are read."""
    return suffix_of(name) in SUPPORTED_SUFFIXES


def checked_name(name: str) -> str:
    """A name of a file or folder from outside, as it is. Raises ParamsError for one that leads elsewhere."""
    if PurePath(name).name != name or name in ("", "..") or "\0" in name or not is_utf8(name):
        raise ParamsError(
            f"{name[:100]!r}: expected a name of a file or folder, found one that leads elsewhere; rename it"
        )
    return name


def _inside(files: list[File]) -> list[File]:
    """Files by their paths inside the folder that holds them all, where that has no recording beside its folders.

    With one it may be a label itself.
    """
    paths = [file.parts for file in files if is_recording(file.parts[-1])]
    holds_folders = len({path[0] for path in paths}) == 1 and min(map(len, paths)) > 2
    return [File(copy, parts[holds_folders:]) for copy, parts in files]


def _entries(archive: zipfile.ZipFile, stem: str) -> list[File]:
    """The files of an archive, in a folder named `stem` where it has none, as systems unpack it."""

    def unpack(entry: zipfile.ZipInfo, path: Path) -> None:
        with archive.open(entry) as source, path.open("wb") as copy:
            shutil.copyfileobj(source, copy)

    entries = [(entry, _name_of(entry)) for entry in archive.infolist()]
    files = [File(partial(unpack, entry), name.split("/")) for entry, name in entries if not name.endswith("/")]
    files = [file for file in files if file.parts[0] != "__MACOSX"]
    if len({file.parts[0] for file in files}) == 1 and all(len(file.parts) > 1 for file in files):
        return files
    return [File(copy, [stem, *parts]) for copy, parts in files]


def _name_of(entry: zipfile.ZipInfo) -> str:
    """The name of an entry: macOS writes UTF-8 and does not say so; old programs of Windows separate by backslashes."""
    name = entry.filename
    if not entry.flag_bits & 0x800:  # it does not say that it is UTF-8
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    windows = 0
    return name.replace("\\", "/") if entry.create_system == windows else name
