"""`make bench`: our codec beside Opus, our prior beside counting and the original plan's, and speed beside libraries."""

import argparse
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from benchmarks.arguments import add_write, refusals_said, say, whole
from benchmarks.codec import measure_codec
from benchmarks.memorization import measure_memorization
from benchmarks.opus import MISSING, opus_is_installed
from benchmarks.page import measure_page
from benchmarks.peers.measure import measure_peers
from benchmarks.peers.peer import PEERS
from benchmarks.prior import measure_prior
from benchmarks.report import PAGE, RESULTS, Table, report, update_page
from benchmarks.speed import measure_generation, measure_sampling, measure_training
from distill.execution import execution_from_environment
from distill.params import load_params

DEMO = Path("data/demo")
PEERS_PAGE = PAGE.with_name("peers.md")


def main() -> None:
    """Measure what the flags ask for and print it. Exit status 2 for an unusable folder or model."""
    asked = _parser().parse_args()
    if asked.folders and not asked.prior and not asked.peers:
        if importlib.util.find_spec("visqol") is None:
            say("ViSQOL is left out: visqol-python is not installed; make bench installs it")
        if not opus_is_installed():
            say(MISSING)
    with refusals_said("bench"):
        report(_measured(asked), asked.write)
        if asked.write == RESULTS:
            update_page(PEERS_PAGE)


def _measured(asked: argparse.Namespace) -> Iterator[Table]:
    """The tables that the flags ask for, each when it is measured."""
    params, execution = load_params(Path("params.yaml")), execution_from_environment()
    for folder in asked.folders or [DEMO] * asked.peers:
        say(f"{folder.name}:")
        most = 60 * asked.max_minutes
        if asked.peers:
            yield from measure_peers(folder, sorted(asked.minutes), asked.count, PEERS)
        elif asked.prior:
            yield measure_prior(folder, params, asked.seconds, most, asked.seeds, execution)
        else:
            yield from measure_codec(
                folder, params, asked.seconds, most if asked.full else None, execution
            )
    if asked.training:
        yield measure_training()
    if asked.memorization:
        yield measure_memorization(execution)
    if asked.sampling:
        yield measure_sampling()
        for model in sorted(Path("models").glob("*.distill")):
            yield measure_generation(model)
    if asked.page:
        yield measure_page()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("folders", nargs="*", type=Path, help="folders of recordings")
    add("--seconds", type=float, default=120.0, help="training time of our codec")
    add("--full", action="store_true", help="also train it for all epochs of its tier")
    add(
        "--max-minutes",
        type=float,
        default=30.0,
        help="longest full training, and longest training of a prior",
    )
    add(
        "--prior", action="store_true", help="measure priors on the codes of a codec, not the codec"
    )
    add("--seeds", type=whole(1), default=1, help="number of seeds of our prior")
    add(
        "--training", action="store_true", help="training speed of the prior beside other libraries"
    )
    add(
        "--memorization",
        action="store_true",
        help="whether corpora that a prior learns by heart are told from others",
    )
    add(
        "--sampling",
        action="store_true",
        help="sampling speed beside other libraries, and with models/*.distill",
    )
    add(
        "--peers",
        action="store_true",
        help="sounds of generators of others beside ours, on the same recordings",
    )
    add(
        "--minutes",
        type=float,
        nargs="+",
        default=[2.0, 30.0],
        help="CPU time that each of them may train",
    )
    add("--count", type=whole(1), default=64, help="sounds of each of them")
    add("--page", action="store_true", help="how soon the page plays a sound, in Chromium")
    add_write(parser, "tables", "benchmarks.md")
    return parser


if __name__ == "__main__":
    main()
