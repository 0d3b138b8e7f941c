"""Entry point of `make ui`: serve MLflow's page of the runs, on port 5000 or on that of the variable PORT."""

import os
import sys
from pathlib import Path

from distill.errors import ParamsError
from distill.training.mlflow_store import page_command
from stages.running import status_of


def serve() -> int:
    """Become MLflow's server. Raises ParamsError for a wrong port."""
    port = os.environ.get("PORT") or "5000"
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ParamsError(f"PORT: expected a number from 1 to 65535, found {port!r}")
    command = page_command(Path(), int(port))
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(status_of(serve, "distill: "))
