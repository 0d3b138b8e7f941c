"""Runs the command of one job and records its process and its exit status: `python -m distill.ui.run_job FOLDER`.

It is a process of its own in a session of its own, so that the work goes on when the page is closed or killed.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import psutil

from distill.status import VARIABLE
from distill.storage.files import write_json

JOB, COMMAND, EXIT = "job.json", "command.json", "exit.json"
STDOUT, STDERR = "stdout.txt", "stderr.txt"
NICE = 5  # the page and what else is played on this computer come first


def main() -> int:
    """Run the job in the folder that is named; returns the exit status of its command."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    if hasattr(os, "nice"):
        os.nice(NICE)
    with (folder / STDOUT).open("ab") as out, (folder / STDERR).open("ab") as err:
        caught: list[int] = []
        command: subprocess.Popen[bytes] | None = None

        def forward(number: int, _: FrameType | None) -> None:
            if command is None:
                caught.append(number)
            else:
                command.send_signal(number)

        signal.signal(signal.SIGINT, forward)
        signal.signal(signal.SIGTERM, forward)
        command = subprocess.Popen(
            job["command"],
            cwd=job["cwd"],
            env={**os.environ, **job["environment"], VARIABLE: str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        for number in caught:  # before there was a command
            command.send_signal(number)
        with contextlib.suppress(psutil.Error, OSError):
            write_json(folder / COMMAND, {"pid": command.pid, "created": psutil.Process(command.pid).create_time()})
        status = command.wait()
    write_json(folder / EXIT, {"status": status})
    return status


if __name__ == "__main__":
    sys.exit(main())
