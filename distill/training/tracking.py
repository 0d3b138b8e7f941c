"""MLflow: its store, and one run for each training stage. A failure of tracking never stops training."""

import logging
import math
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.errors import Interrupted
from distill.storage.files import atomic_path

logger = logging.getLogger(__name__)

EXPERIMENT = "distill"
FLUSH_SECONDS = 5.0
STEPS_BETWEEN_POINTS = 10
MAX_PARAM_LENGTH = 500
FIRST_WAIT, MOST_WAIT = 30.0, 600.0  # seconds until a store that failed is tried again
WAIT_TIMES = 10  # as long as the trial that failed took, at least
MOST_PENDING = 200_000  # metrics kept for a store that does not answer
SQLITE = "sqlite:///"

# No telemetry; give up after seconds instead of minutes on a server that is down, or that takes calls without an answer.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def tracking_uri(root: Path) -> str:
    """URI of the store: MLFLOW_TRACKING_URI if set, else a SQLite file in `root` (MLflow refuses plain folders)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{root.resolve() / 'mlflow.db'}"


def database_of(uri: str) -> Path | None:
    """The SQLite file of a store; None for a server or another database."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def make_database(uri: str) -> None:
    """Make a store's SQLite file, where it has none, whole or not at all.

    MLflow makes it table by table, and neither mends half of one nor waits for another process that makes it.
    """
    database = database_of(uri)
    if database is None or database.exists():
        return
    with atomic_path(database, replaces=False) as temporary:
        _client(f"{SQLITE}{temporary}").search_experiments(max_results=1)


