"""Add uploaded recordings to a folder: files are copied unchanged, names are checked.

An upload is a file and its path in the browser. Folders are kept, since they can be labels, except a single top folder
around all uploads.
"""

import itertools
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath

from distill.audio.read import EXAMPLES, SUPPORTED_SUFFIXES
from distill.audio.source import NO_SUFFIX, left_out_line, printable, suffix_of
from distill.errors import ParamsError
from distill.storage.files import atomic_path
from distill.text import is_utf8, one_line


class Uploads:
    """Uploads to a folder: `count` of added recordings, and a sentence in `refused` for each file left out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count, self.refused = 0, list[str]()

    def add(self, uploads: Sequence[tuple[Path, str]]) -> None:
        """Copy the recordings among the uploads to the folder."""
        others = Counter[str]()  # suffixes of other files
        archives = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz")
        for upload, parts in _inside([(upload, path.split("/")) for upload, path in uploads]):
            name = parts[-1]
            if name.startswith("._"):  # metadata of macOS
                continue
            if is_recording(name):
                self._add(upload, parts)
            elif name.lower().endswith(archives):
                found = "expected recordings, found an archive; unpack it, then drop the folder"
                self.refused.append(f"{one_line(name, 100)}: {found}")
            elif not name.startswith("."):
                others[printable(PurePosixPath(name).suffix) or NO_SUFFIX] += 1
        if others:
            self.refused.append(
                f"{left_out_line(dict(others.most_common()))}; expected recordings {EXAMPLES}"
            )

    def _add(self, upload: Path, parts: Sequence[str]) -> None:
        """Copy a recording, with a number in its name if the name is taken."""
        try:
            target = self.folder.joinpath(*map(checked_name, parts))
            others = (target.with_stem(f"{target.stem} {number}") for number in itertools.count(2))
            free = next(
                path for path in itertools.chain([target], others) if not os.path.lexists(path)
            )
            with atomic_path(free) as temporary:
                shutil.copyfile(upload, temporary)
            self.count += 1
        except ParamsError as error:
            self.refused.append(str(error))
        except OSError as error:
            name, reason = one_line(parts[-1], 100), error.strerror or error
            self.refused.append(f"{name}: expected a file that can be copied, found: {reason}")


def is_recording(name: str) -> bool:
    """Whether a file of this name is a recording, by its suffix."""
    return suffix_of(name) in SUPPORTED_SUFFIXES


def checked_name(name: str) -> str:
    """Return an untrusted name of a file or folder. Raises ParamsError if it leads to another folder."""
    if PurePath(name).name != name or name in ("", "..") or "\0" in name or not is_utf8(name):
        raise ParamsError(
            f"{name[:100]!r}: expected a name of a file or folder, found one that leads elsewhere; rename it"
        )
    return name


def _inside(files: list[tuple[Path, list[str]]]) -> list[tuple[Path, list[str]]]:
    """Strip the top folder from all paths if it holds every recording, and all of them in subfolders.

    A top folder with recordings of its own may be a label, so it stays.
    """
    paths = [parts for _, parts in files if is_recording(parts[-1])]
    holds_folders = len({path[0] for path in paths}) == 1 and min(map(len, paths)) > 2
    return [(upload, parts[holds_folders:]) for upload, parts in files]
