"""One module a DVC stage: reads params and artefacts, calls the library, writes artefacts and metrics."""

import importlib.util
import os
import sys
from pathlib import Path

if importlib.util.find_spec("pydantic") is None:
    # DVC without an activated environment runs the system's Python: replace it by that of `make setup`. DVC says where
    # the project is of which an experiment is a copy.
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
