"""`make bench`: codecs and priors against peers, memory, speed, novelty and robustness."""

import argparse
import importlib.util
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.arguments import count
from benchmarks.codec import CodecReport, Plan, measure_corpus
from benchmarks.codec_report import codec_section, memory_section, profile_section, sounds_section
from benchmarks.faults import FaultsReport, measure_faults
from benchmarks.fidelity_report import fidelity_section
from benchmarks.kills import Kills, measure_kills
from benchmarks.labels import LabelsReport, measure_labels
from benchmarks.long_memory import LongMemory, Use, measure_long_memory, measure_use
from benchmarks.memory import HOURS, LONG_SECONDS, SHORT_SECONDS, Peak, measure_memory
from benchmarks.novelty import NoveltyReport, measure_novelty
from benchmarks.opus import MISSING, opus_is_installed
from benchmarks.pretrained import PretrainedReport, measure_pretrained
from benchmarks.prior import PriorReport, measure_prior
from benchmarks.prior_report import (
    kills_section,
    long_memory_section,
    pretrained_section,
    prior_section,
    sampling_section,
    throughput_section,
    use_section,
)
from benchmarks.report import Section, show, write_json, write_markdown
from benchmarks.sampling import Drawn, Made, measure_drawing, measure_making
from benchmarks.sounds_report import faults_section, labels_section, novelty_section, variations_section
from benchmarks.throughput import Throughput, measure_throughput
from benchmarks.variations import VariationsReport, measure_variations
from distill.errors import DistillError
from distill.execution import Execution, execution_from_environment
from distill.params import Params, load_params


@dataclass
class Bench:
    """Measurements so far, and the sections of the report."""

    arguments: argparse.Namespace
    command: str
    corpora: list[CodecReport] = field(default_factory=list)
    priors: list[PriorReport] = field(default_factory=list)
    novelty: list[NoveltyReport] = field(default_factory=list)
    labels: list[LabelsReport] = field(default_factory=list)
    pretrained: list[PretrainedReport] = field(default_factory=list)
    variations: list[VariationsReport] = field(default_factory=list)
    faults: list[FaultsReport] = field(default_factory=list)
    throughput: tuple[Throughput, ...] = ()
    drawn: tuple[Drawn, ...] = ()
    made: list[Made] = field(default_factory=list)
    kills: list[Kills] = field(default_factory=list)
    use: list[Use] = field(default_factory=list)
    long_memory: list[LongMemory] = field(default_factory=list)
    memory: list[Peak] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    console: Console = field(default_factory=Console)
    progress: Console = field(default_factory=lambda: Console(stderr=True))

    def say(self, text: str) -> None:
        """One line of progress."""
        self.progress.print(text, highlight=False, markup=False)

    def add(self, *sections: Section) -> None:
        """Show sections and keep them."""
        for section in sections:
            show(section, self.console)
        self.sections += sections

    def measure_folder(self, folder: Path, params: Params, execution: Execution) -> None:
        """Measure on one folder what the flags ask for: by default the codec against its peers. Raises DistillError."""
        asked = self.arguments

        def say(text: str) -> None:
            self.say(f"{folder.name}: {text}")

        if asked.prior:
            found = measure_prior(folder, params, asked.seconds, asked.max_minutes, asked.seeds, execution, say)
            self.priors.append(found)
            self.add(prior_section(found, self.command))
            return
        if asked.novelty:
            pictures = None if asked.write is None else asked.write.parent
            judged = measure_novelty(folder, params, asked.seconds, pictures, execution, say)
            self.novelty.append(judged)
            self.add(novelty_section(judged, self.command))
            return
        if asked.labels:
            self.labels.append(measure_labels(folder, params, asked.seconds, execution, say))
            self.add(labels_section(self.labels[-1], self.command))
            return
        if asked.pretrained:
            self.pretrained.append(measure_pretrained(folder, params, asked.seconds, execution, say))
            self.add(pretrained_section(self.pretrained[-1], self.command))
            return
        if asked.variations is not None:
            self.variations.append(measure_variations(folder, asked.variations, say))
            self.add(variations_section(self.variations[-1], self.command))
            return
        if asked.long_memory:
            use = measure_use(folder, params, asked.seconds, asked.seeds, execution, say)
            self.use += use
            self.add(use_section(use, self.command))
            return
        full = asked.max_minutes * 60 if asked.full else None
        plan = Plan(asked.seconds, full, asked.profile, asked.sounds, asked.splits)
        report = measure_corpus(folder, params, plan, execution, say)
        self.corpora.append(report)
        self.add(codec_section(report, self.command, torch.get_num_threads()))
        self.add(fidelity_section(report, self.command))
        if asked.profile:
            self.add(profile_section(report, self.command))
        if asked.sounds:
            self.add(sounds_section(report, self.command))

    def measure_around(self) -> None:
        """Measure what needs no folder: memory, throughput, sampling, faults, kills. Raises DistillError."""
        if self.arguments.memory:
            for recording_seconds in (LONG_SECONDS, SHORT_SECONDS):
                for hours in HOURS:
                    self.say(f"memory: {hours} h in recordings of {recording_seconds} s")
                    self.memory.append(measure_memory(hours, recording_seconds, seed=0))
            self.add(memory_section(self.memory, self.command))
        if self.arguments.long_memory:
            self.long_memory.append(measure_long_memory(self.say))
            self.add(long_memory_section(self.long_memory[-1], self.command))
        if self.arguments.throughput:
            self.throughput = measure_throughput(self.say)
            self.add(throughput_section(self.throughput, self.command))
        if self.arguments.sampling:
            models = sorted(Path("models").glob("*.distill"))
            self.drawn = measure_drawing(self.say)
            self.made = [measure_making(model, self.say) for model in models]
            self.add(sampling_section(self.drawn, self.made, self.command))
        for model in self.arguments.faults:
            self.faults.append(measure_faults(model, self.say))
            self.add(faults_section(self.faults[-1], self.command))
        if self.arguments.kills:
            self.say(f"kills: a training killed {self.arguments.kills} times")
            self.kills.append(measure_kills(self.arguments.kills))
            self.add(kills_section(self.kills[-1], self.command))

    def write(self) -> None:
        """Write the files of `--write` and `--json`."""
        if self.arguments.write is not None:
            write_markdown(self.arguments.write, self.sections)
        if self.arguments.json is not None:
            found = {
                name: getattr(self, name)
                for name in (
                    "corpora",
                    "memory",
                    "priors",
                    "novelty",
                    "labels",
                    "pretrained",
                    "variations",
                    "faults",
                    "throughput",
                    "drawn",
                    "made",
                    "kills",
                    "use",
                    "long_memory",
                )
            }
            write_json(self.arguments.json, self.command, **found)


