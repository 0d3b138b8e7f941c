"""One thread of computation a process: networks of tests are small, and threads that wait for each other cost more."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from lossy_proxy import LossyProxy
    from object_store import Store

for _name, _value in {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}.items():
    os.environ.setdefault(_name, _value)  # for this process, and for those that tests start


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exhaustive", action="store_true", help="try as many faults as `make faults` does (hours)")


def pytest_xdist_auto_num_workers() -> int:
    """One more than processors: a fifth of the time is waiting, for files, processes and time-outs."""
    from distill.execution import processors

    return processors() + 1


@pytest.fixture(scope="session")
def exhaustive(request: pytest.FixtureRequest) -> bool:
    """Whether every fault is tried, or a sample of them."""
    return bool(request.config.getoption("--exhaustive"))


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Python that has imported everything and starts at once (see `quick_python`); a usual one where there is none."""
    if not hasattr(os, "pidfd_open"):
        yield Path(sys.executable)
        return
    from quick_python import quick_python

    with quick_python(tmp_path_factory.mktemp("quick")) as program:
        yield program


@pytest.fixture(scope="session")
def store_endpoint() -> Iterator[str]:
    from object_store import serve

    with serve() as endpoint:
        yield endpoint


@pytest.fixture
def store(store_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> "Store":
    """An object store with an empty bucket, which the environment speaks of."""
    from object_store import Store

    made = Store(store_endpoint, f"bucket-{uuid4().hex}")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def proxy(store: "Store", monkeypatch: pytest.MonkeyPatch) -> "Iterator[LossyProxy]":
    """A proxy before the store, which the environment speaks of instead."""
    from lossy_proxy import lossy_proxy

    with lossy_proxy(store.endpoint) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
        yield made
