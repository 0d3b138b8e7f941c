"""Time and memory of a command and of the processes that it starts."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

PERIOD = 0.2  # seconds between two looks


@dataclass(frozen=True)
class Cost:
    """Seconds that a command took, and the most memory in bytes, of its largest process and of all together.

    Pages of files are left out: the system takes them back when it needs them.
    """

    seconds: float
    largest: int
    together: int
    status: int


def measured(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command in a folder, its output to `run.log` there."""
    began = time.monotonic()
    with (folder / "run.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **(environment or {})}
        )
        peaks = [0, 0]
        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks, ended))
        watcher.start()
        status = process.wait()
        ended.set()
        watcher.join()
    return Cost(time.monotonic() - began, peaks[0], peaks[1], status)


def _watch(pid: int, peaks: list[int], ended: threading.Event) -> None:
    while not ended.wait(PERIOD):
        with suppress(psutil.Error):
            parent = psutil.Process(pid)
            held = [_own_memory(one) for one in (parent, *parent.children(recursive=True))]
            peaks[:] = max(peaks[0], *held), max(peaks[1], sum(held))


def _own_memory(process: psutil.Process) -> int:
    try:
        found = process.memory_info()
    except psutil.Error:
        return 0
    return int(found.rss - found.shared)