def client_of(uri: str) -> Any:
    """MLflow's client of a store, whose database is made first. Raises what MLflow raises."""
    make_database(uri)
    return _client(uri)


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
    make_database(uri)
    flags = ["--default-artifact-root", str(root / "mlruns"), "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, *flags]


@contextmanager
def tracked(
    root: Path | None, stage: str, fingerprint: str, params: Mapping[str, Any], active: bool = True
) -> Iterator["Tracker"]:
    """Context of an MLflow run: FINISHED when it ends, KILLED when it is interrupted, FAILED otherwise.

    With `root` None there is a run only where MLFLOW_TRACKING_URI names a store. Where `active` is False there is none.
    """
    tracker = Tracker(root, stage, fingerprint)
    tracker.off = tracker.off or not active
    tracker.start(params)
    try:
        yield tracker
    except BaseException as error:
        tracker.finish("KILLED" if isinstance(error, Interrupted | KeyboardInterrupt) else "FAILED")
        raise
    tracker.finish()


def track_audition(root: Path | None, fingerprint: str, figures: Mapping[str, float], folder: Path) -> None:
    """Add the audition of a model, its metrics and the folder of sounds, to the run that trained its prior."""
    tracker = Tracker(root, "train_prior", fingerprint)
    tracker.resume_latest()
    tracker.metrics({f"audition/{name}": value for name, value in figures.items()}, 0)
    tracker.flush()
    tracker.artifact(folder, "audition")


class Tracker:
    """An MLflow run. What a store does not take is kept and sent again, in order, after longer and longer waits.

    The first failure is logged as a warning with its cause, and so is the return of the store. `finish` tries once more
    without a wait; what fails then is not recorded.
    """

    def __init__(self, root: Path | None, stage: str, fingerprint: str) -> None:
        self.root, self.stage, self.fingerprint = root or Path(), stage, fingerprint
        self._client: Any = None
        self._run_id = ""
        self._pending: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()
        self._unsent: deque[Callable[[], None]] = deque()
        self._wait, self._next_try = 0.0, 0.0  # seconds; a wait of 0 where nothing has failed
        self.off = root is None and not os.environ.get("MLFLOW_TRACKING_URI")

    def start(self, params: Mapping[str, Any]) -> None:
        """Start a run with the stage's tags and resolved parameters, or resume the one that was interrupted."""

        def begin() -> None:
            self._connect()
            run = self._latest_run()
            if run is not None and run.info.status != "FINISHED":
                self._client.update_run(run.info.run_id, status="RUNNING")
            else:
                called = os.environ.get("DVC_EXP_NAME") or os.environ.get("DISTILL_RUN_NAME")
                name = " ".join(part for part in (self.stage, called) if part)
                run = self._client.create_run(self._experiment(), tags=self._tags(), run_name=name)
            self._run_id = run.info.run_id
            for key in sorted(params.keys() - run.data.params.keys()):
                self._client.log_param(self._run_id, key, str(params[key])[:MAX_PARAM_LENGTH])

        self._send(begin)

    def resume_latest(self) -> None:
        """Select the newest run with this stage and fingerprint, to add to it."""

        def find() -> None:
            self._connect()
            run = self._latest_run()
            if run is not None:
                self._run_id = run.info.run_id
            else:
                self.off = True
                logger.warning("MLflow has no run of %s with this fingerprint: nothing is added to it", self.stage)

        self._send(find)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Queue metrics, which are sent in batches every few seconds. NaN and infinite values are left out."""
        now = int(time.time() * 1000)
        if len(self._pending) < MOST_PENDING:
            self._pending += [(key, float(value), now, step) for key, value in values.items() if math.isfinite(value)]
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def step(self, values: Mapping[str, float], step: int) -> None:
        """Queue the losses of every tenth step as `step/<name>`."""
        if step % STEPS_BETWEEN_POINTS == 0:
            self.metrics({f"step/{name}": value for name, value in values.items()}, step)

    def remarks(self, sentences: Sequence[str]) -> None:
        """Write sentences about the run into its tag `distill.remarks`."""
        if sentences:
            self._send(lambda: self._client.set_tag(self._run_id, "distill.remarks", "\n".join(sentences)))

    def flush(self) -> None:
        """Send the queued metrics, unless a store that failed is not to be tried again yet."""

        def send() -> None:
            from mlflow.entities import Metric

            for start in range(0, len(pending), 1000):
                batch = [Metric(*values) for values in pending[start : start + 1000]]
                self._client.log_batch(self._run_id, metrics=batch)

        self._flushed = time.monotonic()
        if self._pending and self._flushed >= self._next_try:
            pending, self._pending = self._pending, []
            self._send(send)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file or a folder to the run."""

        def copy() -> None:
            if path.is_dir():
                self._client.log_artifacts(self._run_id, str(path), folder or None)
            elif path.exists():  # it may be gone when a store comes back
                self._client.log_artifact(self._run_id, str(path), folder or None)

        self._send(copy)

    def finish(self, status: str = "FINISHED") -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        self._next_try = 0.0
        self.flush()  # where this fails, ending the run is not tried: a server that never answers takes long
        self._send(lambda: self._client.set_terminated(self._run_id, status=status))

    def _connect(self) -> None:
        self._client = client_of(tracking_uri(self.root))

    def _latest_run(self) -> Any:
        query = f"tags.`dvc.stage` = '{self.stage}' and tags.`distill.fingerprint` = '{self.fingerprint}'"
        runs = self._client.search_runs([self._experiment()], query, max_results=1)
        return runs[0] if runs else None

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        local = not os.environ.get("MLFLOW_TRACKING_URI")
        location = (self.root.resolve() / "mlruns").as_uri() if local else None
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

    def _send(self, action: Callable[[], None]) -> None:
        """Send all that is unsent and then this. Whatever a store does, training goes on."""
        if self.off:
            return
        self._unsent.append(action)
        while self._unsent and not self.off and time.monotonic() >= self._next_try:
            began = time.monotonic()
            try:
                self._unsent[0]()
            except Exception as error:
                self._postpone(error, time.monotonic() - began)
                return
            self._unsent.popleft()
            if self._wait and not self._unsent:
                self._wait = 0.0
                logger.warning("MLflow tracking goes on at %s; what was missing is sent", tracking_uri(self.root))

    def _postpone(self, error: Exception, took: float) -> None:
        if not self._wait:
            logger.warning(
                "MLflow tracking stopped at %s (%s: %s); training continues without it",
                tracking_uri(self.root),
                type(error).__name__,
                " ".join(str(error).split())[:300],
            )
        self._wait = min(MOST_WAIT, max(2 * self._wait, FIRST_WAIT, WAIT_TIMES * took))
        self._next_try = time.monotonic() + self._wait


def _git_revision(root: Path) -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
