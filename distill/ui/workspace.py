"""The folder that the page works on: recordings, models, sounds, jobs. Names from outside are checked here."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from distill.audio.read import SUPPORTED_SUFFIXES
from distill.errors import ParamsError
from distill.storage.files import atomic_path
from distill.ui.jobs import Jobs

MODEL_SUFFIX = ".distill"
MOST_FOLDERS = 200  # looked into for the first recording of a corpus
LEFT_OUT = {"artifacts", "generated", "mlruns", "models", "metrics", "node_modules", "build", "dist", "__pycache__"}
_NAME = re.compile(r"\w[\w .+#()&'-]{0,99}")


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
        """A path below the folder as a command that runs there takes it, which is never a flag."""
        text = path.relative_to(self.root).as_posix()
        return f"./{text}" if text.startswith("-") else text

    def corpora(self) -> list[str]:
        """Folders with recordings in them or below them, relative to the working folder; those of the page first."""
        shelves = (self.sounds, self.root / "data")  # hold corpora side by side
        found = []
        for folder in [one for place in (*shelves, self.root) for one in sorted(place.glob("[!.]*"))]:
            looked = itertools.islice(os.walk(folder), 1 if folder in shelves else MOST_FOLDERS)
            names = (name for _, _, files in looked for name in files)
            if folder.name not in LEFT_OUT and not folder.is_symlink() and any(map(is_recording, names)):
                found.append(folder.relative_to(self.root).as_posix())
        return found

    def corpus(self, name: str) -> Path:
        """The folder of recordings of this name. Raises ParamsError for any that `corpora` does not list."""
        if name not in self.corpora():
            raise ParamsError(
                f"recordings {name!r}: expected a folder of the list, found another; choose one of the list"
            )
        return self.root / name

    def model(self, name: str | None) -> Path:
        """The model file of this name. Raises ParamsError where it is no file in the folder of models."""
        if name not in [path.name for path in self.models.glob(f"*{MODEL_SUFFIX}") if path.is_file()]:
            raise ParamsError(f"model {name or ''!r}: expected one of the list, found none; choose one of the list")
        return self.models / str(name)

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

    def add_recordings(self, name: str, uploads: Iterable[tuple[Path, str]]) -> tuple[str, int, list[str]]:
        """Copy uploads into `sounds/<name>`: this folder, the number of recordings, and a sentence for each refused file.

        Beside each upload stands its path relative to the new folder: subfolders stay, as they can be labels. Raises
        ParamsError.
        """
        target = self.sounds / _checked(name.strip())
        count, refused = 0, list[str]()
        for upload, place in uploads:
            try:
                count += _add(upload, place, target)
            except ParamsError as error:
                refused.append(str(error))
            except OSError as error:
                refused.append(f"{place[:100]}: expected a file that can be copied, found: {error.strerror or error}")
        return target.relative_to(self.root).as_posix(), count, refused


def is_recording(name: str) -> bool:
    """Whether a file of this name is a recording."""
    return PurePosixPath(name).suffix.lower() in SUPPORTED_SUFFIXES


def _add(upload: Path, place: str, folder: Path) -> bool:
    """Copy a recording to a place below a folder, beside one of its name. False for the system's own hidden files.

    Raises ParamsError for a place that is elsewhere or a file that is no recording.
    """
    path = PurePosixPath(place)
    if path.name.startswith("."):
        return False
    if not is_recording(path.name):
        kinds = ", ".join(sorted(SUPPORTED_SUFFIXES))
        what = "an archive; unpack it and choose the folder" if path.suffix.lower() == ".zip" else "another kind"
        raise ParamsError(f"{path.name}: expected a recording ({kinds}), found {what}")
    target = free = folder.joinpath(*map(_checked, path.parts))
    number = 1
    while free.exists() or free.is_symlink():
        number += 1
        free = target.with_stem(f"{target.stem} {number}")
    with atomic_path(free) as temporary:
        shutil.copyfile(upload, temporary)
    return True


def _checked(name: str) -> str:
    """A name of a file or folder from outside; accents as one character, where macOS has two. Raises ParamsError."""
    name = unicodedata.normalize("NFC", name)
    if not _NAME.fullmatch(name) or len(name.encode()) > 200:  # bytes, of the 255 that file systems take
        raise ParamsError(
            f"{name[:100]!r}: expected a name of letters, digits, spaces, dots and dashes, found another; rename it"
        )
    return name
