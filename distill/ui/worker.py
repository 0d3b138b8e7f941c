"""A process that runs the page's commands, one after another, and keeps libraries and the last model loaded between them.

Each line on its stdin is an order: a JSON object with the `folder` of a job, the `arguments` of `distill`, and variables
for the `environment`. The worker ends when its stdin does, or after a command that was cancelled or failed. It runs in a
process group of its own, so that a command goes on when the page is closed or killed. A session of its own would have a
share of the processors that the nicest process does not leave to others: see `man 7 sched`, autogroups.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from distill.storage.files import write_json

EXIT, STDOUT, STDERR = "exit.json", "stdout.txt", "stderr.txt"
USED_AGAIN = (0, 2)  # exit statuses that leave a worker as it was: done and refused
_RUN = [sys.executable, "-P", "-m", "distill.ui.worker"]


class Worker:
    """A worker as the page sees it."""

    def __init__(self, cwd: Path, nicer: int) -> None:
        """Start a process in a folder, so much nicer to other ones."""
        self._process = subprocess.Popen(
            [*_RUN, str(nicer)],
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
            bufsize=0,
        )
        self.process = psutil.Process(self._process.pid)
        threading.Thread(target=self._process.wait, daemon=True).start()

    def run(self, folder: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run `distill` with arguments after what was ordered before. Raises OSError where the process has ended."""
        order = {"folder": str(folder), "arguments": list(arguments), "environment": dict(environment)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    def end(self) -> None:
        """Let it end when all orders are done."""
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()


def main() -> None:
    """Run orders from stdin until it ends; the argument says how much nicer to others this process is."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a page that was started in the background ignores it
    if hasattr(os, "nice"):
        os.nice(int(sys.argv.pop(1)))
    orders = os.fdopen(os.dup(0), encoding="utf-8")  # children of a command have another stdin
    _redirect(Path(os.devnull), 0)
    while line := orders.readline():
        order = json.loads(line)
        folder, status = Path(order["folder"]), _run(**order)
        is_used_again = status in USED_AGAIN
        if not is_used_again:
            orders.close()  # before anybody sees that the command ended: from now on no order is taken
        write_json(folder / EXIT, {"status": status})
        if not is_used_again:
            sys.exit(status)


def _run(folder: str, arguments: list[str], environment: dict[str, Any]) -> int:
    """Run a command in this process and return its exit status; the folder gets what it prints."""
    os.environ.update(environment)
    sys.argv[1:] = arguments
    status = 0
    for name, number in ((STDOUT, 1), (STDERR, 2)):
        _redirect(Path(folder) / name, number)
    try:
        runpy.run_module("distill", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = int(ended.code or 0)
    except KeyboardInterrupt:  # before the command was there to be interrupted
        status = 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    return status


def _redirect(path: Path, number: int) -> None:
    """Let a file descriptor be that of a file."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, number)
    os.close(file)


if __name__ == "__main__":
    main()
