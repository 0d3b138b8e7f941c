"""Ctrl-C, SIGTERM and a terminal that closes (SIGHUP): requests that training polls between steps, to save first."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from distill.errors import Interrupted

ENDING = (signal.SIGTERM,) if sys.platform == "win32" else (signal.SIGTERM, signal.SIGHUP)
SIGNALS: tuple[signal.Signals, ...] = (*ENDING, signal.SIGINT)  # that ask a process to end
HEARD = b"\nstopping: saves what is done first; a second Ctrl-C ends at once and loses it\n"


class Interruption:
    """Request to stop by a signal: its number, 0 before. A second signal is not caught and ends the process at once."""

    signal: int = 0


def raise_interrupted(number: int, saved: str) -> NoReturn:
    """Raise Interrupted (128 and the number of the signal); the message ends with `saved`, what is kept."""
    raise Interrupted(f"interrupted by {signal.Signals(number).name}: {saved}", 128 + number)


def raise_on_signals() -> None:
    """Let SIGTERM and SIGHUP raise Interrupted, as Ctrl-C raises KeyboardInterrupt; not where they are ignored (nohup)."""

    def terminate(number: int, _: FrameType | None) -> None:
        raise Interrupted(
            f"interrupted by {signal.Signals(number).name}; nothing half-written was kept",
            128 + number,
        )

    for number in ENDING:
        if not is_ignored(number):
            signal.signal(number, terminate)


@contextmanager
def catch_interruption() -> Iterator[Interruption]:
    """Catch the first of `SIGNALS` as a request to stop. Outside the main thread no signal is caught."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def request(number: int, _: FrameType | None) -> None:
        interruption.signal = number
        restore()
        with suppress(OSError):
            os.write(
                2, HEARD
            )  # a handler may run amid a write to sys.stderr, which cannot be entered twice

    previous = {number: signal.getsignal(number) for number in SIGNALS if not is_ignored(number)}
    for number in previous:
        signal.signal(number, request)
    try:
        yield interruption
    finally:
        restore()


def is_ignored(number: signal.Signals) -> bool:
    """Whether a signal that ends a process is ignored, as SIGHUP is under nohup. Ctrl-C is never."""
    return number in ENDING and signal.getsignal(number) is signal.SIG_IGN
