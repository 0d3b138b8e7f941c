"""Shared set-up of tests: one thread per process, default signals, and fixtures for commands, models and stores."""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from lossy_proxy import LossyProxy
    from object_store import Store
    from programs import MakeOnce
    from unit.command import CommandLine

# Keep compiled modules; otherwise each process compiles PyTorch again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Test networks are small, so synchronising threads costs more than it gains; also in processes that tests start.
for _name, _value in {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}.items():
    os.environ.setdefault(_name, _value)

# In a shell's background SIGINT is ignored, and child processes inherit that. They do not inherit an empty handler, so
# they start as in a terminal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, lambda *_: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exhaustive", action="store_true", help="try as many faults as `make faults` does (hours)")
    parser.addoption("--minutes", type=float, default=60, help="with --exhaustive, for each fuzz target")


def pytest_xdist_auto_num_workers() -> int:
    """Processors plus one: tests spend a fifth of their time waiting for files, processes and time-outs."""
    from distill.execution import processors

    return processors() + 1


@pytest.fixture(scope="session")
def exhaustive(request: pytest.FixtureRequest) -> bool:
    """Whether to try every fault instead of a sample."""
    return bool(request.config.getoption("--exhaustive"))


@pytest.fixture(scope="session")
def minutes(request: pytest.FixtureRequest) -> float:
    """Duration of each fuzz target with `--exhaustive`."""
    return float(request.config.getoption("--minutes"))


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> "MakeOnce":
    """`make_once(name, make)` returns a folder shared by all test processes; the first caller fills it with `make`.

    Tests must not write to it. Use it for slow results, such as a trained model.
    """
    top = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        top = top.parent

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = top / name, top / f"{name}.done"
        with FileLock(top / f"{name}.lock"):
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def trained(make_once: "MakeOnce") -> Path:
    """Folder with `sounds` (five recordings in two folders, which are labels) and `a.distill`, trained on them.

    The model has a prior. Tests that do not need a trained model use `unit.tiny`, which is faster.
    """
    from unit.tiny import train_in

    return make_once("trained", train_in)


@pytest.fixture(scope="session")
def database(make_once: "MakeOnce") -> Path:
    """Empty MLflow database, which takes a second to make."""
    from distill.training.mlflow_store import client_of

    def make(folder: Path) -> None:
        with warnings.catch_warnings(action="ignore"):
            client_of(f"sqlite:///{folder}/mlflow.db")

    return make_once("mlflow", make) / "mlflow.db"


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> "Iterator[CommandLine]":
    """`shell("list", "models")` runs `distill` in this process and an empty folder; `shell.refused` gives the error."""
    from unit.command import CommandLine

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_DEVICE", "cpu")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield CommandLine(monkeypatch, capsys)
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def store_endpoint() -> Iterator[str]:
    from object_store import serve

    with serve() as endpoint:
        yield endpoint


@pytest.fixture
def store(store_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> "Store":
    """Object store with an empty bucket, set in the environment."""
    from object_store import Store

    made = Store(store_endpoint, f"bucket-{uuid4().hex}")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def proxy(store: "Store", monkeypatch: pytest.MonkeyPatch) -> "Iterator[LossyProxy]":
    """Proxy in front of the store, set in the environment instead."""
    from lossy_proxy import lossy_proxy

    with lossy_proxy(store.endpoint) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
        yield made
