"""A copy of the project in a temporary folder, with a tiny corpus and tiny networks, under git and DVC."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from programs import ROOT, Forked, fork, run, start

from distill.audio.write import write_audio
from distill.demo.recordings import demo_recordings
from distill.status import STATUS, VARIABLE

COPIED = ("distill", "stages", ".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml")
WATCHED = ".distill/watched"  # where what is started says how far it is
STAGES = ("ingest", "train_vqvae", "encode_codes", "split", "train_prior", "bundle", "audition")
TINY: dict[str, dict[str, Any]] = {
    "corpus": {"path": "sounds"},
    "vqvae": {
        "epochs": 2,
        "codebook_size": 16,
        "num_quantizers": 2,
        "hidden_size": 16,
        "num_layers": 1,
        "latent_size": 8,
        "batch_size": 4,
        "crop_seconds": 0.25,
    },
    "codes": {"views": 3},
    "prior": {"depth_layers": 1, "epochs": 2, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "batch_size": 2},
    "bundle": {"name": "tiny"},
    "audition": {"count": 2, "max_seconds": 0.5},
}


class Project:
    """The copy, and how to run things in it; `settings` are variables of their environment."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.settings = folder, settings

    def fork(self, module: str, *arguments: str, **more: str) -> Forked:
        """Start a module in a process that has imported what it needs; `steps` tells how far it is."""
        return fork(self.folder, module, *arguments, **self._watched(), **more)

    def stage(self, name: str, *arguments: str, **more: str) -> Forked:
        """Run a stage, or `repro`, to its end."""
        return self.fork(f"stages.{name}", *arguments, **more).end()

    def dvc(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run(self.folder, "dvc", *arguments, **self.settings, **more)

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a module with a Python of its own; `steps` tells how far it is."""
        return start(self.folder, module, *arguments, **self._watched())

    def _watched(self) -> dict[str, str]:
        watched = self.folder / WATCHED
        watched.mkdir(parents=True, exist_ok=True)
        (watched / STATUS).unlink(missing_ok=True)
        return {**self.settings, VARIABLE: str(watched)}

    def steps(self, label: str) -> int:
        """Steps that the training with this label has done."""
        path = self.folder / WATCHED / STATUS
        status = json.loads(path.read_text()) if path.exists() else {}
        return int(status["done"]) if status.get("label") == label else 0

    def set(self, **sections: dict[str, Any]) -> None:
        path = self.folder / "params.yaml"
        values = yaml.safe_load(path.read_text())
        for name, section in sections.items():
            values[name] = {**values[name], **section}
        path.write_text(yaml.safe_dump(values, sort_keys=False))


def executed(printed: str) -> list[str]:
    """Names of the stages that DVC ran."""
    return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]


def new_project(folder: Path) -> Project:
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    project = Project(folder)
    project.set(**TINY)
    init_git(folder)
    return project


def init_git(folder: Path) -> None:
    author = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=folder, env={**os.environ, **author}, check=True)


def write_sounds(folder: Path, count: int = 8, seconds: float = 0.4, between: str = "_") -> None:
    families: dict[str, int] = {}
    for recording in demo_recordings():
        family = recording.name.split("/")[0]
        families[family] = families.get(family, 0) + 1
        if families[family] <= 2 and count:
            count -= 1
            samples = recording.samples[: int(seconds * recording.sample_rate)]
            path = folder / f"{recording.name.replace('/', between)}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, samples, recording.sample_rate)


def give_labelled_sounds(project: Project) -> None:
    """Eight sounds in folders, which are their labels."""
    write_sounds(project.folder / "sounds", between="/")
    project.set(corpus={"labels": "folder"})


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every artefact by its name."""
    files = [f for top in ("artifacts", "models", "metrics") for f in (folder / top).rglob("*") if f.is_file()]
    return {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(files)}


def left_behind(folder: Path) -> list[str]:
    """Temporary files that nothing has put in place or removed."""
    return [path.name for path in folder.rglob("*.tmp")]
