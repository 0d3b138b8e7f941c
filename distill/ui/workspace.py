"""Working folder of the page: recordings, models, sounds, jobs. Untrusted names are checked here."""

import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from distill.errors import ParamsError
from distill.text import positions_of
from distill.ui.jobs import Jobs
from distill.ui.uploads import Uploads, checked_name, is_recording

MODEL_SUFFIX = ".distill"


def distill(*arguments: str, seconds: float | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a short `distill` command and return its output."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "distill", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},  # whatever the terminal's encoding
        timeout=seconds,
        check=False,
    )


def preselected(names: Sequence[str], now: str | None) -> str | None:
    """Choice to preselect: `now` if it is still listed, otherwise the first name, or None."""
    return now if now in names else next(iter(names), None)


class Workspace:
    """Paths in the working folder, its models and its jobs."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.models, self.sounds, self.generated = (
            self.root / name for name in ("models", "sounds", "generated")
        )
        self.state = self.root / ".distill"
        self.uploads = self.state / "ui" / "uploads"
        self.jobs = Jobs(self.root)
        self._listed: list[dict[str, Any]] = []
        self._seen = list[tuple[str, int, int]]()  # names, times and sizes of the listed files
        self._lock = threading.Lock()

    def listed(self) -> list[dict[str, Any]]:
        """Models from `distill list`, refreshed when a file has changed."""
        with self._lock:
            stats = [(path, path.lstat()) for path in self.models.glob(f"*{MODEL_SUFFIX}")]
            seen = sorted((path.name, stat.st_mtime_ns, stat.st_size) for path, stat in stats)
            if seen != self._seen:
                self._listed, self._seen = self._list_models(), seen
            return self._listed

    def _list_models(self) -> list[dict[str, Any]]:
        answer = distill("list", str(self.models), "--json").stdout
        with suppress(ValueError):
            return [
                {**model, "file": Path(model["path"]).name}
                for model in json.loads(answer)["models"]
            ]
        return []

    def names(self, can_generate: bool = False) -> list[str]:
        """Names of usable models, newest first; if `can_generate`, only models with a prior."""
        models = sorted(self.listed(), key=lambda model: model["date"], reverse=True)
        usable = [model for model in models if not model["problem"]]
        return [model["file"] for model in usable if model["can_generate"] or not can_generate]

    def known(self, name: str | None) -> dict[str, Any]:
        """Entry of a model in `distill list`, or {}."""
        return next((model for model in self.listed() if model["file"] == name), {})

    def relative(self, path: Path) -> str:
        """Path relative to the folder."""
        return path.relative_to(self.root).as_posix()

    def labels_of(self, name: str | None) -> list[str]:
        """Labels that a model has learnt."""
        labels: list[str] = self.known(name).get("labels", [])
        return labels

    def argument(self, path: Path) -> str:
        """Path relative to the folder, as a command argument that is never read as a flag or a home folder."""
        text = self.relative(path)
        return f"./{text}" if text.startswith(("-", "~")) else text

    def corpora(self) -> list[str]:
        """Folders that contain recordings, relative to the working folder; uploads of the page first."""
        shelves = (self.sounds, self.root / "data")  # contain corpora
        made = ("artifacts", "generated", "mlruns", "models", "metrics")
        others = ("node_modules", "build", "dist", "__pycache__")
        left_out = {*made, *others}
        own = [folder for folder in _folders_in(self.root) if folder.name not in left_out]
        corpora = []
        for folder in itertools.chain(*map(_folders_in, shelves), own):
            most = 1 if folder in shelves else 200  # folders searched for a recording
            searched = itertools.islice(os.walk(folder), most)
            if any(is_recording(name) for _, _, files in searched for name in files):
                corpora.append(self.relative(folder))
        return corpora

    def corpus(self, name: str) -> Path:
        """Folder of recordings with this name. Raises ParamsError if `corpora` does not list it."""
        expected = "expected a folder of the list, found none of this name"
        refusal = f"recordings {name[:100]!r}: {expected}"
        return self.root / _chosen(name, self.corpora(), refusal, "add recordings first")

    def labels(self, name: str | None) -> list[str]:
        """Subfolders with recordings, which can be labels; [] if all recordings are in one folder."""
        if name not in self.corpora():
            return []
        corpus = self.root / str(name)
        holding = [
            Path(folder) for folder, _, files in os.walk(corpus) if any(map(is_recording, files))
        ]
        return (
            sorted(folder.relative_to(corpus).as_posix() for folder in holding)
            if len(holding) > 1
            else []
        )

    def model(self, name: str | None) -> Path:
        """Model file with this name. Raises ParamsError if the folder of models has no such file."""
        name = name or ""
        models = [path.name for path in self.models.glob(f"*{MODEL_SUFFIX}") if path.is_file()]
        refusal = f"model {name[:100]!r}: expected one of the list, found none"
        return self.models / _chosen(name, models, refusal, "train or import one first")

    def check_inside(self, path: Path) -> Path:
        """Return `path`. Raises ParamsError if a link leads out of the working folder."""
        if not path.resolve().is_relative_to(self.root):
            raise ParamsError(
                f"{path.name}: expected a file of this folder, found a link to elsewhere; remove the link"
            )
        return path

    def new_model(self, name: str | None) -> Path:
        """Path of a new model. Raises ParamsError for a name that is taken or invalid."""
        stem = (name or "").strip().removesuffix(MODEL_SUFFIX)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", stem):
            raise ParamsError(
                f"name {stem!r}: expected up to 100 letters, digits, dots and dashes; choose another name"
            )
        path = self.models / f"{stem}{MODEL_SUFFIX}"
        if os.path.lexists(path):
            raise ParamsError(
                f"name {stem!r}: expected a new name, found a model of this name; choose another name"
            )
        return path

    def recordings_to(self, name: str) -> Uploads:
        """Uploads to `sounds/<name>`. Raises ParamsError for a name that leads to another folder."""
        folder = self.sounds / checked_name(name.strip())
        if folder.name.startswith("."):
            raise ParamsError(
                f"{folder.name!r}: expected a name that does not begin with a dot; choose another name"
            )
        return Uploads(folder)


def _folders_in(parent: Path) -> list[Path]:
    """Files and folders in a folder, without links and hidden entries."""
    return [path for path in sorted(parent.glob("[!.]*")) if not path.is_symlink()]


def _chosen(name: str, names: Sequence[str], refusal: str, if_none: str) -> str:
    """The one of `names` that `name` means. Raises ParamsError with `refusal`, and what to do if there are no names."""
    positions = positions_of(name, names)
    if len(positions) != 1:
        raise ParamsError(f"{refusal}; {'choose one of the list' if names else if_none}")
    return names[positions[0]]
