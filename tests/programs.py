"""Start programs in separate processes, and load modules outside packages.

`fork(folder, "distill", "list")` runs `python -m distill list` in a folder. It starts at once, as a fork of a process
that has imported everything. `run` and `start` use a new Python, whose imports take seconds, for tests of signals,
streams and environment at start. `until` waits for a condition. Tests that need no separate process use the faster
fixture `shell`.
"""

import atexit
import importlib.util
import inspect
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
Program = tuple[Path, list[str], dict[str, str], Callable[[], Any] | None]  # folder, module and arguments, environment
MakeOnce = Callable[[str, Callable[[Path], object]], Path]  # type of the fixture `make_once`
SECONDS = 300  # timeout of a step of a program, on a busy computer
IMPORTED = (
    "distill.api",
    "distill.cli.main",
    "distill.generate.presentation.audition",
    "distill.kit.make",
    "distill.pipeline.train",
)
# Modules that every DVC command imports, which takes a second or two.
DVC = (
    "dvc.cli.parser",
    "dvc.data_cloud",
    "dvc.repo.experiments.executor.local",
    "dvc.repo.experiments.queue.workspace",
    "dvc.repo.index",
    "networkx",
    "s3fs",
)
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")  # pipe arguments of `subprocess`
if os.name != "nt":
    FORKS = multiprocessing.get_context("forkserver")
    FORKS.set_forkserver_preload(
        [*IMPORTED, *DVC, "stages.running", "matplotlib.figure", "mlflow.store.tracking.sqlalchemy_store"]
    )


def environment(**changes: str) -> dict[str, str]:
    """Environment of a program: this Python on the CPU, no settings of Distill, DVC and MLflow except `changes`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "DISTILL_"))}
    modules = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**kept, "PATH": programs, "PYTHONPATH": modules, "DISTILL_DEVICE": "cpu", **changes}


def run(folder: Path, module: str, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE` in a folder until it ends."""
    process = start(folder, module, *arguments, **changes)
    out, err = process.communicate(timeout=4 * SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start(folder: Path, module: str, *arguments: str, **changes: str) -> subprocess.Popen[str]:
    """Start `python -m MODULE` in a folder and its own session, so that `os.killpg` reaches all its processes."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


class Forked:
    """Running program; `end` waits for it. `returncode` is negative after a signal, as in `subprocess`."""

    def __init__(self, program: Program) -> None:
        self._output = Path(tempfile.mkdtemp(dir=_outputs()))
        outputs = [self._output / name for name in ("1", "2")]  # named after the descriptors of stdout and stderr
        for output in outputs:
            output.touch()
        self._process = FORKS.Process(target=_be, args=(program, outputs))
        self._process.start()

    def poll(self) -> int | None:
        """Exit status, or None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the program and its children."""
        assert self._process.pid is not None
        os.killpg(self._process.pid, number)

    def end(self, seconds: float = 4 * SECONDS) -> "Forked":
        """Wait for the end of the program; kill it after `seconds` and raise AssertionError."""
        self._process.join(seconds)
        if self._process.is_alive():
            self.send_signal(signal.SIGKILL)
            raise AssertionError(f"no end within {seconds} s: {self.stderr}")
        return self

    @property
    def returncode(self) -> int:
        assert self._process.exitcode is not None
        return self._process.exitcode

    @property
    def stdout(self) -> str:
        """Output on stdout so far."""
        return (self._output / "1").read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """Output on stderr so far."""
        return (self._output / "2").read_text(errors="replace")

    def communicate(self) -> tuple[str, str]:
        """Wait for the end and return stdout and stderr."""
        self.end()
        return self.stdout, self.stderr


@cache
def _outputs() -> Path:
    """Folder for the output of programs, removed when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="outputs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def fork(folder: Path, module: str, *arguments: str, before: Callable[[], Any] | None = None, **changes: str) -> Forked:
    """Fork `python -m MODULE` in a folder and its own session; it first calls `before`, which must be picklable."""
    return Forked((folder, [module, *arguments], environment(**changes), before))


def _be(program: Program, outputs: Sequence[Path | int], own_session: bool = True) -> None:
    """Become the program, in the new process; `outputs` are files or descriptors for stdout and stderr."""
    folder, sys.argv, env, before = program
    if own_session:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for number, output in enumerate(outputs, 1):
        os.dup2(output if isinstance(output, int) else os.open(output, os.O_WRONLY), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    if before is not None:
        before()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def fork_pythons() -> None:
    """Patch `subprocess` to start DVC and stages as forks of this process, which has imported their modules."""
    execute: Any = subprocess.Popen._execute_child  # type: ignore[attr-defined]

    def start(process: Any, *given: Any) -> None:
        asked = inspect.signature(execute).bind(process, *given).arguments
        words = asked["args"] if asked["args"][0] == sys.executable else asked["args"][-1].split()
        module = list(words[words.index("-m") + 1 :]) if "-m" in words else [""]
        if not module[0].startswith(("dvc", "stages.")):
            execute(process, *given)
            return
        program = (Path(asked["cwd"] or "."), module, asked["env"] or {**os.environ}, None)
        outputs = [max(asked[name], number) for number, name in ((1, "c2pwrite"), (2, "errwrite"))]  # -1: inherited
        child = multiprocessing.get_context("fork").Process(
            target=_be, args=(program, outputs, asked["start_new_session"])
        )
        child.start()
        process.pid, process._child_created = child.pid, True
        process._close_pipe_fds(*(asked[end] for end in PIPES))

    subprocess.Popen._execute_child = start  # type: ignore[attr-defined]


def until(condition: Callable[[], Any], process: Any = None, seconds: float = SECONDS) -> Any:
    """Wait until a condition is true and return its value. Fails after `seconds`, or if the process has ended."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"nothing of it within {seconds} s"
        time.sleep(0.02)
    return found


def loaded(path: Path) -> ModuleType:
    """Load a module outside packages, such as in requirements or deploy, without running it as a program."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
