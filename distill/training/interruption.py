"""Signals as requests to stop: Ctrl-C, SIGTERM, and SIGHUP when the terminal closes. Training polls them."""

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
SIGNALS: tuple[signal.Signals, ...] = (*ENDING, signal.SIGINT)  # requests to stop


class Interruption:
    """Request to stop by a signal: its number, 0 before. A second signal is not caught and ends the process at once."""

    signal: int = 0


def raise_interrupted(number: int, saved: str) -> NoReturn:
    """Raise Interrupted with exit code 128 + `number`; the message ends with `saved`, which says what is kept."""
    raise Interrupted(f"interrupted by {signal.Signals(number).name}: {saved}", 128 + number)


def raise_on_signals() -> None:
    """Make SIGTERM and SIGHUP raise Interrupted, unless they are ignored, as under nohup."""

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
    """Record the first of `SIGNALS` instead of ending the process. Outside the main thread no signal is caught."""
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
        message = (
            b"\nstopping: saves what is done first; a second Ctrl-C ends at once and loses it\n"
        )
        with suppress(OSError):
            os.write(2, message)  # not sys.stderr: the handler may run during a write to it

    previous = {number: signal.getsignal(number) for number in SIGNALS if not is_ignored(number)}
    for number in previous:
        signal.signal(number, request)
    try:
        yield interruption
    finally:
        restore()


def is_ignored(number: signal.Signals) -> bool:
    """Whether the process ignores SIGTERM or SIGHUP, as under nohup. Ctrl-C always counts as not ignored."""
    return number in ENDING and signal.getsignal(number) is signal.SIG_IGN
