"""Ctrl-C and SIGTERM as a request that training looks at between steps, so that it can save before it goes."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from distill.errors import Interrupted
from distill.progress import ProgressReport

LOOK_SECONDS = 0.2


class Interruption:
    """Whether a signal asked to stop. A second one is not caught: it ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @staticmethod
    def leave(number: int, saved: str) -> NoReturn:
        """Raise Interrupted (130 for SIGINT, 143 for SIGTERM); `saved` says what is kept."""
        raise Interrupted(f"interrupted by {signal.Signals(number).name}: {saved}", 128 + number)


class StopFile:
    """A file that asks training to end now, with its best weights, as a success."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._asked, self._looked = False, time.monotonic()

    def is_set(self) -> bool:
        """Whether the file has appeared; it is removed when it has, and looked for a few times a second."""
        if not self._asked and time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            if self.path.exists():
                self._asked = True
                self.path.unlink(missing_ok=True)
        return self._asked


def watch_for_stop(path: Path, progress: ProgressReport) -> StopFile:
    """A stop file that is not there yet: one that is was meant for an earlier training, and is removed."""
    if path.exists():
        path.unlink(missing_ok=True)
        progress.say(f"{path} was there before training began and is removed; make it again to stop early")
    return StopFile(path)


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
