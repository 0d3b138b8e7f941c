"""Tables of measurements: on the terminal, as CSV in benchmarks/results, and from there in docs/benchmarks.md.

`python -m benchmarks.report` writes the tables of the page again from the CSV files.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.storage.files import write_bytes
from distill.text import table as text_table
from distill.text import terminal_width

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
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
    finite = _finite(values)
    if not len(finite):
        return MISSING
    low, middle, high = (
        format(float(value), form) for value in np.percentile(finite, (10, 50, 90))
    )
    return f"{middle} [{low}, {high}]"


def interval(values: Sequence[float], form: str) -> str:
    """Mean of the values that are finite with its bootstrap 95 % interval, or a dash."""
    finite = _finite(values)
    if not len(finite):
        return MISSING
    drawn = np.random.default_rng(0).integers(len(finite), size=(10_000, len(finite)))
    low, high = np.percentile(finite[drawn].mean(axis=1), (2.5, 97.5))
    return f"{format(float(finite.mean()), form)} [{format(float(low), form)}, {format(float(high), form)}]"


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are finite; NaN without any."""
    finite = _finite(values).tolist()
    return sum(finite) / len(finite) if finite else math.nan


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    return np.array([value for value in values if math.isfinite(value)])


def report(
    tables: Iterable[Table], folder: Path | None, page: Path = PAGE, hidden: str = ""
) -> None:
    """Print tables as they come, but that of the name `hidden`; with a folder keep them, and of RESULTS the page too."""
    for table in tables:
        if table.name != hidden:
            print(
                f"\n{table.name}",
                *text_table([table.columns, *table.rows], terminal_width()),
                sep="\n",
            )
        if folder is not None:
            keep(table, folder)
    if folder == RESULTS:
        update_page(page)


def keep(table: Table, folder: Path = RESULTS) -> None:
    """Write a table into its CSV file; rows of other measurements with the same columns stay."""
    path = folder / f"{table.name}.csv"
    measured = {row[0] for row in table.rows}
    old = read(path) if path.is_file() else table
    others = (
        [row for row in old.rows if row[0] not in measured] if old.columns == table.columns else []
    )
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
    """Replace the tables of a Markdown page, between `<!-- name -->` and `<!-- end -->`, by those of the CSV files.

    `<!-- name: kind; kind | column; column -->` takes the rows of these kinds alone, which the second column says, and
    these columns; either part may be left out. With `| beside` after them kinds stand beside one another in a row.
    """

    def replaced(block: re.Match[str]) -> str:
        head, name, kinds, columns, beside, end = block.groups()
        table = read(folder / f"{name}.csv")
        if kinds:
            table = replace(
                table, rows=tuple(row for row in table.rows if row[1] in kinds.split("; "))
            )
        if beside:
            table = side_by_side(table, kinds.split("; "), columns.split("; "))
        elif columns:
            table = chosen_columns(table, columns.split("; "))
        return head + markdown(table) + end

    text = page.read_text(encoding="utf-8")
    block = (
        r"(<!-- (\w+)(?:: ([^|\n]+?))?(?: \| ([^|\n]+?))?( \| beside)? -->\n).*?(<!-- end -->\n)"
    )
    write_bytes(page, re.sub(block, replaced, text, flags=re.DOTALL).encode())


def chosen_columns(table: Table, columns: Sequence[str]) -> Table:
    """These columns of a table."""
    places = [table.columns.index(column) for column in columns]
    return Table(
        table.name,
        tuple(columns),
        tuple(tuple(row[place] for place in places) for row in table.rows),
    )


def side_by_side(table: Table, kinds: Sequence[str], columns: Sequence[str]) -> Table:
    """A row for each value of the first column: of each kind, which the second column says, these columns."""
    cells = {
        row[:2]: chosen_columns(replace(table, rows=(row,)), columns).rows[0] for row in table.rows
    }
    head = (table.columns[0], *(f"{kind}: {column}" for column in columns for kind in kinds))
    rows = []
    for name in dict.fromkeys(row[0] for row in table.rows):
        of_kinds = [cells[name, kind] for kind in kinds]
        rows.append(
            (name, *(cell for of_column in zip(*of_kinds, strict=True) for cell in of_column))
        )
    return Table(table.name, head, tuple(rows))


if __name__ == "__main__":
    update_page()
