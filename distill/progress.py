"""Progress of a command: a live bar on a terminal, otherwise a line every few seconds, and status files.

Tasks may end before their last step, as generation does, so the bar disappears, and the last line says "done".

Status files are in the folder DISTILL_STATUS. `status.json` describes the running task: label, done, total, text,
seconds_left. `said.txt` holds messages, and `events.jsonl` a training event in each line. Next to them are copies
that a command keeps for the page.
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
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.table import Column, Table
from rich.text import Text

from distill.process import drop
from distill.text import one_line, shown

VARIABLE = "DISTILL_STATUS"
STATUS, SAID, EVENTS = "status.json", "said.txt", "events.jsonl"
LINE_SECONDS = 10.0  # between lines without a terminal
HEALTH_TITLE = "codebooks on held-out sound"
LEVELS_IN_A_LINE = 10  # in `health_lines`

Progress = Callable[[int, int, str], None]
"""Callback for progress: steps done, total steps, and a text."""


class LastingConsole(Console):
    """Console that goes silent on a broken pipe; Rich's own ends the program."""

    def on_broken_pipe(self) -> None:
        """Go silent instead of ending the program."""
        self.quiet = True
        drop(self.file)


def silent(done: int, of: int, text: str) -> None:
    """Report no progress."""


class Status:
    """Writer of the status files of one task. Write errors are ignored, so that they never fail a command."""

    def __init__(self, folder: Path | None, label: str = "") -> None:
        """Without a folder, write nothing."""
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
        values = {
            "label": self._label,
            "done": done,
            "total": total,
            "text": text,
            "seconds_left": left,
        }
        with contextlib.suppress(OSError):
            temporary = self.folder / f".{STATUS}.{os.getpid()}.tmp"
            temporary.write_text(json.dumps(values), encoding="utf-8")
            temporary.replace(
                self.folder / STATUS
            )  # atomic for readers; no fsync, as it is soon out of date

    def say(self, line: str) -> None:
        """Record a message."""
        self._append(SAID, line)

    def event(self, event: Any) -> None:
        """Record an event, a dataclass."""
        self._append(
            EVENTS,
            json.dumps({"event": type(event).__name__, "task": self._label, **asdict(event)}),
        )

    def metrics(self, values: Mapping[str, float], epoch: int) -> None:
        """Record the metrics of an epoch, counted from 0; -1 for the initial weights."""
        self._append(
            EVENTS, json.dumps({"event": "metrics", "task": self._label, **values, "epoch": epoch})
        )

    def kept(self, epoch: int) -> None:
        """Record the epoch whose weights a training keeps; -1 for the initial weights."""
        self._append(EVENTS, json.dumps({"event": "kept", "task": self._label, "epoch": epoch}))

    def keep(self, path: Path, name: str) -> None:
        """Keep a copy of a file or folder next to the status files."""
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
        with (
            contextlib.suppress(OSError),
            path.open("a", encoding="utf-8", errors="backslashreplace") as file,
        ):
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
        self._printed, self._is_behind = (
            time.monotonic(),
            False,
        )  # whether the last line is before the last step
        columns = (
            TextColumn("{task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        text = TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True))
        self._has_bar = self._console.is_terminal and not quiet
        self._bar = Bar(
            *columns,
            TimeRemainingColumn(),
            text,
            console=self._console,
            disable=not self._has_bar,
            transient=True,
        )
        self._task = self._bar.add_task(label, total=None, text="", start=False)

    def __enter__(self) -> "ProgressReport":
        self.status.progress(0, 0, "")
        self._bar.start()
        self._bar.start_task(self._task)
        return self

    def begin(self, label: str) -> None:
        """Switch to another task and restart its time."""
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
        """Print a line, above the bar if any, and record it in the status files."""
        self.status.say(text)
        self.print(text)

    def print(self, text: str) -> None:
        """Print a line, above the bar if any."""
        with contextlib.suppress(OSError):  # a closed terminal must not end a training
            self._console.print(shown(text), highlight=False, markup=False, soft_wrap=True)


def health_table(health: Mapping[str, Mapping[str, float]], title: str) -> Table:
    """Table of codebook health with a row for each level: `utilization`, `perplexity` and `dead_codes`."""
    table = Table(
        "level", title=title, title_justify="left", title_style="", box=None, padding=(0, 2, 0, 0)
    )
    for name in ("codewords used", "perplexity", "never used"):
        table.add_column(name, justify="right")
    for level, values in health.items():
        figures = (
            f"{values['utilization']:.0%}",
            f"{values['perplexity']:.1f}",
            f"{values['dead_codes']:.0f}",
        )
        table.add_row(plain(level), *figures)
    return table


def health_lines(health: Mapping[str, Mapping[str, float]], title: str) -> list[str]:
    """Figures of `health_table` in at most 80 columns: a column for each level, ten levels side by side.

    In a run of levels of one kind, such as "shape 1" and "shape 2", only the first column has the full name.
    """
    lines, levels = [], list(health.items())
    for start in range(0, len(levels), LEVELS_IN_A_LINE):
        kind, columns = "", [(title, "used, %", "perplexity", "never used")]
        for level, of in levels[start : start + LEVELS_IN_A_LINE]:
            before, (kind, _, number) = kind, level.partition(" ")
            figures = (
                f"{100 * of['utilization']:.0f}",
                f"{of['perplexity']:.0f}",
                f"{of['dead_codes']:.0f}",
            )
            columns.append((number if kind == before else level, *figures))
        widths = [max(map(len, column)) for column in columns]
        lines += [" ".join(map(str.rjust, row, widths)) for row in zip(*columns, strict=True)]
    return lines


def plain(text: str) -> Text:
    """Rich text from a file, without markup or control characters."""
    return Text(one_line(text, limit=1000))