def main() -> None:
    """Measure what the flags ask for and print it. Exit status 2 for an unusable folder or model."""
    bench = Bench(_parser().parse_args(), "python -m benchmarks " + shlex.join(_what_was_measured(sys.argv[1:])))
    if bench.arguments.folders and importlib.util.find_spec("visqol") is None:
        bench.say("ViSQOL is left out: visqol-python is not installed; make bench installs it")
    if bench.arguments.folders and not opus_is_installed():
        bench.say(MISSING)
    try:
        params, execution = load_params(Path("params.yaml")), execution_from_environment()
        for folder in bench.arguments.folders:
            bench.measure_folder(folder, params, execution)
        bench.measure_around()
    except DistillError as error:
        bench.say(str(error))
        sys.exit(2)
    bench.write()


def _what_was_measured(arguments: Sequence[str]) -> list[str]:
    """The command line without its outputs and with the names of folders and model files instead of paths."""
    kept: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not {before, argument} & {"--write", "--json"}:
            is_path = Path(argument).is_dir() or argument.endswith(".distill")
            kept.append(Path(argument).resolve().name if is_path else argument)
    return kept


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="folders of recordings")
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="training time of our codec and of the original plan's"
    )
    parser.add_argument("--full", action="store_true", help="also train ours for all epochs of its tier")
    parser.add_argument("--max-minutes", type=float, default=30.0, help="longest full training")
    parser.add_argument("--splits", type=count, default=1, help="number of splits to train and compare over")
    parser.add_argument("--profile", action="store_true", help="profile the training step")
    parser.add_argument("--sounds", action="store_true", help="reconstruct sounds that break codecs")
    parser.add_argument(
        "--memory", action="store_true", help="peak memory of encoding 1 and 10 hours: takes 2 GB of disk and minutes"
    )
    parser.add_argument("--prior", action="store_true", help="measure priors on the codes of a codec, not the codec")
    parser.add_argument(
        "--novelty",
        action="store_true",
        help="novelty verdicts on sounds with known answers, and distances of generated sounds",
    )
    parser.add_argument(
        "--pretrained", action="store_true", help="what the prior's pretrained weights are worth, and what they copy"
    )
    parser.add_argument("--labels", action="store_true", help="share of labelled sounds nearest to their own label")
    parser.add_argument(
        "--variations", type=Path, metavar="MODEL", help="vary recordings of the folders with this model file"
    )
    parser.add_argument(
        "--faults", type=Path, nargs="+", default=[], metavar="MODEL", help="faults of the sounds of these model files"
    )
    parser.add_argument("--long-memory", action="store_true", help="benefit and cost of a prior's memory")
    parser.add_argument("--seeds", type=count, default=1, help="number of seeds of our prior")
    parser.add_argument("--throughput", action="store_true", help="training throughput against other libraries")
    parser.add_argument(
        "--sampling", action="store_true", help="sampling against other libraries, and with models/*.distill"
    )
    parser.add_argument(
        "--kills", type=count, default=0, help="number of times to kill a training, whose result must not change"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="update the tables of this Markdown file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure, recording by recording")
    return parser


if __name__ == "__main__":
    main()
