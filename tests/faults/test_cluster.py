"""A cluster of real processes: same bytes whoever works, and nothing lost when a worker or the scheduler is."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from distill import cluster
from distill.audio import ingest as ingestion
from distill.audio.ingest import ingest
from distill.cluster import ClusterError, Dask
from distill.codes import encode
from distill.codes.encode import code_corpus
from distill.errors import for_the_user
from distill.execution import Execution
from distill.params import default_params
from distill.storage.work import HERE, Executor
from programs import start
from unit.audio.test_ingest import contents, write
from unit.tiny import tiny_codec

pytestmark = pytest.mark.filterwarnings("ignore")

RATE, RECORDINGS = 16_000, 12
Say = Callable[[int, int, str], None]
Connect = Callable[[str], Dask]
Written = tuple[dict[str, str], dict[str, str]]  # a corpus and codes


class Machines:
    """A scheduler and workers, processes of their own, in a folder."""

    def __init__(self, folder: Path, stack: ExitStack, workers: int) -> None:
        self.folder, self._stack = folder, stack
        self.scheduler = self._start("scheduler", "--host", "tcp://127.0.0.1:0", "--no-show")
        assert self.scheduler.stderr is not None
        found = (re.search(r"Scheduler at:\s+(tcp://\S+)", line) for line in self.scheduler.stderr)
        self.address = next(one[1] for one in found if one)
        threading.Thread(target=self.scheduler.stderr.read, daemon=True).start()
        self.workers = [self.add_worker() for _ in range(workers)]

    def add_worker(self) -> subprocess.Popen[str]:
        own = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))
        process = self._start("worker", self.address, *own)
        assert process.stderr is not None
        threading.Thread(target=process.stderr.read, daemon=True).start()
        return process

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        process = self._stack.enter_context(start(self.folder, "dask", *arguments, "--no-dashboard"))
        self._stack.callback(process.kill)
        return process


@contextmanager
def started(folder: Path, workers: int) -> Iterator[Machines]:
    with ExitStack() as stack:
        yield Machines(folder, stack, workers)


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with started(tmp_path_factory.mktemp("dask"), 2) as running:
        yield running


@pytest.fixture
def only_exhaustive(exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("half a minute each: make faults")


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.cluster.CONNECT_SECONDS", 1)
        patch.setattr(ingestion, "BLOCK_FILES", 2)
        patch.setattr(encode, "BLOCK_RECORDINGS", 2)
        yield


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(RECORDINGS):
        write(folder / f"{number % 3}" / f"{number:02d}.wav", number)
    write(folder / "2" / "copy.wav", 3)
    (folder / "broken.wav").write_bytes(b"RIFF")
    return folder


def ingested(recordings: Path, folder: Path, executor: Executor, say: Say = lambda *_: None) -> dict[str, str]:
    ingest(recordings, folder / "corpus", RATE, 0.5, executor, say, folder / "kept")
    return contents(folder / "corpus")


def encoded(folder: Path, executor: Executor) -> dict[str, str]:
    params = default_params(seed=1, codes={"views": 2}, split={"val_fraction": 0.3})
    folders = (folder / "corpus", folder / "codes")
    code_corpus(tiny_codec(), "abc", *folders, params, Execution("cpu", "fp32", 1), executor, folder / "coded")
    return contents(folder / "codes")


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Executors that are closed in the end."""
    with ExitStack() as stack:
        yield lambda address: stack.enter_context(closing(Dask(address)))


