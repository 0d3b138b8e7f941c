"""Work on more than one machine, by Dask's distributed scheduler: `DISTILL_CLUSTER` names it.

Workers see the same folders at the same paths. A task writes what it makes into a folder, atomically, so that it can be
done again by another worker; what was done stays when the scheduler is lost.
"""

import gc
import logging
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from distill.errors import DistillError
from distill.execution import Execution

CONNECT_SECONDS = 10
TASKS_PER_THREAD = 3  # in flight: enough that no worker waits, and little is done again when one is lost

_OTHER_CODE = (
    "expected the same code and libraries as where the stage was started, found others; install the same version of "
    "Distill on all machines and start scheduler and workers again"
)

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)


class ClusterError(DistillError):
    """A scheduler that cannot be reached or was lost, or a worker that cannot do what it is asked."""


class Cluster:
    """Connection to a scheduler of Dask, such as tcp://10.0.0.1:8786. Use as a context manager.

    Raises ClusterError where nothing answers at `address`, and where the package is not installed.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._client: Any = None

    def __enter__(self) -> Self:
        try:
            from distributed import Client
        except ImportError as error:
            raise ClusterError(
                "DISTILL_CLUSTER: expected the package distributed, found it missing; install it with "
                "pip install 'distill-audio[cluster]', or run without DISTILL_CLUSTER"
            ) from error
        _quiet()
        refusal = ""
        try:
            self._client = Client(self.address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            refusal = _first_line(error)
        if refusal:
            gc.collect()  # what the client has begun would end, and wait for ever, in the middle of another's beginning
            raise ClusterError(
                f"DISTILL_CLUSTER: expected a scheduler of Dask at {self.address}, found: {refusal}; start it with "
                "`dask scheduler`, or correct the address"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close(timeout=2)

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Call `function` on the workers with each task; pairs of task and result come as they are done.

        Waits for workers where there are none yet. Raises ClusterError when the scheduler is lost, or when a task ends
        the workers that try it, and what the function raises.
        """
        from distributed import CancelledError, KilledWorker, as_completed
        from distributed.comm.core import CommClosedError

        client = self._client
        assert client is not None, "a cluster is used as a context manager"
        waiting = iter(tasks)
        running: dict[Any, T] = {}
        try:
            self._say_when_idle(client)
            done = as_completed(loop=client.loop)
            while True:
                for task in islice(waiting, max(0, self._most(client) - len(running))):
                    future = client.submit(function, task, pure=False)
                    running[future] = task
                    done.add(future)
                if not running:
                    return
                future = next(done)
                yield running.pop(future), future.result()
        except KilledWorker as error:
            raise ClusterError(
                f"cluster {self.address}: expected workers that end a task, found that {error.allowed_failures + 1} of "
                "them ended in the middle of the same one; give workers more memory and run again"
            ) from error
        except RuntimeError as error:
            if "deserialization" not in str(error):
                raise
            raise ClusterError(f"cluster {self.address}: {_OTHER_CODE}") from error
        except (CancelledError, CommClosedError, OSError, TimeoutError) as error:
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
                raise  # of a file
            raise ClusterError(
                f"cluster {self.address}: expected the scheduler to go on, found that it is gone; what was done is kept: "
                "start it and run again"
            ) from error
        finally:
            for future in running:
                future.release()

    @staticmethod
    def _most(client: Any) -> int:
        workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
        return TASKS_PER_THREAD * max(1, sum(int(one["nthreads"]) for one in workers.values()))

    def _say_when_idle(self, client: Any) -> None:
        if not client.scheduler_info(n_workers=1)["workers"]:
            _log.warning(
                "cluster %s: no worker has joined yet; waiting for the first (dask worker %s)",
                self.address,
                self.address,
            )


@dataclass(frozen=True)
class SharedCluster:
    """The scheduler at `address`, and a folder for what its workers are to read, which they see at the same path."""

    address: str
    folder: Path


def shared_cluster(execution: Execution, folder: Path) -> SharedCluster | None:
    """The cluster that `execution` names, None without one."""
    return SharedCluster(execution.cluster, folder) if execution.cluster else None


def cluster_of(execution: Execution) -> AbstractContextManager[Cluster | None]:
    """The cluster that `execution` names, None without one."""
    return Cluster(execution.cluster) if execution.cluster else nullcontext()


def check_worker(version: str, here: str, *folders: Path) -> None:
    """Raise ClusterError where this worker has other code than `version`, that of who asks, or lacks one of `folders`."""
    host = socket.gethostname()
    if here != version:
        raise ClusterError(f"worker {host}: {_OTHER_CODE}")
    for folder in folders:
        if not folder.is_dir():
            raise ClusterError(
                f"worker {host}: expected the folder {folder}, found nothing there; workers need the same folders at the "
                "same paths, as a shared file system gives them"
            )


def _quiet() -> None:
    """Let what is lost be told in our own words: Dask logs each broken connection."""
    for name in ("distributed.client", "distributed.comm", "distributed.core", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
