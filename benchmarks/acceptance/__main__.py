"""`make check-memory`: the seven acceptance criteria of a prior's memory."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

from benchmarks.acceptance.check import check_recordings
from benchmarks.acceptance.codes import measured
from benchmarks.acceptance.point import COLUMNS, summary
from benchmarks.arguments import add_write, whole
from benchmarks.report import RESULTS, Table, keep, update_page
from distill.errors import DistillError, ParamsError
from distill.execution import Device, execution_from_environment

LEAST_STEPS = 1000  # the share of time that probes take is that of so many


def main(arguments: list[str] | None = None) -> int:
    """Print each criterion as it is measured. Returns 0, 1 where one is missed, 2 for a usage error, 130 for Ctrl-C."""
    asked = _parser().parse_args(arguments)
    points = []
    try:
        if asked.folder is not None and not asked.folder.is_dir():
            raise ParamsError(
                f"DIR {asked.folder}: expected a folder of recordings, found none; check the path"
            )
        execution = execution_from_environment()
        if asked.device is not None:
            execution = replace(execution, device=asked.device)
        for point in check_recordings(asked.folder, asked.steps, asked.seed, execution):
            points.append(point)
            if not asked.json:
                print(point, flush=True)
    except DistillError as error:
        print(f"check-memory: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("check-memory: interrupted; nothing is kept", file=sys.stderr)
        return 130
    if asked.write is not None:
        corpus = "motifs" if asked.folder is None else asked.folder.resolve().name
        keep(
            Table("memory", COLUMNS, tuple(row for point in points for row in point.rows(corpus))),
            asked.write,
        )
        keep(measured(corpus), asked.write)
        if asked.write == RESULTS:
            update_page()
    if asked.json:
        print(
            json.dumps(
                {"points": [point.as_json() for point in points], "summary": summary(points)},
                indent=2,
            )
        )
    else:
        print(summary(points))
    return 0 if all(point.passed for point in points) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acceptance", description=__doc__)
    add = parser.add_argument
    recordings = "folder of recordings; without it synthesised ones with repeated motifs"
    add("folder", nargs="?", type=Path, metavar="DIR", help=recordings)
    add(
        "--steps",
        type=whole(LEAST_STEPS),
        default=LEAST_STEPS,
        help="steps of the measured training",
    )
    add(
        "--seed",
        type=whole(0, 2**32 - 1),
        default=0,
        help="random seed of recordings, split, weights and probes",
    )
    add(
        "--device",
        type=_device,
        help="auto, cpu or cuda; without it what DISTILL_DEVICE says, as elsewhere",
    )
    add_write(parser, "figures", "benchmarks.md")
    add("--json", action="store_true", help="print one JSON document on stdout and nothing else")
    return parser


def _device(text: str) -> str:
    if text not in get_args(Device):
        raise argparse.ArgumentTypeError(f"expected {', '.join(get_args(Device))}, found {text}")
    return text


if __name__ == "__main__":
    sys.exit(main())
