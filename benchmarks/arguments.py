"""What the programs here share: flags and their values, and how a refusal is said."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from benchmarks.report import RESULTS
from distill.errors import for_the_user


def add_write(parser: argparse.ArgumentParser, what: str, page: str) -> None:
    """Add the flag `--write`, which keeps `what` was measured as CSV, and without a folder in a page of docs, too."""
    parser.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=RESULTS,
        metavar="DIR",
        help=f"write the {what} as CSV into a folder; without one into benchmarks/results, and into docs/{page}",
    )


@contextmanager
def refusals_said(program: str, console: Console) -> Iterator[None]:
    """Say what is refused in one sentence, and exit with its status."""
    try:
        yield
    except Exception as error:
        known = for_the_user(error)
        if known is None:
            raise
        console.print(f"{program}: {known}")
        sys.exit(known.exit_code)


def count(text: str) -> int:
    """A whole number from 1 on. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {text}")
    return int(text)


def seconds(text: str) -> float:
    """Seconds of a sound, from 0.05 to 600. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.05 <= value <= 600:
        raise argparse.ArgumentTypeError(f"expected seconds from 0.05 to 600, found {text}")
    return value
