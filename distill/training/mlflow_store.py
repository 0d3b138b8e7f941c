"""MLflow's store of a project: its database, client, experiment, page and dataset."""

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from distill.storage.files import atomic_path

logger = logging.getLogger(__name__)

SQLITE = "sqlite:///"
VIEW = "best"  # name of the shared view of the table of runs, which MLflow keeps in a tag

# No telemetry, and a time limit of seconds instead of minutes for a server that is down or does not answer.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def named_store() -> str:
    """URI of the store in MLFLOW_TRACKING_URI, "" if the project has its own store."""
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def tracking_uri(root: Path) -> str:
    """URI of the store: MLFLOW_TRACKING_URI if set, else a SQLite file in `root`, as MLflow refuses folders."""
    return named_store() or f"{SQLITE}{root.resolve() / 'mlflow.db'}"


def database_of(uri: str) -> Path | None:
    """SQLite file of a store; None for a server or another database."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def client_of(uri: str) -> Any:
    """MLflow's client of a store, whose SQLite file is made first if it is missing. Raises what MLflow raises.

    The file appears whole or not at all: MLflow creates it table by table, does not repair a partial one, and does
    not wait for another process that creates it.
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


def find_experiment(client: Any, root: Path) -> Any:
    """Find the experiment by MLFLOW_EXPERIMENT_ID if set, else by name; None before the first run.

    Raises what MLflow raises, for example for an id that the store does not have.
    """
    if number := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return client.get_experiment(number)
    here = client.get_experiment_by_name(_name_here(root))
    return here or client.get_experiment_by_name(_experiment_name())


def experiment_of(client: Any, root: Path) -> str:
    """Id of the experiment for new runs, which is made if necessary. Raises what MLflow raises.

    MLflow notes absolute paths of artefacts and cannot change them. So a project that was moved or copied begins
    another experiment, named by its folder, to have the artefacts of new runs in the project.
    """
    experiment = find_experiment(client, root)
    if experiment is None:
        return _create_experiment(client, _experiment_name(), root)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
        logger.warning(
            "MLflow: the experiment %s was deleted; it is restored with its runs, to record this one",
            experiment.name,
        )
    if warn_of_move(experiment, root):
        return _create_experiment(client, _name_here(root), root)
    return str(experiment.experiment_id)


def warn_of_move(experiment: Any, root: Path) -> bool:
    """Whether an experiment has its artefacts where this project was before it was moved; if so, say what to do."""
    location = experiment.artifact_location
    is_chosen = named_store() or os.environ.get("MLFLOW_EXPERIMENT_ID")
    if is_chosen or not re.fullmatch("file:.*/mlruns", location):
        return False
    before = Path(url2pathname(urlsplit(location).path)).parent
    is_elsewhere = before.resolve() != root.resolve()
    if is_elsewhere:
        logger.warning(
            "MLflow: expected the artefacts of all runs in %s, found that earlier runs have theirs in %s, where this "
            "project or its original was; new runs begin another experiment; if that folder is gone, `ln -s '%s' '%s'` "
            "shows the files of earlier runs, too",
            *[root.resolve(), before] * 2,
        )
    return is_elsewhere


def _experiment_name() -> str:
    """Name of the experiment: MLFLOW_EXPERIMENT_NAME if set, else `distill`."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "distill"


def _name_here(root: Path) -> str:
    """Name of the experiment in a project that was moved or copied to this folder."""
    return f"{_experiment_name()} in {root.resolve()}"


def _create_experiment(client: Any, name: str, root: Path) -> str:
    location = None if named_store() else (root.resolve() / "mlruns").as_uri()
    # Without this tag MLflow shows the experiment as one of language models, with its runs behind "Evaluations".
    kind = {"mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(name, artifact_location=location, tags=kind))


def page_command(root: Path, port: int) -> list[str]:
    """Command that serves MLflow's page for the store of a folder on this computer; makes its database first."""
    uri = tracking_uri(root)
    if experiment := find_experiment(client_of(uri), root):
        warn_of_move(experiment, root)
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
    """Address of MLflow's table of runs, best priors first; before the first run, of MLflow's first page."""
    client, address = client_of(tracking_uri(root)), f"http://127.0.0.1:{port}"
    experiment = find_experiment(client, root)
    if experiment is None:
        return address
    best = [f"best/{name}" for name in ("val_bits_per_second", "val_perplexity", "epoch")]
    auditions = [f"audition/{verdict}" for verdict in ("new", "close", "copies")]
    columns = [f"metrics.`{name}`" for name in (*best, *auditions)]
    table = {
        "orderByKey": columns[0],
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": dict.fromkeys(columns[:2], 190),  # as wide as their names
    }
    number = experiment.experiment_id
    client.set_experiment_tag(number, f"mlflow.sharedViewState.{VIEW}", json.dumps(table))
    view = f"workflowType=machine_learning&viewStateShareKey={VIEW}"
    return f"{address}/#/experiments/{number}/runs?{view}"


def dataset_of(about: Mapping[str, Any]) -> Any:
    """MLflow's record of a corpus, from the parameters `about` of a run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    counts = {name: about[name] for name in ("recordings", "sample_rate")}
    corpus = Dataset(
        name=Path(about["corpus.path"]).name,
        digest=about["corpus_sha256"],
        source_type="local",
        source=json.dumps({"uri": about["corpus.path"]}),
        profile=json.dumps(counts),
    )
    return DatasetInput(corpus, [InputTag("mlflow.data.context", "training")])


def monitor_of(run_id: str, uri: str) -> Any:
    """Start MLflow's thread that adds the computer's load to a run every ten seconds."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(
        logging.CRITICAL
    )  # a failing store is reported once, by us
    make: Any = SystemMetricsMonitor  # it has no types
    monitor = make(run_id, resume_logging=True, tracking_uri=uri)
    monitor.start()
    return monitor
