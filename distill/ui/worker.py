"""Worker process that runs the page's commands in sequence, and keeps libraries and the last model loaded.

Each line on its stdin is an order: a JSON object with the `folder` of a job, the `arguments` of `distill`, and
`environment` variables. The worker ends at the end of stdin, or after a command that was cancelled or failed. It has
its own process group, so that a command continues when the page is closed or killed. It has no session of its own: even
with the lowest priority, a session keeps its own share of the processors (`man 7 sched`, autogroups).
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
_RUN = [sys.executable, "-P", "-m", "distill.ui.worker"]


class Worker:
    """Handle of a worker, for the page."""

    def __init__(self, cwd: Path, nicer: int) -> None:
        """Start a process in the folder `cwd`, with its niceness raised by `nicer`."""
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
        """Queue a run of `distill` after earlier orders. Raises OSError if the process has ended."""
        order = {
            "folder": str(folder),
            "arguments": list(arguments),
            "environment": dict(environment),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    def end(self) -> None:
        """End the process after all orders are done."""
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()


def main() -> None:
    """Run orders from stdin until it ends; the argument is the increment of niceness."""
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored if the page was started in the background
    if hasattr(os, "nice"):
        os.nice(int(sys.argv.pop(1)))
    orders = os.fdopen(
        os.dup(0), encoding="utf-8"
    )  # a command and its children get /dev/null as stdin
    _redirect(Path(os.devnull), 0)
    while line := orders.readline():
        order = json.loads(line)
        folder, status = Path(order["folder"]), _run(**order)
        is_used_again = status in (0, 2)  # done or refused
        if not is_used_again:
            orders.close()  # take no more orders, before the page sees the end of the command
        write_json(folder / EXIT, {"status": status})
        if not is_used_again:
            sys.exit(status)


def _run(folder: str, arguments: list[str], environment: dict[str, Any]) -> int:
    """Run a command in this process and return its exit status; its output goes to files in the folder."""
    os.environ.update(environment)
    sys.argv[1:] = arguments
    status = 0
    for name, number in ((STDOUT, 1), (STDERR, 2)):
        _redirect(Path(folder) / name, number)
    try:
        runpy.run_module("distill", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = int(ended.code or 0)
    except KeyboardInterrupt:  # before the command handles signals
        status = 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    return status


def _redirect(path: Path, number: int) -> None:
    """Redirect a file descriptor to a file."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, number)
    os.close(file)


if __name__ == "__main__":
    main()
