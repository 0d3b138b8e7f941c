"""Run of a training, the same for codec and prior: processes, tracking, checkpoints, signals, stop file, artefact."""

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
    """Services of a run that a job trains with."""

    fabric: Fabric
    store: CheckpointStore
    tracker: Tracker
    progress: ProgressReport
    interruption: Interruption
    stop: StopFile

    def record(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Send the metrics of an epoch to MLflow and to those who watch the run."""
        self.tracker.metrics(metrics, epoch)
        self.progress.status.metrics(metrics, epoch)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes, of rank 0."""
        return self.fabric.global_rank == 0


class Trained(Protocol):
    """Result of a job."""

    @property
    def result(self) -> TrainingResult:
        """Result of the training loop."""


T = TypeVar("T", bound=Trained)


class Job(ABC, Generic[T]):
    """A training that `run_training` runs. `inputs` (hashes) and `settings` (resolved) decide its result."""

    stage: str
    label: str  # of the progress bar
    recordings: int
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]

    @abstractmethod
    def train(self, run: RunContext) -> T:
        """Train; called on every process."""

    @abstractmethod
    def save(self, trained: T, folder: Path, fingerprint: str) -> dict[str, float]:
        """Write the artefact `folder` and return its metrics; called on the first process alone."""

    def measure(self, trained: T, run: RunContext) -> dict[str, float]:  # noqa: ARG002
        """Measure more metrics; called on every process."""
        return {}


@dataclass(frozen=True, eq=False)
class FinishedRun(Generic[T]):
    """A complete training and the metrics that compare runs. Only the first process has metrics."""

    trained: T
    figures: Mapping[str, float]
    recordings: int
    tier: str
    is_first: bool
    _store: CheckpointStore

    def conclude(self, write: Callable[[Mapping[str, float]], None] | None = None) -> None:
        """Write the metrics with `write`, then delete the checkpoints; on the first process alone."""
        if self.is_first:
            if write is not None:
                write(self.figures)
            self._store.clear()


def checkpoint_key(stage: str, run_fingerprint: str) -> str:
    """Folder name of the checkpoints of a stage's run: a hash of its fingerprint, the code and torch's version."""
    values = {"fingerprint": run_fingerprint, "code": code_sha256(stage), "torch": torch.__version__}
    return sha256_text(canonical_json(values))[:24]


def run_training(
    make_job: Callable[[], Job[T]], folder: Path, execution: Execution, folders: RunFolders
) -> FinishedRun[T]:
    """Run the job that `make_job` makes and write the artefact `folder`.

    Resumes from checkpoints with the same inputs, settings and code. A file that appears at `folders.stop` ends
    training with the best weights so far. With several processes only the first one tracks, writes and prints. Raises
    Interrupted after saving.
    """
    fabric = make_fabric(execution)
    job = make_job()
    run_fingerprint = fingerprint(job.stage, job.inputs, job.settings)
    store = CheckpointStore(folders.checkpoints / checkpoint_key(job.stage, run_fingerprint))
    is_first = fabric.global_rank == 0
    parameters = {**job.settings, "recordings": job.recordings}
    figures: dict[str, float] = {}
    with (
        catch_interruption() as interruption,
        tracked(folders.tracking_root, job.stage, run_fingerprint, parameters, is_first) as tracker,
        ProgressReport(job.label, quiet=not is_first) as progress,
    ):
        stop = watch_for_stop(folders.stop, folders.earlier, progress)
        run = RunContext(fabric, store, tracker, progress, interruption, stop)
        trained = job.train(run)
        stop.clear()
        remarks = trained.result.remarks
        for remark in remarks:
            progress.say(remark)
        tracker.remarks(remarks)
        tracker.metrics(trained.result.counts, 0)
        measured = job.measure(trained, run)
        if is_first:
            tracker.metrics(measured, 0)
            figures = {**measured, **job.save(trained, folder, run_fingerprint)}
            for name in (WEIGHTS, "config.json", METRICS_LOG):
                tracker.artifact(folder / name, "checkpoint")
            if (folder / "previews").is_dir():
                tracker.artifact(folder / "previews", "previews")
                progress.status.keep(folder / "previews", "previews")
    return FinishedRun(trained, figures, job.recordings, str(job.settings["tier"]), is_first, store)
