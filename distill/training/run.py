"""One run of a training, the same for codec and prior: processes, tracking, checkpoints, signals, stop file, artefact."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from lightning_fabric import Fabric

from distill.code_version import code_sha256
from distill.execution import Execution
from distill.progress import ProgressReport
from distill.storage.files import canonical_json, sha256_text
from distill.training.artifact import WEIGHTS, fingerprint
from distill.training.checkpoints import CheckpointStore
from distill.training.fabric import make_fabric
from distill.training.folders import RunFolders
from distill.training.interruption import Interruption, StopFile, catch_interruption, watch_for_stop
from distill.training.metrics_log import METRICS_LOG
from distill.training.task import TrainingResult
from distill.training.tracking import Tracker, tracked


@dataclass(frozen=True, eq=False)
class RunContext:
    """What a job trains with."""

    fabric: Fabric
    store: CheckpointStore
    tracker: Tracker
    progress: ProgressReport
    interruption: Interruption
    stop: StopFile

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.fabric.global_rank == 0


class Trained(Protocol):
    """What a job trained."""

    @property
    def result(self) -> TrainingResult:
        """How the training went."""


T = TypeVar("T", bound=Trained)


class Job(ABC, Generic[T]):
    """What differs between trainings. `inputs` are hashes, `settings` the resolved ones: they decide the result."""

    stage: str
    label: str  # of the progress bar
    recordings: int
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]

    @abstractmethod
    def train(self, run: RunContext) -> T:
        """Train, on every process."""

    @abstractmethod
    def save(self, trained: T, folder: Path, mark: str) -> dict[str, float]:
        """Write the artefact `folder` with the fingerprint `mark`, on the first process alone. Returns the figures."""

    def measure(self, trained: T, run: RunContext) -> dict[str, float]:  # noqa: ARG002
        """More figures, which every process helps to measure."""
        return {}


@dataclass(frozen=True, eq=False)
class FinishedRun(Generic[T]):
    """A training that reached its end, and the figures that compare runs; no figures but on the first process."""

    trained: T
    figures: Mapping[str, float]
    recordings: int
    tier: str
    is_first: bool
    _store: CheckpointStore

    def conclude(self, keep: Callable[[Mapping[str, float]], None] | None = None) -> None:
        """Hand the figures to `keep` and forget the checkpoints, once the result is safe; on the first process alone."""
        if self.is_first:
            if keep is not None:
                keep(self.figures)
            self._store.clear()


def checkpoint_key(stage: str, mark: str) -> str:
    """Name of the checkpoints of a stage's run with this fingerprint; other code or another torch has others."""
    values = {"fingerprint": mark, "code": code_sha256(stage), "torch": torch.__version__}
    return sha256_text(canonical_json(values))[:24]


def run_training(
    make_job: Callable[[], Job[T]], folder: Path, execution: Execution, folders: RunFolders
) -> FinishedRun[T]:
    """Train what `make_job` describes and write the artefact `folder`.

    Goes on from the checkpoints with the same inputs, settings and code. A file that appears at `folders.stop` ends
    training with the best weights so far. With several processes only the first one tracks, writes and prints. Raises
    Interrupted after saving.
    """
    fabric = make_fabric(execution)
    job = make_job()
    mark = fingerprint(job.stage, job.inputs, job.settings)
    store = CheckpointStore(folders.checkpoints / checkpoint_key(job.stage, mark))
    is_first = fabric.global_rank == 0
    parameters = {**job.settings, "recordings": job.recordings}
    figures: dict[str, float] = {}
    with (
        catch_interruption() as interruption,
        tracked(folders.tracking_root, job.stage, mark, parameters, is_first) as tracker,
        ProgressReport(job.label, quiet=not is_first) as progress,
    ):
        stop = watch_for_stop(folders.stop, progress)
        run = RunContext(fabric, store, tracker, progress, interruption, stop)
        trained = job.train(run)
        for remark in trained.result.remarks:
            progress.say(remark)
        measured = job.measure(trained, run)
        if is_first:
            tracker.metrics(measured, 0)
            figures = {**measured, **job.save(trained, folder, mark)}
            for name in (WEIGHTS, "config.json", METRICS_LOG):
                tracker.artifact(folder / name, "checkpoint")
            if (folder / "previews").is_dir():
                tracker.artifact(folder / "previews", "previews")
    return FinishedRun(trained, figures, job.recordings, str(job.settings["tier"]), is_first, store)
