"""MLflow's store of a project: its database, client, experiment and page, and what MLflow calls a dataset."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from distill.storage.files import atomic_path

logger = logging.getLogger(__name__)

EXPERIMENT = "distill"
SQLITE = "sqlite:///"

# The table of runs that a link opens: the best priors first. MLflow keeps this, as a shared view, in a tag.
VIEW = "best"
BEST = tuple(
    f"metrics.`best/{name}`" for name in ("val_bits_per_second", "val_perplexity", "epoch")
)
COLUMNS = (*BEST, *(f"metrics.`audition/{verdict}`" for verdict in ("new", "close", "copies")))
TABLE = {
    "orderByKey": BEST[0],
    "orderByAsc": True,
    "selectedColumns": COLUMNS,
    "columnOrder": COLUMNS,
    "columnWidths": dict.fromkeys(BEST[:2], 190),  # as wide as their names
}

# No telemetry; give up after seconds instead of minutes on a server that is down, or that takes calls without an answer.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def named_store() -> str:
    """URI of the store that the environment names, "" where the project has its own."""
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def tracking_uri(root: Path) -> str:
    """URI of the store: MLFLOW_TRACKING_URI if set, else a SQLite file in `root` (MLflow refuses plain folders)."""
    return named_store() or f"{SQLITE}{root.resolve() / 'mlflow.db'}"


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
    return _client(uri)


def _client(uri: str) -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(
        logging.CRITICAL
    )  # it prints tracebacks of what it raises
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def experiment_name() -> str:
    """Name of the experiment: MLFLOW_EXPERIMENT_NAME if set, else `distill`."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def find_experiment(client: Any) -> Any:
    """The experiment of MLFLOW_EXPERIMENT_ID if set, else the experiment `experiment_name`; None before the first
    run.

    Raises what MLflow raises, for an id that the store does not have.
    """
    number = os.environ.get("MLFLOW_EXPERIMENT_ID")
    return (
        client.get_experiment(number)
        if number
        else client.get_experiment_by_name(experiment_name())
    )


def experiment_of(client: Any, root: Path) -> str:
    """Id of the experiment of a project, made when it is first asked for. Raises what MLflow raises.

    MLflow notes absolute paths of artefacts and cannot change them: in a project that was moved or copied the earlier
    experiment gets another name, so that new artefacts are with their project.
    """
    name, experiment = experiment_name(), find_experiment(client)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
        logger.warning(
            "MLflow: the experiment %s was deleted; it is restored with its runs, to record this one",
            experiment.name,
        )
    if os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return str(experiment.experiment_id)
    if warn_of_move(client, root):
        client.rename_experiment(
            experiment.experiment_id, f"{name} in {experiment.artifact_location}"
        )
        if back := client.get_experiment_by_name(
            f"{name} in {_artifacts_in(root)}"
        ):  # the project is where it was
            client.rename_experiment(back.experiment_id, name)
    if experiment := client.get_experiment_by_name(name):
        return str(experiment.experiment_id)
    location = None if named_store() else _artifacts_in(root)
    # Without the tag the UI shows the experiment as one of language models, its runs behind "Evaluations".
    kind = {"mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(name, artifact_location=location, tags=kind))


def warn_of_move(client: Any, root: Path) -> bool:
    """Say what to do where the artefacts are noted in another folder, as the project was moved. Whether they are."""
    experiment = None if named_store() else find_experiment(client)
    location = getattr(experiment, "artifact_location", "")
    before = Path(url2pathname(urlsplit(location).path))
    is_noted = location.startswith("file:") and location.endswith("/mlruns")
    is_elsewhere = is_noted and before.resolve() != (root / "mlruns").resolve()
    if is_elsewhere:
        logger.warning(
            "MLflow: expected the artefacts of all runs in %s, found that earlier runs have theirs in %s, where this project "
            "or its original was; new runs begin another experiment; if that folder is gone, `ln -s '%s' '%s'` shows the "
            "files of earlier runs, too",
            *[root.resolve(), before.parent] * 2,
        )
    return is_elsewhere


def _artifacts_in(root: Path) -> str:
    """Where the artefacts of the store in a folder are, as MLflow names it."""
    return (root.resolve() / "mlruns").as_uri()


def page_command(root: Path, port: int) -> list[str]:
    """The command that serves MLflow's page of the store of a folder on this computer; its database is made first."""
    uri = tracking_uri(root)
    warn_of_move(client_of(uri), root)
    flags = [
        "--default-artifact-root",
        str(root / "mlruns"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    return [sys.executable, "-P", "-m", "mlflow", "ui", "--backend-store-uri", uri, *flags]


def runs_address(root: Path, port: int) -> str:
    """Address of MLflow's table of runs, the best first; of its first page before the first run."""
    client, address = client_of(tracking_uri(root)), f"http://127.0.0.1:{port}"
    experiment = find_experiment(client)
    if experiment is None:
        return address
    client.set_experiment_tag(
        experiment.experiment_id, f"mlflow.sharedViewState.{VIEW}", json.dumps(TABLE)
    )
    return f"{address}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


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

    logging.getLogger("mlflow.system_metrics").setLevel(
        logging.CRITICAL
    )  # a failing store is reported once, by us
    make: Any = SystemMetricsMonitor  # it has no types
    monitor = make(run_id, resume_logging=True, tracking_uri=uri)
    monitor.start()
    return monitor
