"""What makes sounds like recordings: networks of others, simple ways without one, and Distill.

A peer trains on recordings for some minutes of CPU time and draws sounds. What it trained and drew is in folders, so that
sounds can be judged again without a training.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile

from benchmarks.judge.features import Samples
from benchmarks.judge.sounds import STRENGTH, Sides, by_counting, varied
from benchmarks.peers.grains import grains
from benchmarks.peers.worker import DRAWN, SOUNDS, THREADS, TRAINED, write
from distill.api import Model
from distill.errors import ArtifactError
from distill.storage.files import remove_folder

ROOT = Path(__file__).parents[2]
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
MODEL = "model.distill"
RECORDINGS = "recordings"
SEED = 0  # of trainings and sounds


@dataclass(frozen=True, eq=False)
class Task:
    """What all peers have in common: recordings, of both sides, Distill's model of them, and where runs are kept."""

    recordings: Path
    folder: Path
    model: Model
    sides: Sides

    @property
    def rate(self) -> int:
        """Sample rate of recordings and sounds, in Hz."""
        return self.sides.corpus.sample_rate


class Peer(Protocol):
    """Something that makes sounds. A run is a folder of `Task.folder`."""

    @property
    def name(self) -> str:
        """How tables name it."""

    def train(self, task: Task, minutes: Sequence[float]) -> Sequence[Path]:
        """Train for each of some budgets, in minutes of CPU time, and return the runs; those that are there stay."""

    def draw(self, task: Task, run: Path, count: int, seconds: float) -> None:
        """Draw sounds of a run into it: of so many seconds where it does not know how long sounds are."""


@dataclass(frozen=True)
class TrainedNetwork:
    """A module of this package, trained in a process of its own by a Python that has what it needs."""

    name: str
    module: str
    python: Path

    def train(self, task: Task, minutes: Sequence[float]) -> list[Path]:
        """Train once, for the longest budget. At the end of each the network is kept: no schedule depends on it."""
        runs = [task.folder / self.module / f"{budget:g}" for budget in minutes]
        if not all((run / TRAINED).is_file() for run in runs):
            self._work(
                task,
                "train",
                task.folder / self.module,
                "--minutes",
                *(f"{budget:g}" for budget in minutes),
            )
        return runs

    def draw(self, task: Task, run: Path, count: int, seconds: float) -> None:
        """Draw sounds of this length."""
        self._work(task, "draw", run, "--count", f"{count}", "--seconds", f"{seconds}")

    def _work(self, task: Task, command: str, folder: Path, *flags: str) -> None:
        if not self.python.is_file():
            raise ArtifactError(
                f"{self.python}: expected the environment of the peers, found none; run make bench ARGS=--peers, which "
                "installs it"
            )
        worker = [
            str(self.python),
            "-W",
            "ignore",
            "-m",
            "benchmarks.peers.worker",
            command,
            self.module,
        ]
        given = [
            str((task.folder / RECORDINGS).resolve()),
            str(folder.resolve()),
            "--seed",
            f"{SEED}",
        ]
        subprocess.run([*worker, *given, *flags], check=True, cwd=ROOT, env=environment())


@dataclass(frozen=True)
class Distill:
    """Distill's own training, as `distill train --prior` does it; `settings` are flags of it."""

    name: str
    folder: str
    settings: tuple[str, ...] = ()

    def train(self, task: Task, minutes: Sequence[float]) -> list[Path]:  # noqa: ARG002 - it ends by itself
        """Train until it ends by itself."""
        return [self.trained(task.folder, task.recordings)]

    def trained(self, work: Path, recordings: Path) -> Path:
        """The run of a training on a folder of recordings."""
        run = work / self.folder
        if not (run / TRAINED).is_file():
            run.mkdir(parents=True, exist_ok=True)
            command = [
                sys.executable,
                "-m",
                "distill",
                "train",
                str(recordings.resolve()),
                "--prior",
            ]
            named = ["--out", str(run.resolve()), "--name", Path(MODEL).stem, *self.settings]
            before = _of_children()
            subprocess.run([*command, *named], check=True, cwd=run, env=environment())
            write(
                run / TRAINED,
                cpu_seconds=_of_children() - before,
                bytes=(run / MODEL).stat().st_size,
            )
        return run

    def draw(self, task: Task, run: Path, count: int, seconds: float) -> None:  # noqa: ARG002 - sounds end at EOS
        """Draw sounds that end where the model ends them."""
        model = Model(run / MODEL)
        keep_sounds(run, task.rate, lambda: model.generate(count, seed=SEED, width=0).sounds)


