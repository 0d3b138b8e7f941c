"""MLflow as an observer of a training, whose failures never stop training."""

import logging
import math
import os
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from distill.errors import Interrupted
from distill.training.events import (
    Epoch,
    PriorEpochMetrics,
    Start,
    Step,
    TrainingResult,
    VQEpochMetrics,
    WatchMetrics,
)
from distill.training.mlflow_store import (
    client_of,
    dataset_of,
    experiment_of,
    monitor_of,
    named_store,
    tracking_uri,
)

logger = logging.getLogger(__name__)

MODEL = "model"  # folder of the model file in the artefacts of its run
MAX_PARAM_LENGTH = 500


def track_model(root: Path | None, fingerprint: str, model: Path) -> None:
    """Add a model file to the run that trained its prior, and register it as the newest version of its model."""
    tracker = FinishedRun(root, "train_prior", fingerprint)
    tracker.artifact(model, MODEL)
    tracker.attempt(lambda: tracker.register(model.stem))


def track_audition(
    root: Path | None,
    fingerprint: str,
    metrics: Mapping[str, float],
    settings: Mapping[str, Any],
    folder: Path,
) -> None:
    """Add an audition to the run that trained the prior: its metrics, its settings and the folder of sounds.

    Auditions of a run are numbered. The number names the folder and the tag of each, and is the step of its metrics.
    """
    tracker = FinishedRun(root, "train_prior", fingerprint)
    tracker.attempt(lambda: tracker.audition(metrics, settings, folder))


class Tracker:
    """Observer that records a training as an MLflow run, which begins as soon as the store accepts a call.

    Used as a context, it ends the run as FINISHED, as KILLED if interrupted, or as FAILED. Without `root` there is a
    run only if MLFLOW_TRACKING_URI names a store; without `active` there is no run. `about` holds parameters that
    describe the inputs and do not decide the result. `derived` names the values of `params` that follow from others.
    The first failure is logged as a warning with its cause. After a failure the store is not called for a minute, and
    metrics wait.
    """

    def __init__(
        self,
        root: Path | None,
        stage: str,
        fingerprint: str,
        params: Mapping[str, Any] = MappingProxyType({}),
        active: bool = True,
        about: Mapping[str, Any] = MappingProxyType({}),
        derived: Collection[str] = (),
    ) -> None:
        self.root, self.stage, self.fingerprint = root or Path(), stage, fingerprint
        self.params, self.about, self.derived = params, about, derived
        self.off = not active or not (root or named_store())
        self._client: Any = None
        self._run_id = ""
        self._monitor = ExitStack()
        self._pending: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()
        self._next_try = 0.0
        self._warned = False

    def __enter__(self) -> Self:
        self.attempt(lambda: None)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        match error:
            case None:
                status = "FINISHED"
            case Interrupted() | KeyboardInterrupt():
                status = "KILLED"
            case _:
                status = "FAILED"
        self._next_try = 0.0
        self._monitor.close()
        self.flush()
        self.attempt(lambda: self._client.set_terminated(self._run_id, status=status))

    def __call__(self, event: object) -> None:
        """Record an event: metrics by epoch, losses and probes by step as `step/...`, remarks at the end."""
        match event:
            case Start():
                self._epoch(event.metrics, 0)
            case Step() if event.step % 10 == 0:
                self.metrics(
                    {f"step/{name}": value for name, value in event.losses.items()}, event.step
                )
            case Epoch():
                self._epoch(event.all_metrics, event.epoch + 1)
            case VQEpochMetrics():
                self.metrics({"overfitting_gap": event.overfitting_gap}, event.epoch + 1)
            case PriorEpochMetrics():
                self.metrics({"best_perplexity": event.best_perplexity}, event.epoch + 1)
            case WatchMetrics():
                values = {
                    event.figure: event.value,
                    "change": event.change,
                    "threshold": event.threshold,
                }
                self.metrics(
                    {f"step/watch_{name}": value for name, value in values.items()}, event.step
                )
                self.metrics(event.inspected, event.step)
            case TrainingResult():
                self.metrics(event.counts, 0)
                if event.remarks:
                    remarks = "\n".join(event.remarks)
                    self.attempt(
                        lambda: self._client.set_tag(self._run_id, "distill.remarks", remarks)
                    )

    def _epoch(self, values: Mapping[str, float], number: int) -> None:
        """Queue metrics of epoch `number`, 0 for the initial weights, and again for MLflow's first charts."""
        # MLflow groups charts by the part of the name before the slash, in alphabetical order; other names come last.
        charts = {
            "train_loss": "Loss/train",
            "val_loss": "Loss/val",
            "val_perplexity": "Perplexity/val",
        }
        first = {chart: values[name] for name, chart in charts.items() if name in values}
        self.metrics({**values, **first}, number)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Queue metrics without NaN and infinite values. The queue is sent every few seconds."""
        now = int(time.time() * 1000)
        self._pending += [
            (key, float(value), now, step) for key, value in values.items() if math.isfinite(value)
        ]
        if time.monotonic() - self._flushed > 5.0:
            self.flush()

    def flush(self) -> None:
        """Send the queued metrics."""

        def send() -> None:
            from mlflow.entities import Metric

            while batch := self._pending[:1000]:
                self._client.log_batch(self._run_id, metrics=[Metric(*values) for values in batch])
                del self._pending[: len(batch)]

        self._flushed = time.monotonic()
        self.attempt(send)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file, or the contents of a folder, to a folder of the run's artefacts."""
        log = "log_artifacts" if path.is_dir() else "log_artifact"
        self.attempt(lambda: getattr(self._client, log)(self._run_id, str(path), folder or None))

    def log_best(self, metrics: Mapping[str, float], about: Mapping[str, Any]) -> None:
        """Add the metrics of the kept weights, as `best/...` at their epoch, and parameters known only at the end."""
        self.metrics(
            {f"best/{name}": value for name, value in metrics.items()}, int(metrics["epoch"])
        )
        self.attempt(lambda: self._log_params(about))

    def attempt(self, action: Callable[[], object]) -> None:
        """Begin the run if necessary, then call `action`. Errors of the store become a warning."""
        if self.off or time.monotonic() < self._next_try:
            return
        try:
            if not self._run_id:
                self._client = client_of(tracking_uri(self.root))
                self._begin(experiment_of(self._client, self.root))
            if self._run_id:
                action()
        except Exception as error:
            self._next_try = time.monotonic() + 60.0
            if not self._warned:
                logger.warning(
                    "MLflow tracking stopped at %s (%s: %s); training continues without it",
                    tracking_uri(self.root),
                    type(error).__name__,
                    " ".join(str(error).split())[:300],
                )
            self._warned = True

    def _begin(self, experiment: str) -> None:
        """Resume the interrupted run with this fingerprint, or start a run; record tags and parameters."""
        interrupted = (run for run in self._earlier(experiment) if run.info.status != "FINISHED")
        run = next(interrupted, None) or self._new_run(experiment)
        self._client.update_run(run.info.run_id, status="RUNNING")
        self._run_id = run.info.run_id
        revision = {
            key: value[:12] for key, value in run.data.tags.items() if key == "dvc.baseline_rev"
        }
        self._log_params({**self.params, **self.about, **revision})
        self._monitor.callback(monitor_of(self._run_id, tracking_uri(self.root)).finish)

    def _new_run(self, experiment: str) -> Any:
        run = self._client.create_run(
            experiment, tags=self._tags(), run_name=self._name(experiment)
        )
        self._client.log_inputs(
            run.info.run_id, [dataset_of(self.about)] if "corpus.path" in self.about else []
        )
        return run

    def _earlier(self, experiment: str) -> list[Any]:
        """The newest run with this stage and fingerprint, as a list of at most one."""
        query = f"tags.`dvc.stage` = '{self.stage}' and tags.`distill.fingerprint` = '{self.fingerprint}'"
        return list(self._client.search_runs([experiment], query, max_results=1))

    def _name(self, experiment: str) -> str:
        """Name of the run: its settings that differ from the first run of the stage, the stage and the experiment.

        Without differences it ends with the fingerprint. MLflow's tables show twenty characters, so chosen settings
        come before derived settings.
        """
        named = [
            self.stage,
            os.environ.get("DVC_EXP_NAME") or os.environ.get("DISTILL_RUN_NAME") or "",
        ]
        now = {**self.params, **self.about}
        keys = sorted(now, key=lambda key: (key in self.derived, key in self.about))
        query, changes = f"tags.`dvc.stage` = '{self.stage}'", []
        for first in self._client.search_runs(
            [experiment], query, max_results=1, order_by=["start_time ASC"]
        ):
            before = first.data.params
            changes = [
                f"{key}={now[key]}"
                for key in keys
                if before.get(key) != str(now[key])[:MAX_PARAM_LENGTH]
            ]
        shown = [*changes[:4], "…"] if len(changes) > 4 else changes
        return " ".join(
            filter(None, [*shown, *named] if changes else [*named, self.fingerprint[:7]])
        )

    def _log_params(self, params: Mapping[str, Any]) -> None:
        """Add the parameters that the run does not have yet."""
        there = self._client.get_run(self._run_id).data.params
        for key, value in sorted(params.items()):
            if key not in there:
                self._client.log_param(self._run_id, key, str(value)[:MAX_PARAM_LENGTH])

    def _tags(self) -> dict[str, str]:
        tags = {
            "dvc.stage": self.stage,
            "dvc.exp_name": os.environ.get("DVC_EXP_NAME", ""),
            "dvc.baseline_rev": os.environ.get("DVC_EXP_BASELINE_REV") or _git_revision(self.root),
            "distill.fingerprint": self.fingerprint,
        }
        return {key: value for key, value in tags.items() if value}


