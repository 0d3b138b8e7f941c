"""Run training stages in DISTILL_PROCESSES processes on this computer, with torchrun's agent and restarts."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable

from distill.errors import DistillError, Interrupted, ParamsError
from distill.execution import execution_from_environment, number_from_environment, processors
from distill.params import Params
from distill.training.interruption import SIGNALS
from stages.running import LAUNCHED

MAX_RESTARTS = 3
# Exit statuses of processes that reported a reason; signals rank above the errors that they cause.
RANKING = (2, 129, 130, 143)


Body = Callable[[Params], None]


class EndedError(DistillError):
    """End of a training whose processes have already reported the reason."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("ended with its processes, which say above why")
        self.exit_code = exit_code


def over_processes(name: str, body: Body) -> Body:
    """Wrap `body` of the stage `name` to run in several processes if DISTILL_PROCESSES asks for them.

    Processes started by torchrun or by this function run `body` directly.
    """

    def divided(params: Params) -> None:
        if LAUNCHED in os.environ:
            _end_with_parent()
        processes = 1 if "WORLD_SIZE" in os.environ else _processes()
        if processes == 1:
            body(params)
        else:
            _run(name, processes)

    return divided


def _processes() -> int:
    """Number of processes. Raises ParamsError for more processes than GPUs, if training uses GPUs."""
    asked = number_from_environment("DISTILL_PROCESSES", "1")
    if asked == 1:
        return 1
    import torch

    from distill.training.distributed import device_of

    if device_of(execution_from_environment()).type == "cpu":
        return asked or 1
    devices = torch.cuda.device_count()
    processes = asked or devices
    if processes > devices:
        raise ParamsError(
            f"DISTILL_PROCESSES: expected at most {devices}, one for each GPU here, found {processes}; lower it, or "
            "set DISTILL_DEVICE=cpu"
        )
    return processes


def _run(name: str, processes: int) -> None:
    """Run a stage in several processes; restart it from the last checkpoint if a process is killed.

    torchrun's own restarts do not distinguish a killed process from wrong input or a requested stop.
    """
    os.environ[LAUNCHED] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, processors() // processes)))
    for attempt in range(1 + MAX_RESTARTS):
        killed = _launch(name, processes, f"{name}-{os.getpid()}-{attempt}")
        if not killed:
            return
        if attempt < MAX_RESTARTS:
            print(
                f"{name}: a process was killed by {killed}; all start again from the last checkpoint",
                file=sys.stderr,
            )
    raise DistillError(
        f"processes: expected {processes} of them to train to the end, found one killed by {killed} each of "
        f"{attempt + 1} times; if memory ran out, take a smaller batch_size or lower DISTILL_PROCESSES, and run "
        "again to continue"
    )


def _launch(name: str, processes: int, run_id: str) -> str:
    """Run a stage in several processes. Returns the name of the signal that killed a process, or "" after success.

    Raises Interrupted, and EndedError if a process reported the reason for its end.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for logger in (
        known
        for known in logging.root.manager.loggerDict
        if known.startswith("torch.distributed.elastic")
    ):
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # reported here instead
    caught = [number.name for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=run_id,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        signals_to_handle=",".join(caught),
    )
    try:
        elastic_launch(config, sys.executable)("-m", f"stages.{name}")
    except SignalException as error:
        ended = f"interrupted by {signal.Signals(error.sigval).name}, and so were its {processes} processes"
        raise Interrupted(ended, 128 + error.sigval) from None
    except ChildFailedError as error:
        return _killed_by([failure.exitcode for failure in error.failures.values()])
    return ""


def _killed_by(exit_codes: list[int]) -> str:
    """Name of the signal that killed a process. Raises EndedError if no process was killed."""
    killed = [signal.Signals(-code).name for code in exit_codes if code < 0]
    if not killed:
        raise EndedError(
            max(exit_codes, key=RANKING.index) if set(exit_codes) <= set(RANKING) else 1
        )
    return killed[0]


def _end_with_parent() -> None:
    """Receive SIGTERM when the parent process is killed (Linux only)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # of prctl(2)
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
