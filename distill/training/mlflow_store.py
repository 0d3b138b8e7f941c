"""MLflow's store of runs: where it is, how its database is made, and the command that shows it."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from distill.storage.files import atomic_path

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