@dataclass(frozen=True)
class Untrained:
    """What draws sounds without a training of its own: `make` draws so many, and `needs` is what it draws them from."""

    name: str
    folder: str
    needs: Callable[[Task], Path]
    make: Callable[[Task, int], Sequence[Samples]]

    def train(self, task: Task, minutes: Sequence[float]) -> list[Path]:  # noqa: ARG002 - none is used
        """Note how large it is."""
        run, needed = task.folder / self.folder, self.needs(task)
        files = [*needed.glob("*.wav")] if needed.is_dir() else [needed]
        run.mkdir(parents=True, exist_ok=True)
        write(run / TRAINED, bytes=sum(file.stat().st_size for file in files))
        return [run]

    def draw(self, task: Task, run: Path, count: int, seconds: float) -> None:  # noqa: ARG002 - as long as recordings
        """Draw sounds that are as long as recordings."""
        keep_sounds(run, task.rate, lambda: self.make(task, count))


def keep_sounds(run: Path, rate: int, make: Callable[[], Sequence[Samples]]) -> None:
    """Write the sounds `[N]` that `make` gives into a run, and what CPU time it took."""
    began = time.process_time()
    sounds = make()
    took = time.process_time() - began
    remove_folder(run / SOUNDS)
    (run / SOUNDS).mkdir()
    for number, sound in enumerate(sounds):
        soundfile.write(run / SOUNDS / f"{number:03d}.wav", sound, rate, subtype="FLOAT")
    write(run / DRAWN, cpu_seconds=took, sound_seconds=sum(map(len, sounds)) / rate)


def figures(run: Path, name: str) -> dict[str, float]:
    """Figures that a run keeps as JSON."""
    read: dict[str, float] = json.loads((run / name).read_text(encoding="utf-8"))
    return read


def environment() -> dict[str, str]:
    """The environment of a training: two threads, which do not spin, as that counts as CPU time where others work."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), f"{THREADS}")
    return {**os.environ, **threads, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}


def _of_children() -> float:
    """CPU seconds of processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _model(task: Task) -> Path:
    return task.model.path


def _recordings(task: Task) -> Path:
    return task.folder / RECORDINGS


def _of_training(task: Task) -> list[Samples]:
    return task.sides.read(task.sides.training)


DISTILL = Distill("Distill", "distill")
PEERS: tuple[Peer, ...] = (
    DISTILL,
    Distill("Distill, 5 epochs", "distill-5", ("--epochs", "5")),
    Untrained(
        f"vary {STRENGTH:g}",
        "vary",
        _model,
        lambda task, count: varied(
            task.model, _of_training(task), range(count), SEED, np.random.default_rng(SEED)
        ),
    ),
    Untrained(
        "counting",
        "counting",
        _model,
        lambda task, count: by_counting(
            task.model, task.sides, range(count), np.random.default_rng(SEED)
        ),
    ),
    Untrained(
        "grains",
        "grains",
        _recordings,
        lambda task, count: grains(
            _of_training(task), count, task.rate, np.random.default_rng(SEED)
        ),
    ),
    TrainedNetwork("RAVE v2_small", "rave", PEERS_PYTHON),
    TrainedNetwork("diffusion U-Net", "diffusion", PEERS_PYTHON),
    TrainedNetwork("WaveGAN", "wavegan", PEERS_PYTHON),
)
