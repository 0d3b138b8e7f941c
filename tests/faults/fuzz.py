"""Tries changed files of a format: `python -m faults.fuzz TARGET --minutes 60`; `python -m faults.fuzz TARGET FILE` tries one.

Each is used, or refused with a sentence, in bounded time and memory. A file is written before it is tried: where the
process ends early, that file is the reason.
"""

import argparse
import faulthandler
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, takewhile
from pathlib import Path

from distill.errors import DistillError
from faults.mutants import mutant

FOLDER = Path("fuzz")  # in the current one, for the file that is tried

Input = tuple[str, bytes]  # the suffix of a file's name and what is in it


@dataclass(frozen=True)
class Target:
    """A format: files to begin with, what reads a file, raising DistillError for one that it refuses, and a change."""

    inputs: Sequence[Input]
    read: Callable[[Path], object]
    change: Callable[[bytes, random.Random], bytes] = mutant
    seconds: float = 10  # for a file
    megabytes: int = 512
    sample: int = 200  # changed files that `make test` tries


def changed(target: Target, draw: random.Random) -> Iterator[Input]:
    """Changed files without end; some of the beginning of one and the end of another."""
    while True:
        (suffix, data), (_, other) = draw.choice(target.inputs), draw.choice(target.inputs)
        if not draw.randrange(8):
            data = data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]
        yield suffix, target.change(data, draw)


def attempt(target: Target, path: Path) -> str:
    """Whether a file is "used" or "refused". Ends the process where that takes too long."""
    faulthandler.dump_traceback_later(target.seconds, exit=True)
    try:
        target.read(path)
    except DistillError as error:
        text = str(error)
        assert text.isprintable(), ascii(text)
        assert len(text) < 1000, text
        return "refused"
    finally:
        faulthandler.cancel_dump_traceback_later()
    return "used"


def fuzz(target: Target, name: str, minutes: float, seed: int) -> dict[str, int]:
    """Try the first files and changed ones, for so many minutes or a sample for 0; counts of what came of them."""
    end, draw, counts = time.monotonic() + 60 * minutes, random.Random(seed), Counter(used=0, refused=0)
    others = changed(target, draw)
    some = takewhile(lambda _: time.monotonic() < end, others) if minutes else islice(others, target.sample)
    FOLDER.mkdir(exist_ok=True)
    for suffix, data in chain(target.inputs, some):
        path = FOLDER / f"{name}-{seed}{suffix}"
        path.write_bytes(data)
        counts[attempt(target, path)] += 1
        path.unlink()
    return counts


def main() -> None:
    """Try files of a target, and print counts of what came of them as JSON."""
    from faults.targets import TARGETS

    parser = argparse.ArgumentParser(prog="faults.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("files", nargs="*", type=Path, help="tried as they are; with --minutes changed, too")
    parser.add_argument("--minutes", type=float, help="0 for a sample")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    target = TARGETS[asked.target]()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (size + (target.megabytes << 20), hard))
    if asked.minutes is None:
        print(*(f"{file} {attempt(target, file)}" for file in asked.files), sep="\n")
        return
    target = replace(target, inputs=[*target.inputs, *((file.suffix, file.read_bytes()) for file in asked.files)])
    again = f"PYTHONPATH=tests python -m faults.fuzz {asked.target} {FOLDER.absolute()}/{asked.target}-{asked.seed}*"
    print(f"seed {asked.seed}; where this ends early: {again}", file=sys.stderr)
    print(json.dumps(fuzz(target, asked.target, asked.minutes, asked.seed)))


if __name__ == "__main__":
    main()