@pytest.fixture(scope="module")
def alone(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """What one machine without a cluster writes."""
    folder = tmp_path_factory.mktemp("alone")
    return ingested(recordings, folder, HERE), encoded(folder, HERE)


def test_two_workers_write_what_one_machine_does(
    recordings: Path, alone: Written, dask: Machines, tmp_path: Path, connect: Connect
) -> None:
    done: list[int] = []
    workers = connect(dask.address)
    assert ingested(recordings, tmp_path, workers, lambda count, *_: done.append(count)) == alone[0]
    assert done == sorted(done)
    assert done[-1] == RECORDINGS + 2
    assert encoded(tmp_path, workers) == alone[1]
    nobody = connect("tcp://127.0.0.1:1")  # there is nothing left to do
    assert (ingested(recordings, tmp_path, nobody), encoded(tmp_path, nobody)) == alone


@pytest.mark.usefixtures("only_exhaustive")
def test_a_worker_is_killed_and_another_comes_late(
    recordings: Path, alone: Written, tmp_path: Path, connect: Connect
) -> None:
    with started(tmp_path, 2) as dask:
        seen: list[int] = []

        def disturb(done: int, *_: object) -> None:
            seen.append(done)
            if len(seen) == 2:
                dask.workers[0].send_signal(signal.SIGKILL)
                dask.add_worker()

        workers = connect(dask.address)
        assert ingested(recordings, tmp_path, workers, disturb) == alone[0]
        assert len(seen) > 3
        assert encoded(tmp_path, workers) == alone[1]


@pytest.mark.usefixtures("only_exhaustive")
def test_the_scheduler_is_lost_and_what_was_done_is_kept(
    recordings: Path, alone: Written, tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(tmp_path, 1) as dask:
        seen: list[int] = []

        def lose(done: int, *_: object) -> None:
            seen.append(done)
            if done > 3:
                dask.scheduler.send_signal(signal.SIGKILL)

        with pytest.raises(ClusterError) as caught:
            ingested(recordings, tmp_path, connect(dask.address), lose)
        assert str(caught.value) == (
            f"cluster {dask.address}: expected the scheduler to go on, found that it is gone; what was done is kept: start "
            "it and run again"
        )
        assert not (tmp_path / "corpus").exists()
    made: list[str] = []
    decode = ingestion.BlockWorker.decode

    def noted(*asked: Any) -> object:
        made.extend(file.path for file in asked[-2])
        return decode(*asked)

    monkeypatch.setattr(ingestion.BlockWorker, "decode", noted)
    assert ingested(recordings, tmp_path, HERE) == alone[0]
    assert len(made) <= RECORDINGS + 2 - max(seen)


def test_mistakes_are_sentences(
    dask: Machines, tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sentence(address: str = dask.address, folders: tuple[Path, ...] = ()) -> str:
        with pytest.raises(ClusterError) as caught:
            list(connect(address).map(Path.exists, [tmp_path], folders))
        return str(caught.value)

    assert re.fullmatch(
        r"worker \S+: expected the folder \S+missing, found nothing there; workers need the same folders at the same paths, "
        "as a shared file system gives them",
        sentence(folders=(tmp_path / "missing",)),
    )
    with pytest.raises(FileNotFoundError):
        list(connect(dask.address).map(Path.read_bytes, [tmp_path / "missing"], []))
    monkeypatch.setattr(cluster, "_version", lambda: "other")
    other = "expected the same code and libraries as where the stage was started, found others; install the same"
    assert re.match(rf"worker \S+: {other}", sentence())
    for address in ("nonsense", "http://127.0.0.1:1", "tcp://127.0.0.1:99999999", "tcp://127.0.0.1:1"):
        assert sentence(address).startswith(f"DISTILL_CLUSTER: expected a scheduler of Dask at {address}, found: ")
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert sentence().startswith("DISTILL_CLUSTER: expected the package distributed, found it missing")
    assert for_the_user(error := ClusterError("lost")) is error
    assert error.exit_code == 2


def test_the_environment_chooses_who_works() -> None:
    with cluster.executor_of(Execution(workers=3)) as executor:
        assert (executor.is_here, executor.processors) == (True, 3)
    with cluster.executor_of(Execution(workers=3, cluster="tcp://127.0.0.1:1")) as executor:
        assert (executor.is_here, executor.processors) == (False, 1)
