"""Campaigns of this folder as programs of their own, and what they say of a defect."""

import os
import subprocess
import sys
import traceback
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


def defect(error: Exception) -> str:
    """An exception that is no sentence for the user, and the last place of ours that it went through."""
    where = [one for one in traceback.extract_tb(error.__traceback__) if "/distill/" in one.filename][-1]
    return f"{type(error).__name__} {str(error)[:200]} at {Path(where.filename).name}:{where.lineno}"
