"""A cluster of real processes: same bytes whoever works, and nothing lost when a worker or the scheduler is."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from unit.audio.test_ingest import contents, write
from unit.tiny import tiny_codec

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

pytestmark = pytest.mark.filterwarnings("ignore")

RATE, RECORDINGS = 16_000, 12
ROOT = Path(__file__).parents[2]
Say = Callable[[int, int, str], None]
Connect = Callable[[str], Dask]


class Machines:
    """A scheduler and workers, processes of their own, in a folder."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.workers: list[subprocess.Popen[str]] = []
        self.scheduler, self.address = self.start_scheduler("tcp://127.0.0.1:0")

    def start_scheduler(self, address: str) -> tuple[subprocess.Popen[str], str]:
        process = self._start("scheduler", "--host", address, "--no-dashboard", "--no-show")
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"Scheduler at:\s+(tcp://\S+)", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                return process, found[1]
        raise AssertionError("the scheduler did not start")

    def add_worker(self, **environment: str) -> subprocess.Popen[str]:
        arguments = (self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny")
        process = self._start("worker", *arguments, "--local-directory", str(self.folder), **environment)
        assert process.stderr is not None
        threading.Thread(target=process.stderr.read, daemon=True).start()
        self.workers.append(process)
        return process

    def _start(self, what: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", what, *arguments],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        )
        self._stack.callback(_end, process)
        return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stderr is not None:
        process.stderr.close()


@contextmanager
def started(folder: Path, workers: int) -> Iterator[Machines]:
    with ExitStack() as stack:
        machines = Machines(folder, stack)
        for _ in range(workers):
            machines.add_worker()
        yield machines


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with started(tmp_path_factory.mktemp("dask"), 2) as running:
        yield running


@pytest.fixture
def only_exhaustive(exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("half a minute each: make faults")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.cluster.CONNECT_SECONDS", 1)
    monkeypatch.setattr(ingestion, "BLOCK_FILES", 2)
    monkeypatch.setattr(encode, "BLOCK_RECORDINGS", 2)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(RECORDINGS):
        write(folder / f"{number % 3}" / f"{number:02d}.wav", number)
    write(folder / "2" / "copy.wav", 3)
    (folder / "broken.wav").write_bytes(b"RIFF")
    return folder


def ingested(recordings: Path, folder: Path, executor: Executor, say: Say | None = None) -> dict[str, str]:
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
def alone(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    """What one machine without a cluster writes."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingestion, "BLOCK_FILES", 2)
        patch.setattr(encode, "BLOCK_RECORDINGS", 2)
        return ingested(recordings, folder, HERE), encoded(folder, HERE)


def test_two_workers_write_what_one_machine_does(
    recordings: Path, alone: tuple[dict[str, str], dict[str, str]], dask: Machines, tmp_path: Path, connect: Connect
) -> None:
    corpus, codes = alone
    done: list[int] = []
    workers = connect(dask.address)
    assert ingested(recordings, tmp_path, workers, lambda count, *_: done.append(count)) == corpus
    assert done == sorted(done)
    assert done[-1] == RECORDINGS + 2
    assert encoded(tmp_path, workers) == codes
    nobody = connect("tcp://127.0.0.1:1")  # there is nothing left to do
    assert ingested(recordings, tmp_path, nobody) == corpus
    assert encoded(tmp_path, nobody) == codes


@pytest.mark.usefixtures("only_exhaustive")
def test_a_worker_is_killed_one_stands_still_and_one_comes_late(
    recordings: Path, alone: tuple[dict[str, str], dict[str, str]], tmp_path: Path, connect: Connect
) -> None:
    with started(tmp_path, 0) as dask:
        late = threading.Timer(0.5, lambda: (dask.add_worker(), dask.add_worker()))
        late.start()
        seen: list[int] = []

        def disturb(done: int, *_: object) -> None:
            if not done:
                return
            seen.append(done)
            first, second, *_rest = dask.workers
            if len(seen) == 2:
                first.send_signal(signal.SIGKILL)
            if len(seen) == 3:
                second.send_signal(signal.SIGSTOP)
                threading.Timer(1.0, lambda: second.send_signal(signal.SIGCONT)).start()
                dask.add_worker()

        workers = connect(dask.address)
        assert ingested(recordings, tmp_path, workers, disturb) == alone[0]
        assert len(seen) > 3
        assert encoded(tmp_path, workers) == alone[1]
        late.join()


@pytest.mark.usefixtures("only_exhaustive")
def test_the_scheduler_is_lost_and_what_was_done_is_kept(
    recordings: Path, alone: tuple[dict[str, str], dict[str, str]], tmp_path: Path, connect: Connect
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            ingestion.BlockWorker,
            "decode",
            lambda *asked: (made.extend(file.path for file in asked[2].files), decode(*asked))[1],
        )
        assert ingested(recordings, tmp_path, HERE) == alone[0]
    assert len(made) <= RECORDINGS + 2 - max(seen)


def test_mistakes_are_sentences(
    dask: Machines, tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = connect(dask.address)

    def sentence(function: Callable[[Path], object], folder: Path = tmp_path) -> str:
        with pytest.raises(ClusterError) as caught:
            list(workers.map(function, [tmp_path], [folder]))
        return str(caught.value)

    assert re.fullmatch(
        r"worker \S+: expected the folder \S+missing, found nothing there; workers need the same folders at the same paths, "
        "as a shared file system gives them",
        sentence(Path.exists, tmp_path / "missing"),
    )
    other_code = "expected the same code and libraries as where the stage was started, found others; install the same"
    with pytest.raises(FileNotFoundError):
        list(workers.map(Path.read_bytes, [tmp_path / "missing"], []))
    monkeypatch.setattr(cluster, "_version", lambda: "other")
    assert re.match(rf"worker \S+: {other_code}", sentence(Path.exists))
    for address in ("nonsense", "http://127.0.0.1:1", "tcp://127.0.0.1:99999999", "tcp://127.0.0.1:1"):
        with pytest.raises(ClusterError, match=f"DISTILL_CLUSTER: expected a scheduler of Dask at {address}, found: "):
            list(connect(address).map(Path.exists, [tmp_path], []))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match="DISTILL_CLUSTER: expected the package distributed, found it missing"):
        list(connect(dask.address).map(Path.exists, [tmp_path], []))
    error = ClusterError("lost")
    assert for_the_user(error) is error
    assert error.exit_code == 2


def test_the_environment_chooses_who_works() -> None:
    with cluster.executor_of(Execution(workers=3)) as executor:
        assert (executor.is_here, executor.processors) == (True, 3)
    with cluster.executor_of(Execution(workers=3, cluster="tcp://127.0.0.1:1")) as executor:
        assert (executor.is_here, executor.processors) == (False, 1)


@pytest.mark.usefixtures("only_exhaustive")
def test_a_task_that_kills_its_workers_ends_with_a_sentence(tmp_path: Path, connect: Connect) -> None:
    with (
        started(tmp_path, 4) as dask,
        pytest.raises(ClusterError, match=r"found that 4 of them ended in the middle of the same one; give workers"),
    ):
        list(connect(dask.address).map(os._exit, [1], []))
