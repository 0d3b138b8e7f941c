"""Tables of measurements: on the terminal, as CSV in benchmarks/results, and from there in docs/benchmarks.md.

`python -m benchmarks.report` writes the tables of the page again from the CSV files.
"""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table as ShownTable

from distill.storage.files import write_bytes

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
RESAMPLES = 10_000  # of a bootstrap interval
BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)  # of the page: the table of that name
MISSING = "–"


@dataclass(frozen=True)
class Table:
    """A table of text. `name` is that of its CSV file and of its block on the page.

    The first column says what was measured (a corpus, a network, a model); a new measurement of it replaces its rows.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def number(value: float, form: str) -> str:
    """A finite number in this format, or a dash."""
    return format(value, form) if math.isfinite(value) else MISSING


def spread(values: Sequence[float], form: str) -> str:
    """Median and 10th and 90th percentile of the values that are finite, or a dash."""
    finite = [one for one in values if math.isfinite(one)]
    if not finite:
        return MISSING
    low, middle, high = (format(float(one), form) for one in np.percentile(finite, (10, 50, 90)))
    return f"{middle} [{low}, {high}]"


def interval(values: Sequence[float], form: str) -> str:
    """Mean of the values that are finite with its bootstrap 95 % interval, or a dash."""
    finite = np.array([one for one in values if math.isfinite(one)])
    if not len(finite):
        return MISSING
    drawn = np.random.default_rng(0).integers(len(finite), size=(RESAMPLES, len(finite)))
    low, high = np.percentile(finite[drawn].mean(axis=1), (2.5, 97.5))
    return f"{format(float(finite.mean()), form)} [{format(float(low), form)}, {format(float(high), form)}]"


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are finite; NaN without any."""
    finite = [one for one in values if math.isfinite(one)]
    return sum(finite) / len(finite) if finite else math.nan


def show(table: Table, console: Console) -> None:
    """Print a table on the terminal."""
    shown = ShownTable(title=table.name)
    for name in table.columns:
        shown.add_column(name, overflow="fold")
    for row in table.rows:
        shown.add_row(*row)
    console.print(shown)


def keep(table: Table, folder: Path = RESULTS) -> None:
    """Write a table into its CSV file; rows of other measurements with the same columns stay."""
    path = folder / f"{table.name}.csv"
    measured = {row[0] for row in table.rows}
    old = read(path) if path.is_file() else table
    others = [row for row in old.rows if row[0] not in measured] if old.columns == table.columns else []
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([table.columns, *others, *table.rows])
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(path, lines.getvalue().encode())


def read(path: Path) -> Table:
    """Read a table from its CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        columns, *rows = (tuple(row) for row in csv.reader(file))
    return Table(path.stem, columns, tuple(rows))


def markdown(table: Table) -> str:
    """A table in Markdown."""
    rows = (table.columns, ("---",) * len(table.columns), *table.rows)
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def update_page(page: Path = PAGE, folder: Path = RESULTS) -> None:
    """Replace the tables of a Markdown page, between `<!-- name -->` and `<!-- end -->`, by those of the CSV files."""

    def replaced(block: re.Match[str]) -> str:
        return block.group(1) + markdown(read(folder / f"{block.group(2)}.csv")) + block.group(3)

    text = page.read_text(encoding="utf-8")
    write_bytes(page, BLOCK.sub(replaced, text).encode())


if __name__ == "__main__":
    update_page()
