"""`make bench`: the codec beside its peers on folders of recordings, memory, training step and sounds that break codecs."""

import argparse
import importlib.util
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.codec import CodecReport, Plan, measure_corpus
from benchmarks.kills import Kills, measure_kills
from benchmarks.memory import HOURS, LONG_SECONDS, SHORT_SECONDS, Peak, measure_memory
from benchmarks.prior import PriorReport, Throughput, measure_prior, measure_throughput
from benchmarks.report import (
    Section,
    codec_section,
    kills_section,
    memory_section,
    prior_section,
    profile_section,
    show,
    sounds_section,
    throughput_section,
    write_json,
    write_markdown,
)
from distill.errors import DistillError
from distill.execution import execution_from_environment
from distill.params import load_params


def main() -> None:
    """Measure what the command line asks for and print it. Exit status 2 when a folder makes no corpus."""
    arguments = _parser().parse_args()
    command = "python -m benchmarks " + shlex.join(_what_was_measured(sys.argv[1:]))
    console, progress = Console(), Console(stderr=True)
    reports: list[CodecReport] = []
    priors: list[PriorReport] = []
    throughput: tuple[Throughput, ...] = ()
    kills: list[Kills] = []
    peaks: list[Peak] = []
    sections: list[Section] = []
    if arguments.folders and importlib.util.find_spec("visqol") is None:
        progress.print("ViSQOL is left out: visqol-python is not installed; make bench installs it")
    try:
        params, execution = load_params(Path("params.yaml")), execution_from_environment()
        full = arguments.max_minutes * 60 if arguments.full else None
        plan = Plan(arguments.seconds, full, arguments.profile, arguments.sounds, arguments.splits)
        for folder in arguments.folders:

            def say(text: str, folder: Path = folder) -> None:
                progress.print(f"{folder.name}: {text}", highlight=False, markup=False)

            if arguments.prior:
                found = measure_prior(
                    folder, params, arguments.seconds, arguments.max_minutes, arguments.seeds, execution, say
                )
                priors.append(found)
                sections.append(prior_section(found, command))
                show(sections[-1], console)
                continue
            report = measure_corpus(folder, params, plan, execution, say)
            reports.append(report)
            tables = [codec_section(report, command, torch.get_num_threads())]
            tables += [profile_section(report, command)] if arguments.profile else []
            tables += [sounds_section(report, command)] if arguments.sounds else []
            for section in tables:
                show(section, console)
            sections += tables
    except DistillError as error:
        progress.print(str(error), highlight=False, markup=False)
        sys.exit(2)
    if arguments.memory:
        for recording_seconds in (LONG_SECONDS, SHORT_SECONDS):
            for hours in HOURS:
                progress.print(f"memory: {hours} h in recordings of {recording_seconds} s", highlight=False)
                peaks.append(measure_memory(hours, recording_seconds, seed=0))
        sections.append(memory_section(peaks, command))
        show(sections[-1], console)
    if arguments.throughput:
        throughput = measure_throughput(execution, progress.print)
        sections.append(throughput_section(throughput, command))
        show(sections[-1], console)
    if arguments.kills:
        progress.print(f"a training killed {arguments.kills} times")
        kills.append(measure_kills(arguments.kills))
        sections.append(kills_section(kills[-1], command))
        show(sections[-1], console)
    if arguments.write is not None:
        write_markdown(arguments.write, sections)
    if arguments.json is not None:
        write_json(
            arguments.json, command, corpora=reports, memory=peaks, priors=priors, throughput=throughput, kills=kills
        )


def _what_was_measured(arguments: Sequence[str]) -> list[str]:
    """The command line without where the results go, folders by their names alone."""
    kept: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not {before, argument} & {"--write", "--json"}:
            kept.append(Path(argument).resolve().name if Path(argument).is_dir() else argument)
    return kept


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {text}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="recordings; without any, only --memory is measured")
    parser.add_argument("--seconds", type=float, default=120.0, help="training time of ours and of the original plan's")
    parser.add_argument("--full", action="store_true", help="also train ours for all epochs of its tier")
    parser.add_argument("--max-minutes", type=float, default=30.0, help="of the full training, at most")
    parser.add_argument(
        "--splits", type=_count, default=1, help="hold others out so often, and compare over all of them"
    )
    parser.add_argument("--profile", action="store_true", help="say what a training step spends its time on")
    parser.add_argument("--sounds", action="store_true", help="reconstruct sounds that break codecs")
    parser.add_argument(
        "--memory", action="store_true", help="peak memory of coding 1 and 10 hours: 2 GB of disk, minutes"
    )
    parser.add_argument("--prior", action="store_true", help="measure priors on the codes of a codec, not the codec")
    parser.add_argument("--seeds", type=_count, default=1, help="train our prior with so many seeds")
    parser.add_argument("--throughput", action="store_true", help="training steps a second beside other libraries")
    parser.add_argument("--kills", type=_count, default=0, help="kill a training so often and see that nothing changes")
    parser.add_argument("--write", type=Path, metavar="FILE", help="update the tables of this Markdown file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure, recording by recording")
    return parser


if __name__ == "__main__":
    main()
