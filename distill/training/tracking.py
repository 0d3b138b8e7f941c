"""Observers of a training: the console with the status files, a caller's own function, and MLflow.

A failure of MLflow never stops training.
"""

import json
import logging
import math
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

from distill.errors import Interrupted
from distill.progress import ProgressReport
from distill.storage.files import atomic_path
from distill.training.events import (
    Epoch,
    PriorEpochMetrics,
    RollbackEvent,
    Step,
    TrainingResult,
    VQEpochMetrics,
    WatchMetrics,
)

logger = logging.getLogger(__name__)

EXPERIMENT = "distill"
FLUSH_SECONDS = 5.0
STEPS_BETWEEN_POINTS = 10
MAX_PARAM_LENGTH = 500
WAIT = 60.0  # seconds until a store that failed is tried again
SQLITE = "sqlite:///"
MODEL, NEWEST = "model", "newest"  # folder of the model file in its run, and its alias in MLflow's models
SHOWN_CHANGES = 4  # in the name of a run
PLACES = {  # columns of MLflow's database that say where artefacts lie
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}

# No telemetry; give up after seconds instead of minutes on a server that is down, or that takes calls without an answer.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


Observer = Callable[[Any], object]
"""Gets every event of a training, in order: those of `Trainer`, each followed by those of its task."""


def public_events(callback: Callable[[Any], None]) -> Observer:
    """Observer that gives a caller's function the public events alone."""
    return lambda event: None if isinstance(event, Step | Epoch | TrainingResult) else callback(event)


class ToConsole:
    """The progress line, rollbacks, remarks, and the status files. A training that has more to say extends it."""

    label = "training"

    def __init__(self, progress: ProgressReport) -> None:
        self.progress = progress
        self._done, self._total, self._text, self._probe = 0, 0, "", ""

    def __call__(self, event: object) -> None:
        """See `Observer`. The last step's line waits for the last epoch's metrics."""
        match event:
            case Step():
                self._done, self._total = event.step, event.total_steps
                self._text = self._text or f"loss {event.losses['train_loss']:.3f}"
                if self._done < self._total:
                    self._show()
            case Epoch():
                self._text = f"epoch {event.epoch + 1}: {self.epoch_text(event)}"
                self._show()
                self.progress.status.metrics(metrics_of(event), event.epoch)
            case VQEpochMetrics() | PriorEpochMetrics():
                self.progress.status.event(event)
            case WatchMetrics():
                self._probe = f"; probe {event.value:.3g} ({event.change:+.0%})"
            case RollbackEvent():
                self.progress.say(event.message)
            case TrainingResult():
                for remark in event.remarks:  # the summary at the end of a command has them, too
                    self.progress.status.say(remark)

    def epoch_text(self, epoch: Epoch) -> str:
        """An epoch in a few words."""
        return f"loss {epoch.metrics['train_loss']:.3f}, held out {epoch.metrics['val_loss']:.3f}"

    def _show(self) -> None:
        if self._total:
            self.progress(self._done, self._total, self._text + self._probe)


def metrics_of(epoch: Epoch) -> dict[str, float]:
    """The metrics of an epoch with its time and learning rate."""
    return {**epoch.metrics, "learning_rate": epoch.learning_rate, "epoch_time_s": epoch.epoch_time_s}


def tracking_uri(root: Path) -> str:
    """URI of the store: MLFLOW_TRACKING_URI if set, else a SQLite file in `root` (MLflow refuses plain folders)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{root.resolve() / 'mlflow.db'}"


def database_of(uri: str) -> Path | None:
    """The SQLite file of a store; None for a server or another database."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def client_of(uri: str) -> Any:
    """MLflow's client of a store. Its SQLite file is made first, whole or not at all. Raises what MLflow raises.

    MLflow makes it table by table, and neither mends half of one nor waits for another process that makes it.
    """
    database = database_of(uri)
    if database is not None and not database.exists():
        with atomic_path(database, replaces=False) as temporary:
            _client(f"{SQLITE}{temporary}").search_experiments(max_results=1)
    client = _client(uri)
    if database is not None and not os.environ.get("MLFLOW_TRACKING_URI"):
        _bring_artifacts_along(client, database)
    return client


