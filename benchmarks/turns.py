"""Interleaved work in separate processes, so that none is affected by the memory use of another."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TypeVar

K = TypeVar("K")


class Turn:
    """A process of `python -m module arguments` that works on request. See `serve`."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Turn":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def seconds(self, times: int) -> float:
        """Seconds to do its work `times` times."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(times, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def serve(work: Callable[[], object]) -> None:
    """For each count read from stdin, do the work that often and print the seconds."""
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            work()
        print(time.perf_counter() - began, flush=True)


def in_turn(turns: Mapping[K, Turn], rounds: int, times: int, first: int) -> dict[K, list[float]]:
    """Seconds of each interleaved round of `times` calls, after `first` warm-up calls."""
    with ExitStack() as stack:
        for turn in turns.values():
            stack.enter_context(turn)
        for turn in turns.values():
            turn.seconds(first)
        seconds: dict[K, list[float]] = {key: [] for key in turns}
        for _ in range(rounds):
            for key, turn in turns.items():
                seconds[key].append(turn.seconds(times))
    return seconds