class FinishedRun(Tracker):
    """The newest run of a finished training, to add what was made of its result."""

    def _begin(self, experiment: str) -> None:
        """Find the run. Without it nothing is tracked."""
        for run in self._earlier(experiment):
            self._run_id = run.info.run_id
        if not self._run_id:
            self.off = True
            logger.warning(
                "MLflow has no run of %s with this fingerprint: nothing is added to it", self.stage
            )

    def register(self, name: str) -> None:
        """Register the run's model file as the newest version of a model. Raises what MLflow raises."""
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):  # it exists already
            self._client.create_registered_model(name)
        folder = f"{self._client.get_run(self._run_id).info.artifact_uri}/{MODEL}"
        version = self._client.create_model_version(name, folder, self._run_id)
        self._client.set_registered_model_alias(name, "newest", version.version)

    def audition(
        self, metrics: Mapping[str, float], settings: Mapping[str, Any], folder: Path
    ) -> None:
        """See `track_audition`. Raises what MLflow raises."""
        number = len(self._client.list_artifacts(self._run_id, "audition"))
        self._client.log_artifacts(self._run_id, str(folder), f"audition/{number}")
        text = " ".join(f"{name}={value}" for name, value in settings.items())
        self._client.set_tag(self._run_id, f"distill.audition.{number}", text)
        self.metrics({f"audition/{name}": value for name, value in metrics.items()}, number)
        self.flush()


def _git_revision(root: Path) -> str:
    command = ["git", "rev-parse", "HEAD"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    return ""
