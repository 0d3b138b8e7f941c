"""Distribute work over several machines with Dask; `DISTILL_CLUSTER` is the address of the scheduler.

Stages and commands choose the executor; lower layers only see `distill.storage.work.Executor`. All workers must see the
same folders at the same paths. Each call writes its results to a folder atomically, so that another worker can repeat
it. Finished results survive the loss of the scheduler.
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
    """Unreachable or lost scheduler, or a worker that cannot do its task."""


@contextmanager
def executor_of(execution: Execution) -> Iterator[Executor]:
    """Executor on the cluster of `execution`, or on local workers if it names no cluster."""
    if execution.cluster:
        with closing(Dask(execution.cluster)) as dask:
            yield dask
    else:
        yield Executor(execution.workers)


class Dask(Executor):
    """Executor on the workers of a Dask scheduler, such as tcp://10.0.0.1:8786, with one processor each.

    It connects at the first item of work, and stays connected until `close`.
    """

    is_here = False

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address
        self._client: Any = None

    def close(self) -> None:
        """Close the connection."""
        if self._client:
            self._client.close(timeout=2)
        self._client = None

    def _warn_without_workers(self, client: Any) -> None:
        if not client.scheduler_info(n_workers=1)["workers"]:
            text = "cluster %s: no worker has joined yet; waiting for the first (dask worker %s)"
            _log.warning(text, self.address, self.address)

    def map(
        self, function: Callable[[T], R], items: Iterable[T], folders: Sequence[Path]
    ) -> Iterator[tuple[T, R]]:
        """Map on the workers, as `Executor.map`. The function is sent to each worker once.

        Waits until a worker joins. Raises ClusterError if the scheduler does not answer or is lost, if Dask is not
        installed, if a call ends the workers that try it, and if a worker has other code or lacks a folder.
        """
        waiting = iter(items)
        ahead = list(islice(waiting, 1))
        if not ahead:
            return  # no work, so no need to connect
        client = self._client = self._client or _connected(self.address)
        from distributed import CancelledError, KilledWorker, as_completed
        from distributed.comm.core import CommClosedError
        from distributed.protocol.pickle import dumps

        running: dict[Any, T] = {}
        try:
            self._warn_without_workers(client)
            # Workers fetch the function from each other.
            shared = client.submit(bytes, dumps(function), pure=False)
            done = as_completed(loop=client.loop)
            ahead += islice(waiting, _max_tasks(client) - 1)
            while ahead or running:
                for item in ahead:
                    future = client.submit(
                        _on_worker, shared, dumps(item), _version(), tuple(folders), pure=False
                    )
                    running[future] = item
                    done.add(future)
                future = next(done)
                yield running.pop(future), future.result()
                ahead = list(islice(waiting, max(0, _max_tasks(client) - len(running))))
        except KilledWorker as error:
            raise ClusterError(
                f"cluster {self.address}: expected workers that end a task, found that {error.allowed_failures + 1} of "
                "them ended in the middle of the same one; give workers more memory and run again"
            ) from error
        except (CancelledError, CommClosedError, OSError, TimeoutError) as error:
            if getattr(error, "errno", None) and not isinstance(error, ConnectionError):
                raise  # an error of a file
            raise ClusterError(
                f"cluster {self.address}: expected the scheduler to go on, found that it is gone; what was done is kept: "
                "start it and run again"
            ) from error
        finally:
            for future in running:
                future.release()


def _max_tasks(client: Any) -> int:
    """Number of tasks in flight: enough to keep workers busy, few enough to repeat if a worker is lost."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return 3 * max(1, sum(int(worker["nthreads"]) for worker in workers))


def _connected(address: str) -> Any:
    """Connect to the scheduler. Raises ClusterError."""
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        raise ClusterError(
            "DISTILL_CLUSTER: expected the package distributed, found it missing; install it with "
            "pip install 'distill-audio[cluster]', or run without DISTILL_CLUSTER"
        ) from error
    # ClusterError reports lost connections; Dask would log each of them.
    noisy = "distributed.client", "distributed.comm", "distributed.core", "tornado.application"
    for name in noisy:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # A function may hold a codec.
    dask.config.set({"distributed.admin.large-graph-warning-threshold": 1 << 30})
    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        refusal = next(iter(str(error).splitlines()), type(error).__name__)
    gc.collect()  # otherwise a later client's start may collect the failed client, which then waits forever
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
    """Call the function on a worker. Raises ClusterError if its code has another version or it lacks a folder.

    Function and item are only unpickled here, so that other code is not mistaken for a defect, and so that imports do
    not keep the worker from answering.
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
    """Hash of all code and of the versions of the numerical libraries."""
    libraries = [metadata.version(name) for name in LIBRARIES]
    return sha256_json([sha256_files(PACKAGE.rglob("*.py"), PACKAGE), *libraries])
