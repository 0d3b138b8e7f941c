"""Ctrl-C and SIGTERM as a request that training looks at between steps, so that it can save before it goes."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from distill.errors import Interrupted


class Interruption:
    """Whether a signal asked to stop. A second one is not caught: it ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def check(self, saved: str) -> None:
        """Raise Interrupted (130 for SIGINT, 143 for SIGTERM) if asked to stop; `saved` says what is kept."""
        if self.signal is not None:
            name = signal.Signals(self.signal).name
            raise Interrupted(f"interrupted by {name}: {saved}", 128 + self.signal)


def raise_on_sigterm() -> None:
    """Let SIGTERM raise Interrupted wherever the process is, as Ctrl-C raises KeyboardInterrupt."""
    signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def catch_interruption() -> Iterator[Interruption]:
    """Turn the first SIGINT or SIGTERM into a request. Outside the main thread signals are left alone."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def request(number: int, _: FrameType | None) -> None:
        interruption.signal = number
        for caught, handler in previous.items():
            signal.signal(caught, handler)

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, request)
    try:
        yield interruption
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _terminate(_: int, __: FrameType | None) -> None:
    raise Interrupted("interrupted by SIGTERM; nothing half-written was kept", 128 + signal.SIGTERM)
