"""A command of DVC in a process of its own, to which signals are forwarded."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from types import FrameType

from distill.training.interruption import SIGNALS


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, and the first signal that asked it to end, None where none did.

    `output` is what it wrote to stdout, "" where that was not asked for.
    """

    status: int
    signal: int | None
    output: str


def run_dvc(*arguments: str, wants_output: bool = False) -> Ended:
    """Run DVC. Signals that ask to end are forwarded to it and its stage as SIGINT, for which DVC waits until they end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        stdout=subprocess.PIPE if wants_output else None,
        text=True,
        start_new_session=os.name != "nt",
    )
    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        if os.name != "nt":
            os.killpg(process.pid, signal.SIGINT)

    previous = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        output, _ = process.communicate()
        return Ended(process.returncode, received[0] if received else None, output or "")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
