"""Status of a running command as files that other processes read, in the folder that DISTILL_STATUS names.

`status.json` is the task at work: label, done, total, text, seconds_left. `said.txt` holds the lines that were said,
`events.jsonl` an event of training in each line. Beside them lies what the command keeps for its watchers.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

VARIABLE = "DISTILL_STATUS"
STATUS, SAID, EVENTS = "status.json", "said.txt", "events.jsonl"
SECONDS = 0.5  # between writes

Progress = Callable[[int, int, str], None]
"""Shows progress: what is done, of how much, and a text."""


class Status:
    """Writer of the status of one task. It never fails a command: what cannot be written is left out."""

    def __init__(self, folder: Path | None, label: str = "") -> None:
        """Without a folder nothing is written."""
        self.folder, self._label = folder, label
        self._written, self._first = -SECONDS, (0, time.monotonic())

    def progress(self, done: int, total: int, text: str) -> None:
        """Record that `done` of `total` steps are done."""
        now = time.monotonic()
        if done <= self._first[0]:
            self._first = (done, now)
        if self.folder is None or (now - self._written < SECONDS and done != total):
            return
        self._written = now
        first, began = self._first
        left = (now - began) / (done - first) * (total - done) if done > first else None
        values = {"label": self._label, "done": done, "total": total, "text": text, "seconds_left": left}
        with contextlib.suppress(OSError):
            temporary = self.folder / f".{STATUS}.{os.getpid()}.tmp"
            temporary.write_text(json.dumps(values), encoding="utf-8")
            temporary.replace(self.folder / STATUS)  # readers never see half a file; no fsync, it is soon out of date

    def say(self, line: str) -> None:
        """Record a line."""
        self._append(SAID, line)

    def event(self, event: Any) -> None:
        """Record an event, a dataclass."""
        self._append(EVENTS, json.dumps({"event": type(event).__name__, "task": self._label, **asdict(event)}))

    def metrics(self, values: Mapping[str, float], epoch: int) -> None:
        """Record the metrics of an epoch."""
        self._append(EVENTS, json.dumps({"event": "metrics", "task": self._label, **values, "epoch": epoch}))

    def keep(self, path: Path, name: str) -> None:
        """Keep a copy of a file or folder for those who watch."""
        if self.folder is None or not path.exists():
            return
        with contextlib.suppress(OSError, shutil.Error):
            if path.is_dir():
                shutil.copytree(path, self.folder / name, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, self.folder / name)

    def _append(self, name: str, line: str) -> None:
        if self.folder is not None:
            with (
                contextlib.suppress(OSError),
                (self.folder / name).open("a", encoding="utf-8", errors="backslashreplace") as file,
            ):
                file.write(line + "\n")


def status_from_environment(label: str = "") -> Status:
    """The status that DISTILL_STATUS asks for."""
    folder = os.environ.get(VARIABLE)
    return Status(Path(folder) if folder else None, label)
