"""One module for each DVC stage: read params and artefacts, call the library, write artefacts and metrics."""

import importlib.util
import os
import sys
from pathlib import Path

if importlib.util.find_spec("pydantic") is None:
    # Without an activated environment DVC runs the system's Python: replace it by the Python of `make setup`. In the
    # copy of an experiment, DVC_ROOT is the original project.
    _python = Path(
        os.environ.get("DVC_ROOT", ""), ".venv", "Scripts" if os.name == "nt" else "bin", "python"
    ).absolute()
    if _python.exists() and Path(sys.executable).absolute() != _python:
        os.execv(_python, [str(_python), *sys.orig_argv[1:]])
    print(
        f"{sys.executable}: expected Distill's dependencies, found none of them; run `make setup`, "
        "then `. .venv/bin/activate`",
        file=sys.stderr,
    )
    raise SystemExit(2)

from distill.process import begin

begin()
