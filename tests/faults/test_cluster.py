"""A cluster of real processes: same bytes whoever works, and nothing lost when a worker or the scheduler is."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from unit.audio.test_corpus import write
from unit.tiny import tiny_codec

from distill.audio import block_store
from distill.audio.corpus import load_corpus
from distill.audio.ingest import ingest
from distill.cluster import Cluster, ClusterError, SharedCluster, check_worker
from distill.codes import blocks
from distill.codes.encode import encode_for_prior
from distill.errors import for_the_user
from distill.novelty import part_index
from distill.novelty.scoring import Likeness
from pretraining.coded_collections import coded_collections

pytestmark = pytest.mark.filterwarnings("ignore")

RATE, RECORDINGS = 16_000, 12
ROOT = Path(__file__).parents[2]
Say = Callable[[int, int, str], None]


class Dask:
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
def started(folder: Path, workers: int) -> Iterator[Dask]:
    with ExitStack() as stack:
        dask = Dask(folder, stack)
        for _ in range(workers):
            dask.add_worker()
        yield dask


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    with started(tmp_path_factory.mktemp("dask"), 2) as running:
        yield running


@pytest.fixture
def only_exhaustive(exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("half a minute each: make faults")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.cluster.CONNECT_SECONDS", 1)
    monkeypatch.setattr(block_store, "BLOCK_FILES", 2)
    monkeypatch.setattr(blocks, "BLOCK_RECORDINGS", 2)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(RECORDINGS):
        write(folder / f"{number % 3}" / f"{number:02d}.wav", number)
    write(folder / "2" / "copy.wav", 3)
    (folder / "broken.wav").write_bytes(b"RIFF")
    return folder


def ingested(recordings: Path, folder: Path, cluster: Cluster | None, say: Say | None = None) -> dict[str, str]:
    ingest(recordings, folder / "corpus", RATE, 0.5, 1, say, folder / "kept", cluster)
    return contents(folder / "corpus")


def encoded(folder: Path, cluster: Cluster | None, say: Say | None = None) -> dict[str, str]:
    arguments = (load_corpus(folder / "corpus"), folder / "codes", 2, 0.3, 1, say)
    encode_for_prior(tiny_codec(), "abc", *arguments, kept=folder / "coded", cluster=cluster)
    return contents(folder / "codes")


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def alone(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    """What one machine without a cluster writes."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_store, "BLOCK_FILES", 2)
        patch.setattr(blocks, "BLOCK_RECORDINGS", 2)
        return ingested(recordings, folder, None), encoded(folder, None)


def test_two_workers_write_what_one_machine_does(
    recordings: Path, alone: tuple[dict[str, str], dict[str, str]], dask: Dask, tmp_path: Path
) -> None:
    corpus, codes = alone
    done: list[int] = []
    with Cluster(dask.address) as cluster:
        assert ingested(recordings, tmp_path, cluster, lambda count, *_: done.append(count)) == corpus
        assert done == sorted(done)
        assert done[-1] == RECORDINGS + 2
        assert encoded(tmp_path, cluster) == codes
        before = len(done)
        assert ingested(recordings, tmp_path, cluster, lambda count, *_: done.append(count)) == corpus
    assert len(done) == before  # there was nothing left to do


@pytest.mark.usefixtures("only_exhaustive")
def test_a_worker_is_killed_one_stands_still_and_one_comes_late(
    recordings: Path, alone: tuple[dict[str, str], dict[str, str]], tmp_path: Path
) -> None:
    with started(tmp_path, 0) as dask:
        late = threading.Timer(0.5, lambda: (dask.add_worker(), dask.add_worker()))
        late.start()
        seen: list[int] = []

        def disturb(done: int, *_: object) -> None:
            seen.append(done)
            first, second, *_ = dask.workers
            if len(seen) == 2:
                first.send_signal(signal.SIGKILL)
            if len(seen) == 3:
                second.send_signal(signal.SIGSTOP)
                threading.Timer(1.0, lambda: second.send_signal(signal.SIGCONT)).start()
                dask.add_worker()

        with Cluster(dask.address) as cluster:
            assert ingested(recordings, tmp_path, cluster, disturb) == alone[0]
            seen[:] = [0] * 10
            assert encoded(tmp_path, cluster) == alone[1]
        late.join()


