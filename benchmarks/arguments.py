"""What the programs here share: flags and their values, and how a refusal is said."""

import argparse
import sys
from collections.abc import Callable, Iterator
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
def refusals_said(program: str) -> Iterator[None]:
    """Say a refusal on stderr in one sentence, and exit with its status."""
    try:
        yield
    except Exception as error:
        known = for_the_user(error)
        if known is None:
            raise
        say(f"{program}: {known}")
        sys.exit(known.exit_code)


def say(text: str) -> None:
    """Print text as it is on stderr."""
    Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Type of a flag: a whole number in a range. Raises ArgumentTypeError."""
    expected = f"a whole number from {least} " + ("on" if most is None else f"to {most}")

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text}")
        return int(text)

    return read


def seconds(text: str) -> float:
    """Type of a flag: seconds of a sound, from 0.05 to 600. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.05 <= value <= 600:
        raise argparse.ArgumentTypeError(f"expected seconds from 0.05 to 600, found {text}")
    return value
