"""Progress for people: a live bar on a terminal, a line now and then elsewhere. Always on stderr."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_SECONDS = 10.0


class ProgressReport:
    """Shows how far a piece of work is. Use as a context manager and call it with (done, total, text)."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._spoken = time.monotonic()
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(
                *columns, TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=self._console
            )

    def __enter__(self) -> "ProgressReport":
        if self._bar is not None:
            self._bar.start()
            self._bar.add_task(self._label, total=None, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, text: str) -> None:
        """Say that `done` of `total` steps are behind us."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, text=text)
        elif time.monotonic() - self._spoken > LINE_SECONDS or done == total:
            self._spoken = time.monotonic()
            self.say(f"{self._label} {done}/{total} {text}")

    def say(self, text: str) -> None:
        """A line of its own, above the bar if there is one."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
