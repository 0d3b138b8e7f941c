"""The folder that the page works on: recordings, models, sounds, jobs. Names from outside are checked here."""

import itertools
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from distill.audio.read import EXAMPLES, SUPPORTED_SUFFIXES
from distill.audio.source import NO_SUFFIX, left_out_line, printable
from distill.errors import ParamsError
from distill.storage.files import atomic_path
from distill.text import is_utf8, positions_of
from distill.ui.jobs import Jobs

_UTF8, _WINDOWS = 0x800, 0  # flag and system of an entry in an archive
# What a damaged or encrypted archive raises.
_DAMAGED = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
Source = tuple[Callable[[Path], object], Sequence[str]]  # what copies a file to a path, and the parts of its place
MODEL_SUFFIX = ".distill"
MOST_FOLDERS = 200  # looked into for the first recording of a corpus
LEFT_OUT = {"artifacts", "generated", "mlruns", "models", "metrics", "node_modules", "build", "dist", "__pycache__"}


def distill(*arguments: str, seconds: float | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a short command of Distill and wait for what it says."""
    command = [sys.executable, "-P", "-m", "distill", *arguments]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}  # whatever the terminal of the page has
    run: dict[str, Any] = {"stdin": subprocess.DEVNULL, "timeout": seconds, "env": environment}
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, **run)


class Workspace:
    """Paths below the working folder, its models and its jobs."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.models, self.sounds, self.generated = (self.root / name for name in ("models", "sounds", "generated"))
        self.state = self.root / ".distill"
        self.uploads = self.state / "ui" / "uploads"
        self.jobs = Jobs(self.root)
        self._listed: list[dict[str, Any]] = []
        self._seen: object = None
        self._lock = threading.Lock()

    def listed(self) -> list[dict[str, Any]]:
        """What `distill list` says of the models; asked again when a file there has changed."""
        with self._lock:
            stats = [(path, path.lstat()) for path in self.models.glob(f"*{MODEL_SUFFIX}")]
            seen = sorted((path.name, stat.st_mtime_ns, stat.st_size) for path, stat in stats)
            if seen != self._seen:
                self._listed, self._seen = [], seen
                with suppress(ValueError):
                    found = json.loads(distill("list", str(self.models), "--json").stdout)["models"] if seen else []
                    self._listed = [{**one, "file": Path(one["path"]).name} for one in found]
            return self._listed

    def names(self, can_generate: bool = False) -> list[str]:
        """Names of the models that open, of those with a prior only where asked; the newest first."""
        listed = [one for one in self.listed() if not one["problem"] and (one["can_generate"] or not can_generate)]
        return [one["file"] for one in sorted(listed, key=lambda one: one["date"], reverse=True)]

    def known(self, name: str | None) -> dict[str, Any]:
        """What is known of a model; {} where nothing is."""
        return next((one for one in self.listed() if one["file"] == name), {})

    def preselected(self, now: str | None, can_generate: bool = False) -> str | None:
        """The model that a form shows: `now` if it is still there, else the newest one."""
        names = self.names(can_generate)
        return now if now in names else next(iter(names), None)

    def argument(self, path: Path) -> str:
        """A path below the folder as a command that runs there takes it, which is never a flag or the home folder."""
        text = path.relative_to(self.root).as_posix()
        return f"./{text}" if text.startswith(("-", "~")) else text

    def corpora(self) -> list[str]:
        """Folders with recordings in them or below them, relative to the working folder; those of the page first."""
        shelves = (self.sounds, self.root / "data")  # hold corpora side by side
        found = []
        for folder in [one for place in (*shelves, self.root) for one in sorted(place.glob("[!.]*"))]:
            looked = itertools.islice(os.walk(folder), 1 if folder in shelves else MOST_FOLDERS)
            names = (name for _, _, files in looked for name in files)
            is_left_out = folder.is_symlink() or (folder.parent == self.root and folder.name in LEFT_OUT)
            if not is_left_out and any(map(is_recording, names)):
                found.append(folder.relative_to(self.root).as_posix())
        return found

    def corpus(self, name: str) -> Path:
        """The folder of recordings of this name. Raises ParamsError for any that `corpora` does not list."""
        corpora = self.corpora()
        if len(found := positions_of(name, corpora)) != 1:
            raise ParamsError(
                f"recordings {name!r}: expected a folder of the list, found another; choose one of the list"
            )
        return self.root / corpora[found[0]]

    def model(self, name: str | None) -> Path:
        """The model file of this name. Raises ParamsError where it is no file in the folder of models."""
        models = [path for path in self.models.glob(f"*{MODEL_SUFFIX}") if path.is_file()]
        if len(found := positions_of(name or "", [path.name for path in models])) != 1:
            raise ParamsError(f"model {name or ''!r}: expected one of the list, found none; choose one of the list")
        return models[found[0]]

    def check_inside(self, path: Path) -> Path:
        """`path` itself. Raises ParamsError where a link leads from it out of the working folder."""
        if not path.resolve().is_relative_to(self.root):
            raise ParamsError(
                f"{path.name}: expected a file of this folder, found a link to elsewhere; remove the link"
            )
        return path

    def new_model(self, name: str | None) -> Path:
        """The path of a new model. Raises ParamsError for a name that exists or that is no name of a file."""
        stem = (name or "").strip().removesuffix(MODEL_SUFFIX)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", stem):
            raise ParamsError(
                f"name {stem!r}: expected up to 100 letters, digits, dots and dashes; choose another name"
            )
        path = self.models / f"{stem}{MODEL_SUFFIX}"
        if path.exists() or path.is_symlink():
            raise ParamsError(f"name {stem!r}: expected a new name, found a model of this name; choose another name")
        return path

    def add_recordings(self, name: str, uploads: Sequence[tuple[Path, str]]) -> tuple[str, int, list[str]]:
        """Copy uploads into `sounds/<name>`: this folder, the number of recordings, and a sentence for each refused file.

        Beside each upload stands its path as the browser has it. Zip archives are unpacked. Folders stay, as they can
        be labels, but for one around all others that are added or in an archive. Raises ParamsError.
        """
        target = self.sounds / _checked(name.strip())
        if target.name.startswith("."):
            raise ParamsError(f"{target.name!r}: expected a name that does not begin with a dot; choose another name")
        count, refused, others = 0, list[str](), Counter[str]()
        with ExitStack() as archives:
            sources: list[list[Source]] = [[]]
            for upload, place in uploads:
                if not place.lower().endswith(".zip") or "/._" in f"/{place}":
                    sources[0].append((partial(shutil.copyfile, upload), place.split("/")))
                    continue
                try:
                    archive = archives.enter_context(zipfile.ZipFile(upload))
                    if sum(entry.file_size for entry in archive.infolist()) > shutil.disk_usage(self.root).free:
                        raise OSError("more than the disk has room for")
                    sources.append(_entries(archive, PurePosixPath(place).stem))
                except _DAMAGED as error:
                    refused.append(
                        f"{place[:100]}: expected an archive that can be unpacked, found: {error}; unpack it and add "
                        "the folder"
                    )
            for copy, parts in chain.from_iterable(map(_inside, sources)):
                name = parts[-1]
                if name.startswith("._") or not is_recording(name):
                    others.update([] if name.startswith(".") else [printable(PurePosixPath(name).suffix) or NO_SUFFIX])
                    continue
                try:
                    _add(copy, parts, target)
                    count += 1
                except ParamsError as error:
                    refused.append(str(error))
                except _DAMAGED as error:
                    found = error.strerror if isinstance(error, OSError) else error
                    refused.append(f"{name[:100]}: expected a file that can be copied, found: {found or error}")
        if others:
            refused.append(f"{left_out_line(dict(others.most_common()))}; expected recordings {EXAMPLES}")
        return target.relative_to(self.root).as_posix(), count, refused


def is_recording(name: str) -> bool:
    """Whether a file of this name is a recording."""
    return PurePosixPath(name).suffix.lower() in SUPPORTED_SUFFIXES


def _inside(sources: list[Source]) -> list[Source]:
    """Sources with their places inside the folder that holds them all, where that has no recording beside its folders.

    With one it may be a label itself.
    """
    places = [place for _, place in sources if is_recording(place[-1])]
    holds_folders = len({place[0] for place in places}) == 1 and min(map(len, places)) > 2
    return [(copy, place[holds_folders:]) for copy, place in sources]


def _entries(archive: zipfile.ZipFile, stem: str) -> list[Source]:
    """The files of an archive, in a folder of its own where it has not one, as systems unpack it."""

    def unpack(entry: zipfile.ZipInfo, path: Path) -> None:
        with archive.open(entry) as source, path.open("wb") as copy:
            shutil.copyfileobj(source, copy)

    names = [(entry, _name_of(entry)) for entry in archive.infolist()]
    found = [(partial(unpack, entry), name.split("/")) for entry, name in names if not name.endswith("/")]
    found = [(copy, place) for copy, place in found if place[0] != "__MACOSX"]
    has_folder = len({place[0] for _, place in found}) == 1 and all(len(place) > 1 for _, place in found)
    return [(copy, place if has_folder else [stem, *place]) for copy, place in found]


def _name_of(entry: zipfile.ZipInfo) -> str:
    """The name of an entry: macOS writes UTF-8 and does not say so; old programs of Windows separate by backslashes."""
    name = entry.filename
    with suppress(UnicodeError):
        name = name if entry.flag_bits & _UTF8 else name.encode("cp437").decode()
    return name.replace("\\", "/") if entry.create_system == _WINDOWS else name


def _add(copy: Callable[[Path], object], place: Sequence[str], folder: Path) -> None:
    """Copy a recording to a place below a folder, beside one of its name. Raises ParamsError for a place elsewhere."""
    target = free = folder.joinpath(*map(_checked, place))
    number = 1
    while free.exists() or free.is_symlink():
        number += 1
        free = target.with_stem(f"{target.stem} {number}")
    with atomic_path(free) as temporary:
        copy(temporary)


def _checked(name: str) -> str:
    """A name of a file or folder from outside, as it is. Raises ParamsError for one that leads elsewhere."""
    if PurePath(name).name != name or name in ("", "..") or "\0" in name or not is_utf8(name):
        raise ParamsError(
            f"{name[:100]!r}: expected a name of a file or folder, found one that leads elsewhere; rename it"
        )
    return name
