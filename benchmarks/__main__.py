"""`make bench`: our codec beside Opus, our prior beside counting and the original plan's, and speed beside libraries."""

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks.arguments import add_write, count
from benchmarks.codec import Plan, Say, measure_codec
from benchmarks.memorization import measure_memorization
from benchmarks.opus import MISSING, opus_is_installed
from benchmarks.prior import measure_prior
from benchmarks.report import RESULTS, Table, keep, show, update_page
from benchmarks.speed import measure_generation, measure_sampling, measure_training
from distill.errors import DistillError
from distill.execution import execution_from_environment
from distill.params import load_params

RECORDINGS = "recordings"  # a long table, which is written and not shown


def main() -> None:
    """Measure what the flags ask for and print it. Exit status 2 for an unusable folder or model."""
    asked = _parser().parse_args()
    console, progress = Console(), Console(stderr=True)

    def say(text: str) -> None:
        progress.print(text, highlight=False, markup=False)

    if asked.folders and not asked.prior:
        if importlib.util.find_spec("visqol") is None:
            say("ViSQOL is left out: visqol-python is not installed; make bench installs it")
        if not opus_is_installed():
            say(MISSING)
    try:
        for table in _measured(asked, say):
            if table.name != RECORDINGS:
                show(table, console)
            if asked.write is not None:
                keep(table, asked.write)
    except DistillError as error:
        say(str(error))
        sys.exit(2)
    if asked.write == RESULTS:
        update_page()


def _measured(asked: argparse.Namespace, say: Say) -> Iterator[Table]:
    """The tables that the flags ask for, each when it is measured."""
    params, execution = load_params(Path("params.yaml")), execution_from_environment()
    for folder in asked.folders:

        def note(text: str, name: str = folder.name) -> None:
            say(f"{name}: {text}")

        most = 60 * asked.max_minutes
        if asked.prior:
            yield measure_prior(folder, params, asked.seconds, most, asked.seeds, execution, note)
        else:
            plan = Plan(asked.seconds, most if asked.full else None, asked.profile)
            yield from measure_codec(folder, params, plan, execution, note)
    if asked.training:
        yield measure_training(say)
    if asked.memorization:
        yield measure_memorization(execution, say)
    if asked.sampling:
        yield measure_sampling(say)
        for model in sorted(Path("models").glob("*.distill")):
            yield measure_generation(model, say)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("folders", nargs="*", type=Path, help="folders of recordings")
    add("--seconds", type=float, default=120.0, help="training time of our codec")
    add("--full", action="store_true", help="also train it for all epochs of its tier")
    add("--max-minutes", type=float, default=30.0, help="longest full training, and longest training of a prior")
    add("--profile", action="store_true", help="profile the training step")
    add("--prior", action="store_true", help="measure priors on the codes of a codec, not the codec")
    add("--seeds", type=count, default=1, help="number of seeds of our prior")
    add("--training", action="store_true", help="training speed of the prior beside other libraries")
    add("--memorization", action="store_true", help="whether corpora that a prior learns by heart are told from others")
    add("--sampling", action="store_true", help="sampling speed beside other libraries, and with models/*.distill")
    add_write(parser, "tables", "benchmarks.md")
    return parser


if __name__ == "__main__":
    main()
