"""`make check-memory`: the seven acceptance criteria of a prior's memory."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.acceptance.check import check_recordings, summary
from distill.errors import DistillError, ParamsError
from distill.execution import execution_from_environment

LEAST_STEPS = 1000  # one probe


def main(arguments: list[str] | None = None) -> int:
    """Print each criterion as it is measured. Returns 0, 1 where one is missed, 2 for a usage error, 130 for Ctrl-C."""
    asked = _parser().parse_args(arguments)
    points = []
    try:
        if asked.folder is not None and not asked.folder.is_dir():
            raise ParamsError(f"DIR {asked.folder}: expected a folder of recordings, found none; check the path")
        for point in check_recordings(asked.folder, asked.steps, asked.seed, execution_from_environment()):
            points.append(point)
            if not asked.json:
                state = "reached" if point.passed else "MISSED"
                print(f"{point.number} {state:8}{point.name}: {point.found}", flush=True)
    except DistillError as error:
        print(f"check-memory: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("check-memory: interrupted; nothing is kept", file=sys.stderr)
        return 130
    if asked.json:
        print(json.dumps({"points": [asdict(point) for point in points], "summary": summary(points)}, indent=2))
    else:
        print(summary(points))
    return 0 if all(point.passed for point in points) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acceptance", description=__doc__)
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        metavar="DIR",
        help="folder of recordings; without it synthesised ones with repeated motifs",
    )
    parser.add_argument("--steps", type=_steps, default=LEAST_STEPS, help="steps of the measured training")
    parser.add_argument("--seed", type=_seed, default=0, help="random seed of recordings, split, weights and probes")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout and nothing else")
    return parser


def _steps(text: str) -> int:
    if not text.isdecimal() or int(text) < LEAST_STEPS:
        raise argparse.ArgumentTypeError(f"expected a whole number from {LEAST_STEPS} on, found {text}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {2**32 - 1}, found {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