def _bring_artifacts_along(client: Any, database: Path) -> None:
    """Let a database that was moved or copied name the artefacts that came with it: MLflow keeps absolute paths."""
    found, now = client.get_experiment_by_name(EXPERIMENT), artifacts_in(database.parent)
    before = now if found is None else found.artifact_location
    if before == now or not (before.startswith("file:") and before.endswith("/mlruns")):
        return
    with closing(sqlite3.connect(database, timeout=WAIT)) as connection, connection:
        for table, columns in PLACES.items():
            for column in columns:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (now, len(before) + 1, len(before), before),
                )


def artifacts_in(root: Path) -> str:
    """Where the artefacts of the store in a folder lie, as MLflow names it."""
    return (root.resolve() / "mlruns").as_uri()


def _client(uri: str) -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints tracebacks of what it raises
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def page_command(root: Path, port: int) -> list[str]:
    """The command that serves MLflow's page of the store of a folder on this computer; its database is made first."""
    uri = tracking_uri(root)
    client_of(uri)
    flags = ["--default-artifact-root", str(root / "mlruns"), "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, *flags]


def dataset_of(about: Mapping[str, Any]) -> Any:
    """MLflow's record of the corpus that a training is about."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    counts = {name: about[name] for name in ("recordings", "sample_rate") if name in about}
    corpus = Dataset(
        name=Path(about["corpus.path"]).name,
        digest=about["corpus_sha256"],
        source_type="local",
        source=json.dumps({"uri": about["corpus.path"]}),
        profile=json.dumps(counts),
    )
    return DatasetInput(corpus, [InputTag("mlflow.data.context", "training")])


def monitor_of(run_id: str, uri: str) -> Any:
    """MLflow's thread that adds the load of the computer to a run, every ten seconds."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)  # a store that fails is said once, by us
    make: Any = SystemMetricsMonitor  # it has no types
    monitor = make(run_id, resume_logging=True, tracking_uri=uri)
    monitor.start()
    return monitor


def track_model(root: Path | None, fingerprint: str, model: Path) -> None:
    """Add a model file to the run that trained its prior, and to MLflow's models, the newest under an alias."""
    tracker = Tracker(root, "train_prior", fingerprint)
    tracker.artifact(model, MODEL)
    tracker.attempt(lambda: tracker.register(model.stem))


def track_audition(
    root: Path | None, fingerprint: str, figures: Mapping[str, float], settings: Mapping[str, Any], folder: Path
) -> None:
    """Add an audition of a model, its metrics, settings and the folder of sounds, to the run that trained its prior.

    A later one does not replace it: each has a folder and a tag with its number, which is the step of its metrics.
    """
    tracker = Tracker(root, "train_prior", fingerprint)
    tracker.attempt(lambda: tracker.audition(figures, settings, folder))


class Tracker:
    """An MLflow run, and the observer that it is filled by; it begins with the first call that a store takes.

    As a context it is FINISHED when it ends, KILLED when it is interrupted, FAILED otherwise. With `root` None there is a
    run only where MLFLOW_TRACKING_URI names a store; where `active` is False there is none. Without `params` it is the
    newest run with this stage and fingerprint, to add to it. `about` are parameters that say what it is made of and do
    not decide its result; `derived` are those of `params` that follow from others. The first failure is logged as a
    warning with its cause. A store that failed is left alone for a minute; metrics are kept for it until then.
    """

    def __init__(
        self,
        root: Path | None,
        stage: str,
        fingerprint: str,
        params: Mapping[str, Any] | None = None,
        active: bool = True,
        about: Mapping[str, Any] | None = None,
        derived: Collection[str] = (),
    ) -> None:
        self.root, self.stage, self.fingerprint, self.params = root or Path(), stage, fingerprint, params
        self.about, self.derived, self._monitor = about or {}, derived, None
        self.off = not active or (root is None and not os.environ.get("MLFLOW_TRACKING_URI"))
        self._client: Any = None
        self._run_id = ""
        self._pending: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()
        self._next_try = 0.0
        self._warned = False

    def __enter__(self) -> Self:
        self.attempt(lambda: None)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        is_asked = isinstance(error, Interrupted | KeyboardInterrupt)
        status = "FINISHED" if error is None else "KILLED" if is_asked else "FAILED"
        self._next_try = 0.0
        if self._monitor is not None:
            self._monitor.finish()
        self.flush()
        self.attempt(lambda: self._client.set_terminated(self._run_id, status=status))

    def __call__(self, event: object) -> None:
        """See `Observer`: metrics by epoch, losses and probes by step as `step/...`, and the remarks at the end."""
        match event:
            case Step() if event.step % STEPS_BETWEEN_POINTS == 0:
                self.metrics({f"step/{name}": value for name, value in event.losses.items()}, event.step)
            case Epoch():
                self.metrics(metrics_of(event), event.epoch)
            case VQEpochMetrics():
                self.metrics({"overfitting_gap": event.overfitting_gap}, event.epoch)
            case PriorEpochMetrics():
                self.metrics({"best_perplexity": event.best_perplexity}, event.epoch)
            case WatchMetrics():
                values = {event.figure: event.value, "change": event.change, "threshold": event.threshold}
                self.metrics({f"step/watch_{name}": value for name, value in values.items()}, event.step)
                self.metrics(event.inspected, event.step)
            case TrainingResult():
                self.metrics(event.counts, 0)
                if event.remarks:
                    remarks = "\n".join(event.remarks)
                    self.attempt(lambda: self._client.set_tag(self._run_id, "distill.remarks", remarks))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Queue metrics, which are sent in batches every few seconds. NaN and infinite values are left out."""
        now = int(time.time() * 1000)
        self._pending += [(key, float(value), now, step) for key, value in values.items() if math.isfinite(value)]
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send the queued metrics."""

        def send() -> None:
            from mlflow.entities import Metric

            while batch := self._pending[:1000]:
                self._client.log_batch(self._run_id, metrics=[Metric(*values) for values in batch])
                del self._pending[: len(batch)]

        self._flushed = time.monotonic()
        if self._pending:
            self.attempt(send)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file or a folder to the run."""
        log = "log_artifacts" if path.is_dir() else "log_artifact"
        self.attempt(lambda: getattr(self._client, log)(self._run_id, str(path), folder or None))

    def kept(self, figures: Mapping[str, float], about: Mapping[str, Any]) -> None:
        """Add the metrics of the weights that are kept, as `best/...`, and parameters that are known at the end."""
        self.metrics({f"best/{name}": value for name, value in figures.items()}, 0)
        self.attempt(lambda: self._log_params(about))

    def register(self, name: str) -> None:
        """Make the model file of the run the newest version of a model in MLflow. Raises what MLflow raises."""
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):  # it is there
            self._client.create_registered_model(name)
        folder = f"{self._client.get_run(self._run_id).info.artifact_uri}/{MODEL}"
        version = self._client.create_model_version(name, folder, self._run_id)
        self._client.set_registered_model_alias(name, NEWEST, version.version)

    def audition(self, figures: Mapping[str, float], settings: Mapping[str, Any], folder: Path) -> None:
        """See `track_audition`. Raises what MLflow raises."""
        number = len(self._client.list_artifacts(self._run_id, "audition"))
        self._client.log_artifacts(self._run_id, str(folder), f"audition/{number}")
        said = " ".join(f"{name}={value}" for name, value in settings.items())
        self._client.set_tag(self._run_id, f"distill.audition.{number}", said)
        self.metrics({f"audition/{name}": value for name, value in figures.items()}, number)
        self.flush()

    def attempt(self, action: Callable[[], object]) -> None:
        """Begin the run if it has not begun, and do something with it. Whatever the store does, training goes on."""
        if self.off or time.monotonic() < self._next_try:
            return
        try:
            if not self._run_id:
                self._begin()
            if self._run_id:
                action()
        except Exception as error:
            self._next_try = time.monotonic() + WAIT
            if not self._warned:
                logger.warning(
                    "MLflow tracking stopped at %s (%s: %s); training continues without it",
                    tracking_uri(self.root),
                    type(error).__name__,
                    " ".join(str(error).split())[:300],
                )
            self._warned = True

    def _begin(self) -> None:
        """Start a run with the stage's tags and resolved parameters, or resume the one that was interrupted."""
        self._client = client_of(tracking_uri(self.root))
        query = f"tags.`dvc.stage` = '{self.stage}' and tags.`distill.fingerprint` = '{self.fingerprint}'"
        run = next(iter(self._client.search_runs([self._experiment()], query, max_results=1)), None)
        if self.params is None:
            if run is None:
                self.off = True
                logger.warning("MLflow has no run of %s with this fingerprint: nothing is added to it", self.stage)
        elif run is not None and run.info.status != "FINISHED":
            self._client.update_run(run.info.run_id, status="RUNNING")
        else:
            run = self._client.create_run(self._experiment(), tags=self._tags(), run_name=self._name())
            self._client.log_inputs(run.info.run_id, [dataset_of(self.about)] if "corpus.path" in self.about else [])
        if run is not None:
            self._run_id = run.info.run_id
            if self.params is not None:
                revision = {key: rev[:12] for key, rev in run.data.tags.items() if key == "dvc.baseline_rev"}
                self._log_params({**self.params, **self.about, **revision})
                self._monitor = monitor_of(self._run_id, tracking_uri(self.root))

    def _name(self) -> str:
        """What differs from the first run of the stage, the stage and the experiment; else stage and fingerprint.

        MLflow's tables show twenty characters of it: what was asked for is first, what follows from that is last.
        """
        named = [self.stage, os.environ.get("DVC_EXP_NAME") or os.environ.get("DISTILL_RUN_NAME") or ""]
        now = {**(self.params or {}), **self.about}
        keys = sorted(now, key=lambda key: (key in self.derived, key in self.about))
        query, changes = f"tags.`dvc.stage` = '{self.stage}'", []
        for first in self._client.search_runs([self._experiment()], query, max_results=1, order_by=["start_time ASC"]):
            before = first.data.params
            changes = [f"{key}={now[key]}" for key in keys if before.get(key) != str(now[key])[:MAX_PARAM_LENGTH]]
        shown = [*changes[:SHOWN_CHANGES], "…"] if len(changes) > SHOWN_CHANGES else changes
        return " ".join(filter(None, [*shown, *named] if changes else [*named, self.fingerprint[:7]]))

    def _log_params(self, params: Mapping[str, Any]) -> None:
        """Add those parameters of the run that it does not have."""
        there = self._client.get_run(self._run_id).data.params
        for key, value in sorted(params.items()):
            if key not in there:
                self._client.log_param(self._run_id, key, str(value)[:MAX_PARAM_LENGTH])

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        location = None if os.environ.get("MLFLOW_TRACKING_URI") else artifacts_in(self.root)
        # Without the tag the UI shows the experiment as one of language models, its runs behind "Evaluations".
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(self._client.create_experiment(EXPERIMENT, artifact_location=location, tags=kind))

    def _tags(self) -> dict[str, str]:
        tags = {
            "dvc.stage": self.stage,
            "dvc.exp_name": os.environ.get("DVC_EXP_NAME", ""),
            "dvc.baseline_rev": os.environ.get("DVC_EXP_BASELINE_REV") or _git_revision(self.root),
            "distill.fingerprint": self.fingerprint,
        }
        return {key: value for key, value in tags.items() if value}


def _git_revision(root: Path) -> str:
    command = ["git", "rev-parse", "HEAD"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return ""
