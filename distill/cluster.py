"""Work on more than one machine, by Dask's distributed scheduler: `DISTILL_CLUSTER` names it.

An executor for stages and commands to choose; what is below them only sees `distill.storage.work.Executor`. Workers see
the same folders at the same paths. A call writes what it makes into a folder, atomically, so that it can be done again
by another worker; what was done stays when the scheduler is lost.
"""

import gc
import logging
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache, lru_cache
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from distill.code_version import PACKAGE
from distill.errors import DistillError
from distill.execution import Execution
from distill.storage.files import sha256_files, sha256_json
from distill.storage.work import LIBRARIES, Executor

CONNECT_SECONDS = 10

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)


class ClusterError(DistillError):
    """A scheduler that cannot be reached or was lost, or a worker that cannot do what it is asked."""


@contextmanager
def executor_of(execution: Execution) -> Iterator[Executor]:
    """The cluster that `execution` names, or without a name this process with all its workers."""
    if execution.cluster:
        with closing(Dask(execution.cluster)) as dask:
            yield dask
    else:
        yield Executor(execution.workers)


class Dask(Executor):
    """The workers of a scheduler of Dask, such as tcp://10.0.0.1:8786, with one processor each.

    The connection begins with the first call that there is to make, and lasts until `close`.
    """

    is_here = False

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address
        self._client: Any = None

    def close(self) -> None:
        """End the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close(timeout=2)

    def map(self, function: Callable[[T], R], items: Iterable[T], folders: Sequence[Path]) -> Iterator[tuple[T, R]]:
        """As `Executor.map`, by the workers. The function is sent to each of them once.

        Waits until a worker joins. Raises ClusterError where nothing answers, where the package is not installed, when
        the scheduler is lost, when a call ends the workers that try it, and where a worker has other code or lacks a
        folder.
        """
        waiting = iter(items)
        ahead = list(islice(waiting, 1))
        if not ahead:
            return  # nothing to do needs no scheduler
        client = self._client = self._client or _connected(self.address)
        from distributed import CancelledError, KilledWorker, as_completed
        from distributed.comm.core import CommClosedError
        from distributed.protocol.pickle import dumps

        running: dict[Any, T] = {}
        try:
            if not client.scheduler_info(n_workers=1)["workers"]:
                idle = "cluster %s: no worker has joined yet; waiting for the first (dask worker %s)"
                _log.warning(idle, self.address, self.address)
            shared = client.submit(bytes, dumps(function), pure=False)  # workers fetch it from each other
            done = as_completed(loop=client.loop)
            ahead += islice(waiting, _most_tasks(client) - 1)
            while ahead or running:
                for item in ahead:
                    future = client.submit(_on_worker, shared, dumps(item), _version(), tuple(folders), pure=False)
                    running[future] = item
                    done.add(future)
                future = next(done)
                yield running.pop(future), future.result()
                ahead = list(islice(waiting, max(0, _most_tasks(client) - len(running))))
        except KilledWorker as error:
            raise ClusterError(
                f"cluster {self.address}: expected workers that end a task, found that {error.allowed_failures + 1} of "
                "them ended in the middle of the same one; give workers more memory and run again"
            ) from error
        except (CancelledError, CommClosedError, OSError, TimeoutError) as error:
            if getattr(error, "errno", None) and not isinstance(error, ConnectionError):
                raise  # of a file
            raise ClusterError(
                f"cluster {self.address}: expected the scheduler to go on, found that it is gone; what was done is kept: "
                "start it and run again"
            ) from error
        finally:
            for future in running:
                future.release()


def _most_tasks(client: Any) -> int:
    """Number of tasks to have in flight: enough that no worker waits, and little is done again when one is lost."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return 3 * max(1, sum(int(worker["nthreads"]) for worker in workers))


def _connected(address: str) -> Any:
    """A client of the scheduler. Raises ClusterError."""
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        raise ClusterError(
            "DISTILL_CLUSTER: expected the package distributed, found it missing; install it with "
            "pip install 'distill-audio[cluster]', or run without DISTILL_CLUSTER"
        ) from error
    # What is lost is told in our own words: Dask logs each broken connection.
    for name in ("distributed.client", "distributed.comm", "distributed.core", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    dask.config.set({"distributed.admin.large-graph-warning-threshold": 1 << 30})  # of a codec
    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        refusal = next(iter(str(error).splitlines()), type(error).__name__)
    gc.collect()  # what the client has begun would end, and wait for ever, in the middle of another's beginning
    raise ClusterError(
        f"DISTILL_CLUSTER: expected a scheduler of Dask at {address}, found: {refusal}; start it with "
        "`dask scheduler`, or correct the address"
    )


@lru_cache(maxsize=1)
def _unpacked(function: bytes) -> Callable[[Any], Any]:
    from distributed.protocol.pickle import loads

    unpacked: Callable[[Any], Any] = loads(function)
    return unpacked


def _on_worker(function: bytes, item: bytes, version: str, folders: Sequence[Path]) -> Any:
    """Call the function on a worker that has this version of the code and sees the folders. Raises ClusterError.

    Both are unpacked here, so that other code is told from a defect, and imports do not keep the worker from answering.
    """
    from distributed.protocol.pickle import loads

    host = socket.gethostname()
    if _version() != version:
        raise ClusterError(
            f"worker {host}: expected the same code and libraries as where the stage was started, found others; install "
            "the same version of Distill on all machines and start scheduler and workers again"
        )
    for folder in folders:
        if not folder.is_dir():
            raise ClusterError(
                f"worker {host}: expected the folder {folder}, found nothing there; workers need the same folders at the "
                "same paths, as a shared file system gives them"
            )
    return _unpacked(function)(loads(item))


@cache
def _version() -> str:
    """Key of all code, and of the libraries that compute."""
    libraries = [metadata.version(name) for name in LIBRARIES]
    return sha256_json([sha256_files(PACKAGE.rglob("*.py"), PACKAGE), *libraries])
