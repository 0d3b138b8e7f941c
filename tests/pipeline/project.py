"""A copy of the project in a temporary folder, with a tiny corpus and tiny networks, under git and DVC."""

import hashlib
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from distill.audio.write import write_audio
from distill.code_version import CODE
from distill.demo.recordings import DemoRecording, demo_recordings
from distill.progress import STATUS, VARIABLE
from programs import ROOT, Forked, fork, fork_pythons, start

STAGES = tuple(CODE)
COPIED = ("distill", "stages", ".dvc/config", ".dvc/plots", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml")
AUTHOR = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
WATCHED = ".distill/watched"  # where what is started says how far it is
NETWORK = {"epochs": 2, "hidden_size": 16, "num_layers": 1}
CODEC = {"codebook_size": 16, "num_quantizers": 6, "latent_size": 8, "batch_size": 4, "crop_seconds": 0.25}
TINY: dict[str, Any] = {
    "corpus": {"path": "sounds"},
    "vqvae": {**NETWORK, **CODEC},
    "codes": {"views": 3},
    "prior": {**NETWORK, "depth_layers": 1, "num_heads": 2, "batch_size": 2},
    "bundle": {"name": "tiny"},
    "audition": {"count": 2, "max_seconds": 0.5},
}


class Project:
    """The copy, and how to run things in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fork(self, module: str, *arguments: str, **environment: str) -> Forked:
        """Start a module in a process that has imported what it, DVC and its stages need; `steps` tells how far it is."""
        return fork(self.folder, module, *arguments, before=fork_pythons, **self._watched(), **environment)

    def done(self, name: str, **environment: str) -> Forked:
        """Run a stage, or `repro`, which ends without an error."""
        ended = self.fork(f"stages.{name}", **environment).end()
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended

    def refused(self, name: str, **environment: str) -> str:
        """The sentence with which a stage, or `repro`, is refused."""
        ended = self.fork(f"stages.{name}", **environment).end()
        assert ended.returncode == 2, ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stderr.strip()

    def dvc(self, *arguments: str, **environment: str) -> Forked:
        """A command of DVC, to its end."""
        return self.fork("dvc", *arguments, **environment).end()

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a module with a Python of its own; `steps` tells how far it is."""
        return start(self.folder, module, *arguments, **self._watched())

    def _watched(self) -> dict[str, str]:
        watched = self.folder / WATCHED
        watched.mkdir(parents=True, exist_ok=True)
        (watched / STATUS).unlink(missing_ok=True)
        return {VARIABLE: str(watched)}

    def steps(self, label: str) -> int:
        """Steps that the training with this label has done."""
        path = self.folder / WATCHED / STATUS
        status = json.loads(path.read_text()) if path.exists() else {}
        return int(status["done"]) if status.get("label") == label else 0

    def set(self, **sections: Any) -> None:
        set_params(self.folder, **sections)

    def stage_log(self) -> list[tuple[str, int]]:
        """The stages that ran, and their exit statuses."""
        lines = (self.folder / ".distill/stages.jsonl").read_text().splitlines()
        return [(entry["stage"], entry["exit"]) for entry in map(json.loads, lines)]

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every artefact by its name."""
        files = [f for top in ("artifacts", "models", "metrics") for f in (self.folder / top).rglob("*") if f.is_file()]
        return {
            f.relative_to(self.folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(files)
        }

    def left_behind(self) -> list[str]:
        """Temporary files that nothing has put in place or removed, and checkpoints."""
        return [path.name for path in (*self.folder.rglob("*.tmp"), *self.folder.glob(".distill/checkpoints/*"))]

    def commit(self) -> None:
        """Put all of it under git."""
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
            subprocess.run(["git", *command], cwd=self.folder, env={**os.environ, **AUTHOR}, check=True)

    def give_labelled_sounds(self) -> None:
        """Eight sounds in folders, which are their labels."""
        write_sounds(self.folder / "sounds", between="/")
        self.set(corpus={"labels": "folder"})


def set_params(folder: Path, **sections: Any) -> None:
    """Change values of `params.yaml`, in sections where they are given as such."""
    path = folder / "params.yaml"
    values = yaml.safe_load(path.read_text())
    for name, given in sections.items():
        values[name] = {**values[name], **given} if isinstance(given, dict) else given
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def executed(printed: str) -> list[str]:
    """Names of the stages that DVC ran."""
    return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]


def new_project(folder: Path, database: Path) -> Project:
    """A project without sounds, with this database of MLflow."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    project = Project(folder)
    project.set(**TINY)
    project.commit()
    shutil.copy(database, folder)
    return project


def write_sounds(folder: Path, count: int = 8, seconds: float = 0.4, between: str = "_") -> None:
    """At most two sounds of each family of the demo, cut short."""
    for recording in _few_of_each_family()[:count]:
        path = folder / f"{recording.name.replace('/', between)}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, recording.samples[: int(seconds * recording.sample_rate)], recording.sample_rate)


@cache
def _few_of_each_family() -> list[DemoRecording]:
    """Eight recordings; the others take longer to synthesise."""
    found = list[DemoRecording]()
    for recording in demo_recordings():
        if sum(one.name.split("/")[0] == recording.name.split("/")[0] for one in found) < 2:
            found.append(recording)
        if len(found) == 8:
            break
    return found


def remove(path: Path) -> None:
    """Remove a file or a folder, where there is one."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
