"""Progress of a command: a live bar on a terminal, a line every few seconds elsewhere, and files for those who watch.

A task may end before its last step, as sounds do, so nothing is left of a bar, and the last line says that it is done.

The files are in the folder that DISTILL_STATUS names. `status.json` is the task at work: label, done, total, text,
seconds_left. `said.txt` holds the lines that were said, `events.jsonl` an event of training in each line. Beside them lies
what the command keeps for its watchers.
"""

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column, Table
from rich.text import Text

from distill.process import drop
from distill.text import one_line, shown

VARIABLE = "DISTILL_STATUS"
STATUS, SAID, EVENTS = "status.json", "said.txt", "events.jsonl"
LINE_SECONDS = 10.0  # between lines where no terminal is
HEALTH_TITLE = "codebooks on held-out sound"
LEVELS_IN_A_LINE = 10  # of health

Progress = Callable[[int, int, str], None]
"""Shows progress: what is done, of how much, and a text."""


class LastingConsole(Console):
    """Console that falls silent when nobody reads it any more. Rich's own ends the program."""

    def on_broken_pipe(self) -> None:
        """See the class."""
        self.quiet = True
        drop(self.file)


def silent(done: int, of: int, text: str) -> None:
    """Report no progress."""


class Status:
    """Writer of the status of one task. It never fails a command: what cannot be written is left out."""

    def __init__(self, folder: Path | None, label: str = "") -> None:
        """Without a folder nothing is written."""
        self.folder, self._label = folder, label
        self._written, self._first = -math.inf, (0, time.monotonic())

    def progress(self, done: int, total: int, text: str) -> None:
        """Record that `done` of `total` steps are done."""
        now = time.monotonic()
        if done <= self._first[0]:
            self._first = (done, now)
        if self.folder is None or (now - self._written < 0.5 and done != total):
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
        """Record the metrics of an epoch, from 0, or -1 for the initial weights."""
        self._append(EVENTS, json.dumps({"event": "metrics", "task": self._label, **values, "epoch": epoch}))

    def kept(self, epoch: int) -> None:
        """Record the epoch whose weights a training keeps, -1 for the initial ones."""
        self._append(EVENTS, json.dumps({"event": "kept", "task": self._label, "epoch": epoch}))

    def keep(self, path: Path, name: str) -> None:
        """Keep a copy of a file or folder for those who watch."""
        if self.folder is None:
            return
        with contextlib.suppress(OSError, shutil.Error):
            if path.is_dir():
                shutil.copytree(path, self.folder / name, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, self.folder / name)

    def _append(self, name: str, line: str) -> None:
        if self.folder is None:
            return
        path = self.folder / name
        with contextlib.suppress(OSError), path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line + "\n")


class ProgressReport:
    """Progress report of a task, on stderr and in the status files.

    Use as a context manager and call it with (done, total, text).
    """

    def __init__(self, label: str, quiet: bool = False) -> None:
        self._label = label
        folder = os.environ.get(VARIABLE)
        self.status = Status(Path(folder) if folder and not quiet else None, label)
        self._console = LastingConsole(stderr=True, quiet=quiet)
        self._printed, self._is_behind = time.monotonic(), False  # whether the last line shows less than all steps
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
        text = TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True))
        self._has_bar = self._console.is_terminal and not quiet
        self._bar = Bar(
            *columns, TimeRemainingColumn(), text, console=self._console, disable=not self._has_bar, transient=True
        )
        self._task = self._bar.add_task(label, total=None, text="", start=False)

    def __enter__(self) -> "ProgressReport":
        self.status.progress(0, 0, "")
        self._bar.start()
        self._bar.start_task(self._task)
        return self

    def begin(self, label: str) -> None:
        """Show another task from now on, whose time counts from now."""
        self._label, self.status, self._is_behind = label, Status(self.status.folder, label), False
        self.status.progress(0, 0, "")
        self._bar.reset(self._task, total=None, description=label, text="")

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._bar.stop()
        if self._is_behind and error is None:
            self.print(f"{self._label} done")

    def __call__(self, done: int, total: int, text: str) -> None:
        """Report that `done` of `total` steps are done."""
        self.status.progress(done, total, text)
        text = shown(text)
        if self._has_bar:
            self._bar.update(self._task, completed=done, total=total, text=text)
        elif time.monotonic() - self._printed > LINE_SECONDS or done == total:
            self._printed, self._is_behind = time.monotonic(), done != total
            self.print(f"{self._label} {done}/{total} {text}")

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one, and keep it for those who watch."""
        self.status.say(text)
        self.print(text)

    def print(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        with contextlib.suppress(OSError):  # a terminal that closed ends no training
            self._console.print(shown(text), highlight=False, markup=False, soft_wrap=True)


def health_table(health: Mapping[str, Mapping[str, float]], title: str) -> Table:
    """Table of codebook health, a row for each level: `utilization`, `perplexity` and `dead_codes`."""
    table = Table("level", title=title, title_justify="left", title_style="", box=None, padding=(0, 2, 0, 0))
    for name in ("codewords used", "perplexity", "never used"):
        table.add_column(name, justify="right")
    for level, values in health.items():
        figures = (f"{values['utilization']:.0%}", f"{values['perplexity']:.1f}", f"{values['dead_codes']:.0f}")
        table.add_row(plain(level), *figures)
    return table


def health_lines(health: Mapping[str, Mapping[str, float]], title: str) -> list[str]:
    """Lines of at most 80 columns with the figures of `health_table`: a column for each level, ten levels side by side.

    Of levels of one kind that follow each other, such as "shape 1" and "shape 2", the first has the whole name.
    """
    lines, levels = [], list(health.items())
    for start in range(0, len(levels), LEVELS_IN_A_LINE):
        kind, columns = "", [(title, "used, %", "perplexity", "never used")]
        for level, of in levels[start : start + LEVELS_IN_A_LINE]:
            before, (kind, _, number) = kind, level.partition(" ")
            figures = (f"{100 * of['utilization']:.0f}", f"{of['perplexity']:.0f}", f"{of['dead_codes']:.0f}")
            columns.append((number if kind == before else level, *figures))
        widths = [max(map(len, column)) for column in columns]
        lines += [" ".join(map(str.rjust, row, widths)) for row in zip(*columns, strict=True)]
    return lines


def plain(text: str) -> Text:
    """Text from a file without markup or control characters."""
    return Text(one_line(text, most=1000))
