"""Entry point of `make ui`: serve MLflow's page of the runs, on port 5000 or on that of the variable PORT."""

import os
import sys
from pathlib import Path

from distill.errors import ParamsError, for_the_user
from distill.training.mlflow_store import page_command


def main() -> None:
    """Become MLflow's server, or exit with status 2 after a sentence where it cannot."""
    port = os.environ.get("PORT") or "5000"
    try:
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
            raise ParamsError(f"PORT: expected a number from 1 to 65535, found {port!r}")
        command = page_command(Path(), int(port))
    except Exception as error:
        if known := for_the_user(error):
            print(f"distill: {known}", file=sys.stderr)
            sys.exit(known.exit_code)
        raise
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
