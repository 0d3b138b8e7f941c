"""Runs a campaign of this folder as a program of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).parents[1]


def printed_by(module: str, *arguments: str, within: Sequence[str] = (), **environment: str) -> str:
    """What `python -m MODULE` prints, without settings of ours in its environment, `within` another command.

    It is printed again, for those who look at a campaign's figures.
    """
    kept = {name: v for name, v in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "DISTILL_"))}
    done = subprocess.run(
        [*within, sys.executable, "-m", module, *arguments],
        env={**kept, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return done.stdout
