"""Pieces of work that take turns, each in a process of its own, so that none pays for what another does to memory."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TypeVar

K = TypeVar("K")


class Turn:
    """A process of `python -m module arguments` that works when asked to and waits otherwise. See `serve`."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Turn":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def seconds(self, times: int) -> float:
        """How long it takes to do its work so many times."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(times, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def serve(work: Callable[[], object]) -> None:
    """Read numbers from stdin, do the work so often, write how many seconds each lot took."""
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            work()
        print(time.perf_counter() - began, flush=True)


def in_turn(turns: Mapping[K, Turn], rounds: int, times: int, first: int) -> dict[K, list[float]]:
    """Seconds of each round of `times` pieces of work, after `first` pieces that do not count."""
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