@pytest.mark.usefixtures("only_exhaustive")
def test_the_scheduler_is_lost_and_what_was_done_is_kept(
    recordings: Path, alone: tuple[dict[str, str], dict[str, str]], tmp_path: Path
) -> None:
    with started(tmp_path, 1) as dask:
        done: list[int] = []

        def lose(count: int, *_: object) -> None:
            done.append(count)
            if count > 3:
                dask.scheduler.send_signal(signal.SIGKILL)

        with Cluster(dask.address) as cluster, pytest.raises(ClusterError) as caught:
            ingested(recordings, tmp_path, cluster, lose)
        assert str(caught.value) == (
            f"cluster {dask.address}: expected the scheduler to go on, found that it is gone; what was done is kept: start "
            "it and run again"
        )
        assert not (tmp_path / "corpus").exists()
        with pytest.raises(ClusterError, match=r"expected a scheduler of Dask at tcp://127\.0\.0\.1:1, found: "):
            Cluster("tcp://127.0.0.1:1").__enter__()
    first: list[int] = []
    assert ingested(recordings, tmp_path, None, lambda count, *_: first.append(count)) == alone[0]
    assert min(count for count in first if count) > 3  # the blocks that the worker had done


def test_mistakes_of_workers_are_sentences(dask: Dask, tmp_path: Path) -> None:
    with Cluster(dask.address) as cluster:
        with pytest.raises(ClusterError, match="expected the same code and libraries as where the stage was started"):
            list(cluster.map(partial(check_worker, "one", "other"), [tmp_path]))
        with pytest.raises(
            ClusterError, match=r"expected the folder .*missing, found nothing there; workers need the same"
        ):
            list(cluster.map(partial(check_worker, "one", "one"), [tmp_path / "missing"]))
        with pytest.raises(
            ClusterError, match=r"cluster .* expected the same code and libraries as where the stage was"
        ):
            list(cluster.map(_not_on_workers, [1]))
        with pytest.raises(FileNotFoundError):
            list(cluster.map(Path.read_bytes, [tmp_path / "missing"]))
    for address in ("nonsense", "http://127.0.0.1:1", "tcp://127.0.0.1:99999999"):
        with pytest.raises(ClusterError, match=f"DISTILL_CLUSTER: expected a scheduler of Dask at {address}, found: "):
            Cluster(address).__enter__()
    error = ClusterError("lost")
    assert for_the_user(error) is error
    assert error.exit_code == 2


def _not_on_workers(task: int) -> int:
    """Workers do not have this module."""
    return task


def test_parts_of_a_library_are_searched_by_workers(
    dask: Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_index, "PART_FRAMES", 400)
    rng, codec = np.random.default_rng(0), tiny_codec()
    recordings = [rng.integers(0, 8, (50, 3), dtype=np.uint16) for _ in range(40)]
    queries = [rng.integers(0, 8, (50, 3)) for _ in range(9)] + [recordings[33].astype(np.int64)]
    here = Likeness(codec, recordings).scores(queries)
    left_by_a_killed_process = tmp_path / "state" / "search" / "passages.safetensors"
    left_by_a_killed_process.mkdir(parents=True)
    there = Likeness(codec, recordings, SharedCluster(dask.address, tmp_path / "state"))
    assert there.scores(queries) == here
    assert here[-1].codes.recording == 33
    assert not list((tmp_path / "state").iterdir())
    few = Likeness(codec, recordings[:24], SharedCluster("tcp://127.0.0.1:1", tmp_path))
    assert few.scores(queries) == Likeness(codec, recordings[:24]).scores(queries)  # three parts need no scheduler
    with pytest.raises(ClusterError, match=r"expected a scheduler of Dask at tcp://127\.0\.0\.1:1, found: "):
        Likeness(codec, recordings, SharedCluster("tcp://127.0.0.1:1", tmp_path)).scores(queries)
    assert not (tmp_path / "search").exists()


@pytest.mark.usefixtures("only_exhaustive")
def test_collections_of_pretraining_are_made_by_workers(dask: Dask, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    with Cluster(dask.address) as cluster:
        coded_collections(tmp_path / "there", 2, 5, 1, lambda *said: done.append(said[:2]), cluster)
    assert done == [(1, 2), (2, 2)]
    coded_collections(tmp_path / "here", 2, 5, 2, lambda *_: None)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


@pytest.mark.usefixtures("only_exhaustive")
def test_a_task_that_kills_its_workers_ends_with_a_sentence(tmp_path: Path) -> None:
    with (
        started(tmp_path, 4) as dask,
        Cluster(dask.address) as cluster,
        pytest.raises(ClusterError, match=r"found that 4 of them ended in the middle of the same one; give workers"),
    ):
        list(cluster.map(os._exit, [1]))
