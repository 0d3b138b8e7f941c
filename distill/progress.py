"""Progress reports: a live bar on a terminal, a line every few seconds elsewhere, and the files of `distill.status`."""

import contextlib
import time
from collections.abc import Iterable, Mapping
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from distill.status import Status, status_from_environment
from distill.text import one_line, shown

LINE_SECONDS = 10.0
HEALTH_TITLE = "codebooks on held-out sound"


class ProgressReport:
    """Progress report of a task. Use as a context manager and call it with (done, total, text)."""

    def __init__(self, label: str, quiet: bool = False) -> None:
        self._label = label
        self.status = Status(None) if quiet else status_from_environment(label)
        self._console = Console(stderr=True, quiet=quiet)
        self._bar: _Bar | None = None
        self._printed = time.monotonic()
        if self._console.is_terminal and not quiet:
            columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
            text = TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True))
            self._bar = _Bar(*columns, TimeRemainingColumn(), text, console=self._console)

    def __enter__(self) -> "ProgressReport":
        self.status.progress(0, 0, "")
        if self._bar is not None:
            self._bar.start()
            self._bar.add_task(self._label, total=None, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.below = None
            with contextlib.suppress(OSError):
                self._bar.stop()

    def __call__(self, done: int, total: int, text: str) -> None:
        """Report that `done` of `total` steps are done."""
        self.status.progress(done, total, text)
        text = shown(text)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, text=text)
        elif time.monotonic() - self._printed > LINE_SECONDS or done == total:
            self._printed = time.monotonic()
            self._print(f"{self._label} {done}/{total} {text}")

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self.status.say(text)
        self._print(text)

    def _print(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a terminal that closed ends no training
            self._console.print(shown(text), highlight=False, markup=False, soft_wrap=True)

    def show_below(self, what: RenderableType) -> None:
        """Show `what` below the bar until the task ends, in place of what was there. Nothing without a terminal."""
        if self._bar is not None:
            self._bar.below = what


class _Bar(Progress):
    """Progress bar with something below it."""

    below: RenderableType | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.below is not None:
            yield self.below


def health_table(health: Mapping[str, Mapping[str, float]], title: str = "") -> Table:
    """Table of codebook health, a row for each level: `utilization`, `perplexity` and `dead_codes`."""
    table = Table("level", title=title or None, title_justify="left", title_style="", box=None, padding=(0, 2, 0, 0))
    for name in ("codewords used", "perplexity", "never used"):
        table.add_column(name, justify="right")
    for level, values in health.items():
        figures = (f"{values['utilization']:.0%}", f"{values['perplexity']:.1f}", f"{values['dead_codes']:.0f}")
        table.add_row(plain(level), *figures)
    return table


def plain(text: str) -> Text:
    """Text from a file without markup or control characters."""
    return Text(one_line(text, most=1000))
