"""Run of a training: its environment, and the context for trainings that resume, are tracked and write an artefact."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from distill.code_version import code_sha256
from distill.params import Params
from distill.progress import VARIABLE, ProgressReport
from distill.storage.files import sha256_json
from distill.text import several
from distill.training.checkpoints import NO_CHECKPOINTS, WEIGHTS, CheckpointStore
from distill.training.console import Observer, ToConsole
from distill.training.events import TrainingResult
from distill.training.interruption import Interruption, catch_interruption, raise_interrupted
from distill.training.tracking import Tracker


def about_corpus(params: Params, sha256: str, sample_rate: int, recordings: int) -> dict[str, Any]:
    """Parameters for MLflow that describe the corpus and the model; `sha256` is the hash of the manifest."""
    return {
        "corpus.path": params.corpus.path,
        "corpus_sha256": sha256[:12],
        "sample_rate": sample_rate,
        "recordings": recordings,
        "model": params.bundle.name,
    }


@dataclass(frozen=True, eq=False)
class Run:
    """Environment of a training: processes, checkpoints, observers, and requests to stop.

    `interruption` ends training with Interrupted after saving. Once `cancel` returns True, training ends within a
    step as a success, with the best weights so far. `console` shows other work of the stage, and `tracker` records
    results; the defaults do nothing.
    """

    fabric: Fabric
    store: CheckpointStore = NO_CHECKPOINTS
    observers: Sequence[Observer] = ()
    interruption: Interruption = field(default_factory=Interruption)
    cancel: Callable[[], bool] = lambda: False
    console: ProgressReport = field(default_factory=lambda: ProgressReport("", quiet=True))
    tracker: Tracker = field(default_factory=lambda: Tracker(None, "", "", active=False))
    fingerprint: str = ""  # hex SHA-256 of the stage, its inputs and its settings

    @property
    def is_first(self) -> bool:
        """Whether this process has rank 0: it alone writes files."""
        return self.fabric.global_rank == 0

    def emit(self, event: object) -> None:
        """Send an event to the observers."""
        for observer in self.observers:
            observer(event)

    def keep(self, artifact: Path, metrics: Mapping[str, float], about: Mapping[str, Any]) -> None:
        """Send the written artefact and the metrics of its weights to MLflow, and previews to the status folder."""
        self.tracker.log_best(metrics, about)
        for name in (WEIGHTS, "config.json", "history.parquet"):
            self.tracker.artifact(artifact / name, "checkpoint")
        if (artifact / "previews").is_dir():
            self.tracker.artifact(artifact / "previews", "previews")
            self.console.status.keep(artifact / "previews", "previews")


@contextmanager
def tracked_run(
    stage: str,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    about: Mapping[str, Any],
    derived: Collection[str],
    show: type[ToConsole],
    fabric: Fabric,
    state: Path,
    tracking_root: Path | None,
) -> Iterator[Run]:
    """Provide the run for the training of a stage, tracked in MLflow and shown by `show`.

    `inputs` are hashes of the input files. With the same inputs, settings and code, training resumes from checkpoints
    in `state`. `about` holds further parameters for MLflow, and `derived` names the settings that nobody chose. If a
    file `state`/stop appears, training ends with the best weights so far. Only the first process tracks and prints.
    """
    is_first = fabric.global_rank == 0
    fingerprint = sha256_json({"stage": stage, "inputs": inputs, "settings": settings})
    resumed_with = {
        "fingerprint": fingerprint,
        "code": code_sha256(stage),
        "torch": torch.__version__,
    }
    with (
        catch_interruption() as interruption,
        Tracker(tracking_root, stage, fingerprint, settings, is_first, about, derived) as tracker,
        ProgressReport(show.label, quiet=not is_first) as console,
    ):
        stop = state / "stop"
        # A program that watches the command removes an old file itself: for it, a file here belongs to this training.
        if VARIABLE not in os.environ and stop.exists():
            stop.unlink(missing_ok=True)
            console.say(
                f"{stop} was there before training began and is removed; make it again to stop early"
            )
        store = CheckpointStore(state / "checkpoints" / sha256_json(resumed_with)[:24])
        observers = (show(console), tracker)
        yield Run(
            fabric, store, observers, interruption, stop.exists, console, tracker, fingerprint
        )
        stop.unlink(missing_ok=True)
        if interruption.signal:  # received after the last step polled it
            raise_interrupted(
                interruption.signal, "training is done and saved; run the same command to continue"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """A finished training; base class for codec and prior.

    `metrics` compare runs. Only the first process has them, and `store` with the checkpoints, which are kept until
    the result is safe.
    """

    result: TrainingResult
    metrics: Mapping[str, float] = field(default_factory=dict)
    recordings: int = 0
    tier: str = ""
    store: CheckpointStore = NO_CHECKPOINTS

    @property
    def made_of(self) -> str:
        """Number of usable recordings and tier, in words."""
        return f"{several(self.recordings, 'usable recording')}, tier {self.tier}"

    def clear_checkpoints(self) -> None:
        """Delete the checkpoints, once the result is safe."""
        self.store.clear()
