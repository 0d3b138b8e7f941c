"""A copy of the project in a temporary folder, with a tiny corpus and tiny networks, under git and DVC."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from distill.audio.write import write_audio
from distill.demo.recordings import demo_recordings
from distill.status import STATUS, VARIABLE

ROOT = Path(__file__).parents[2]
COPIED = ("distill", "stages", ".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml")

TINY: dict[str, dict[str, Any]] = {
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
    "audition": {"count": 2, "max_seconds": 0.5},
}


class Project:
    """The copy, and how to run things in it: with this Python, or with a stand-in of `quick_python`."""

    def __init__(self, folder: Path, python: Path = Path(sys.executable)) -> None:
        self.folder = folder
        self.python = python
        path = (str(python.parent), str(Path(sys.executable).parent), os.environ["PATH"])
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_", "DISTILL_"))},
            "PATH": os.pathsep.join(path),
            "DISTILL_DEVICE": "cpu",
            "COVERAGE_PROCESS_START": "",
        }

    def python_m(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`python -m`, with a module and its arguments."""
        return self.run(str(self.python), "-m", *command, **environment)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )

    def start(self, *command: str) -> subprocess.Popen[str]:
        """The same, left running in a session of its own; `steps` tells how far it is."""
        self.watched.mkdir(parents=True, exist_ok=True)
        (self.watched / STATUS).unlink(missing_ok=True)
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.environment, VARIABLE: str(self.watched)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def watched(self) -> Path:
        """Folder of the status of what `start` started."""
        return self.folder / ".distill" / "watched"

    def steps(self, label: str) -> int:
        """Steps that the training with this label has done."""
        path = self.watched / STATUS
        status = json.loads(path.read_text()) if path.exists() else {}
        return int(status["done"]) if status.get("label") == label else 0

    def dvc(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.python_m("dvc", *arguments, **environment)

    def set(self, **sections: dict[str, Any]) -> None:
        path = self.folder / "params.yaml"
        values = yaml.safe_load(path.read_text())
        for name, section in sections.items():
            values[name] = {**values[name], **section}
        path.write_text(yaml.safe_dump(values, sort_keys=False))


def executed(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Names of the stages that DVC ran."""
    return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]


def new_project(folder: Path, python: Path = Path(sys.executable)) -> Project:
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    project = Project(folder, python)
    project.set(corpus={"path": "sounds"}, bundle={"name": "tiny"}, **TINY)
    for command in (
        ("git", "init", "-q"),
        ("git", "add", "-A"),
        ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "start"),
    ):
        assert project.run(*command).returncode == 0
    return project


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
