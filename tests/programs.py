"""Programs that tests start in processes of their own, and modules that lie in no package.

`fork(folder, "distill", "list")` runs `python -m distill list` in a folder; it begins at once, as a fork of a process that
has imported what commands import. `run` and `start` do the same with a Python of its own, whose imports take seconds: for
tests of what the system or the shell gives a program. `until` waits for what a program does. What needs no process of its
own is faster in the tests' one: see the fixture `shell`.
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
MakeOnce = Callable[[str, Callable[[Path], object]], Path]  # of the fixture `make_once`
SECONDS = 300  # that a program may take for a step of its work, on a busy computer
IMPORTED = (
    "distill.api",
    "distill.cli.main",
    "distill.generate.audition",
    "distill.kit.make",
    "distill.pipeline.train",
)
# What DVC would import at each of its commands, for a second or two.
DVC = (
    "dvc.cli.parser",
    "dvc.data_cloud",
    "dvc.repo.experiments.executor.local",
    "dvc.repo.experiments.queue.workspace",
    "dvc.repo.index",
    "networkx",
    "s3fs",
)
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")  # of a process of `subprocess`
if os.name != "nt":
    FORKS = multiprocessing.get_context("forkserver")
    FORKS.set_forkserver_preload(
        [*IMPORTED, *DVC, "stages.running", "matplotlib.figure", "mlflow.store.tracking.sqlalchemy_store"]
    )


def environment(**changes: str) -> dict[str, str]:
    """The environment of a program: without settings of Distill, DVC and MLflow but `changes`, on the CPU, this `python`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "DISTILL_"))}
    modules = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**kept, "PATH": programs, "PYTHONPATH": modules, "DISTILL_DEVICE": "cpu", **changes}


def run(folder: Path, module: str, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE` in a folder, to its end."""
    process = start(folder, module, *arguments, **changes)
    out, err = process.communicate(timeout=4 * SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


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


class Forked:
    """A program at work; `end` waits for it. `returncode` is as of `subprocess`, negative after a signal."""

    def __init__(self, program: Program) -> None:
        self._output = Path(tempfile.mkdtemp(dir=_outputs()))
        outputs = [self._output / name for name in ("1", "2")]  # as the descriptors of what is printed and said
        for output in outputs:
            output.touch()
        self._process = FORKS.Process(target=_be, args=(program, outputs))
        self._process.start()

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the program and what it has started."""
        assert self._process.pid is not None
        os.killpg(self._process.pid, number)

    def end(self, seconds: float = 4 * SECONDS) -> "Forked":
        """Wait for its end."""
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
        """What it has printed until now."""
        return (self._output / "1").read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """What it has said until now."""
        return (self._output / "2").read_text(errors="replace")

    def communicate(self) -> tuple[str, str]:
        """What it printed and said, at its end."""
        self.end()
        return self.stdout, self.stderr


@cache
def _outputs() -> Path:
    """A folder for what programs print, which goes when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="outputs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def fork(folder: Path, module: str, *arguments: str, before: Callable[[], Any] | None = None, **changes: str) -> Forked:
    """Start `python -m MODULE` in a folder, in a session of its own; `before`, which can be pickled, is called in it."""
    return Forked((folder, [module, *arguments], environment(**changes), before))


def _be(program: Program, outputs: Sequence[Path | int], own_session: bool = True) -> None:
    """The program, in the new process; `outputs` are files or descriptors of what it prints and says."""
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
    """From here on this process starts DVC and stages as forks of itself, which have imported what they need."""
    execute: Any = subprocess.Popen._execute_child  # type: ignore[attr-defined]

    def start(process: Any, *given: Any) -> None:
        asked = inspect.signature(execute).bind(process, *given).arguments
        words = asked["args"] if asked["args"][0] == sys.executable else asked["args"][-1].split()
        module = list(words[words.index("-m") + 1 :]) if "-m" in words else [""]
        if not module[0].startswith(("dvc", "stages.")):
            execute(process, *given)
            return
        program = (Path(asked["cwd"] or "."), module, asked["env"] or {**os.environ}, None)
        outputs = [max(asked[name], number) for number, name in ((1, "c2pwrite"), (2, "errwrite"))]  # -1: as it is here
        child = multiprocessing.get_context("fork").Process(
            target=_be, args=(program, outputs, asked["start_new_session"])
        )
        child.start()
        process.pid, process._child_created = child.pid, True
        process._close_pipe_fds(*(asked[end] for end in PIPES))

    subprocess.Popen._execute_child = start  # type: ignore[attr-defined]


def until(condition: Callable[[], Any], process: Any = None, seconds: float = SECONDS) -> Any:
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
