"""Programs that tests start in processes of their own, and modules that lie in no package.

`run(folder, "distill", "list")` runs `python -m distill list` in a folder to its end; `start` leaves it running, so that
a test can send it signals; `until` waits for what it does. A program that needs no process of its own is faster in the
tests' one: see the fixture `shell`.
"""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
SECONDS = 120  # that a program may take for a step of its work, on a busy computer


def environment(**changes: str) -> dict[str, str]:
    """The environment of a program: without settings of Distill, DVC and MLflow but `changes`, and on the CPU."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "DISTILL_"))}
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    return {**kept, "PYTHONPATH": path, "DISTILL_DEVICE": "cpu", **changes}


def run(folder: Path, module: str, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE` in a folder, to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=4 * SECONDS,
    )


def start(folder: Path, module: str, *arguments: str, **changes: str) -> subprocess.Popen[str]:
    """`python -m MODULE` in a folder, left running in a session of its own: `os.killpg` reaches all its processes."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(
    condition: Callable[[], Any], process: "subprocess.Popen[str] | None" = None, seconds: float = SECONDS
) -> Any:
    """Wait until a condition is true, and return what it gave. Fails when time is over or the process has ended."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"nothing of it within {seconds} s"
        time.sleep(0.02)
    return found


def loaded(path: Path) -> ModuleType:
    """The module of a file that lies in no package, as under requirements or deploy; it is not run as a program."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
