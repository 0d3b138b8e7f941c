"""Entry point of `make experiments`: table of DVC experiments, the last commit and the last run, best first."""

import csv
import io
import math
import sys
from collections.abc import Sequence

from distill import text
from distill.errors import DistillError
from stages.ops import dvc
from stages.running import status_of

METRIC = "val_bits_per_second"
# All other columns of DVC's table are left out. Settings are shown if they differ.
SETTINGS = "seed|tier|corpus|vqvae|split|codes|prior|bundle|audition|qualities|tiers"
HIDDEN = ("Experiment", "rev", "typ", METRIC)
KEPT = rf"({'|'.join(HIDDEN)})$"  # even if equal in all rows
OTHERS = rf"(?!{KEPT}|State$|({SETTINGS})(\.|$))"
SHOW = ("exp", "show", "--csv", "--only-changed", "--keep", KEPT, "--drop", OTHERS)

Row = dict[str, str]


def main() -> int:
    """Print the table. Returns the exit status."""
    return status_of(_compare)


def _compare() -> int:
    if remark := dvc.follow_git():
        print(remark, file=sys.stderr)
    rows: list[Row] = []
    if dvc.has_git():
        listed = dvc.run_dvc(*SHOW, wants_output=True)
        if listed.returncode != 0:
            return listed.returncode
        rows = list(csv.DictReader(io.StringIO(listed.stdout)))
    if not rows:
        raise DistillError(
            "experiments: expected a git repository with a commit, with which DVC compares them, found none; run "
            "`git init`, `git add --all` and `git commit --message Start`, then `make repro`"
        )
    is_changed = dvc.run_dvc("status", "--quiet").returncode != 0
    print(*table(rows, is_changed, text.terminal_width()), sep="\n")
    return 0


def table(rows: Sequence[Row], is_changed: bool, width: int) -> list[str]:
    """Lines of the table from DVC's rows, fewest bits per second first, rows without bits per second last.

    `is_changed`: settings, recordings or code have changed since the last run.
    """
    rows = sorted(rows, key=_bits)
    columns = [name for name in rows[0] if name not in HIDDEN]
    lines = [("run", f"{METRIC} (lower is better)", *columns)]
    for row in rows:
        is_best = _bits(row) == _bits(rows[0]) < math.inf
        figure = f"{_bits(row):.1f}" if _bits(row) < math.inf else "-"
        lines.append(
            (
                _name(row, is_changed),
                figure + "  best" * is_best,
                *(row[name] or "-" for name in columns),
            )
        )
    experiments = sum(row["typ"] != "baseline" for row in rows)
    hint = (
        "to take one: dvc exp apply NAME"
        if experiments
        else "to make one: dvc exp run -S prior.dropout=.1"
    )
    return [*text.table(lines, width), "", f"{text.several(experiments, 'experiment')}; {hint}"]


def _name(row: Row, is_changed: bool) -> str:
    if row["rev"] == "workspace":
        return "your last run (changed since)" if is_changed else "your last run"
    return row["Experiment"] or (f"commit {row['rev']}" if row["typ"] == "baseline" else row["rev"])


def _bits(row: Row) -> float:
    try:
        return float(row[METRIC])
    except (KeyError, ValueError):
        return math.inf


if __name__ == "__main__":
    sys.exit(main())
