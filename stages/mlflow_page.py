"""Entry point of `make mlflow`: serve MLflow's page of the runs, on port 5000 or the port in the variable PORT."""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from distill.errors import DistillError, ParamsError
from distill.text import one_line
from distill.training.mlflow_store import page_command, runs_address, tracking_uri
from stages.running import status_of

HOST = "127.0.0.1"


def serve() -> int:
    """Print the address of the runs and become MLflow's server; if MLFLOW_TRACKING_URI is a server, only print it.

    Raises ParamsError for an invalid port, and DistillError for a port in use or a store that MLflow cannot read.
    """
    uri = tracking_uri(Path())
    if uri.startswith(("http://", "https://")):
        print(f"MLFLOW_TRACKING_URI names a server, which shows the runs itself: open {uri}")
    else:
        _become_server(uri, _free_port(os.environ.get("PORT") or "5000"))
    return 0


def _become_server(uri: str, port: int) -> NoReturn:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        command, address = page_command(Path(), port), runs_address(Path(), port)
    except (MlflowException, SQLAlchemyError) as error:
        raise DistillError(
            f"{uri}: expected a store of this version of MLflow, found: {one_line(error)}; if a newer MLflow wrote it, "
            "install that one, if an older one did, copy it and run `mlflow db upgrade` with its address, else move it "
            "away"
        ) from None
    print(f"In a few seconds MLflow shows the runs, best first, at {address}", flush=True)
    os.execv(command[0], command)


def _free_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16):
        raise ParamsError(f"PORT: expected a number from 1 to 65535, found {text!r}")
    try:
        socket.create_server((HOST, int(text))).close()
    except OSError as error:
        raise DistillError(
            f"PORT: expected a port of {HOST} that is free, found {text} taken ({error.strerror}); take another one, "
            f"such as make mlflow PORT={int(text) % 60000 + 1}"
        ) from None
    return int(text)


if __name__ == "__main__":
    sys.exit(status_of(serve, "distill: "))
