"""`make judge`: generated sounds beside held-out recordings, by features that were trained elsewhere and by our own.

Of a folder in the place of a model file, one is trained first, as `distill train --prior` does.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.arguments import add_write, refusals_said, whole
from benchmarks.judge.features import panel
from benchmarks.judge.measures import FEWEST, MEASURES, Comparison, Null
from benchmarks.judge.sounds import (
    COUNTING,
    GENERATED,
    Sides,
    decoded,
    followed,
    independent,
    made_by,
    probes,
)
from benchmarks.judge.two_sample import two_sample_test
from benchmarks.listen import MAX_REJECTED, heard_by
from benchmarks.report import RESULTS, Table, number, report
from distill.api import Model
from distill.audio.corpus import load_corpus
from distill.audio.ingest import ingest
from distill.errors import ParamsError
from distill.execution import STATE, execution_from_environment
from distill.novelty.report import Statistics
from distill.params import default_params
from distill.pipeline.train import train_model
from distill.pipeline.workspace import find_corpus
from distill.progress import Progress, ProgressReport
from distill.storage.work import Executor

FIGURES = "judges"  # a long table, which is written and not shown
AGAINST_DECODED = (
    "corpus",
    "sounds",
    "judge",
    "of each",
    "accuracy",
    "needed",
    "bound",
    "p",
    "verdict",
)
DECODED, TRAINING, OTHERS = "held out, decoded", "training recordings", "other recordings"
KERNEL, NEAREST = (MEASURES.index(name) for name in ("kernel distance", "nearest neighbour"))


def main() -> None:
    """Judge what the arguments name and print it. Exit status 2 for an unusable model or folder."""
    asked = _parser().parse_args()
    with refusals_said("judge"):
        report(
            _judged(asked), asked.write, RESULTS.parents[1] / "docs" / "judges.md", hidden=FIGURES
        )


def _judged(asked: argparse.Namespace) -> Iterator[Table]:
    """The tables of each model, or of each folder and number of recordings."""
    for path in asked.paths:
        for taken in asked.take if asked.take and path.is_dir() else [None]:
            with tempfile.TemporaryDirectory() as temporary:
                work, name = Path(temporary), path.resolve().name if path.is_dir() else path.stem
                if taken is not None:
                    model, sides = taken_sides(path, taken, asked.seed, work)
                    name = f"{name}, {taken}"
                else:
                    model, folder = (
                        (_trained(path, work), path)
                        if path.is_dir()
                        else (Model(path), asked.folder)
                    )
                    sides = trained_sides(model, folder, work / "corpus")
                with ProgressReport(name) as progress:
                    measured = tables(name, model, sides, asked.count, asked.seed, progress)
                yield from measured


def trained_sides(model: Model, folder: Path | None, output: Path) -> Sides:
    """Recordings of both sides of a model's training, from their folder; `output` is the folder of their corpus.

    Without a folder it is the one that this computer has a record of. Raises ParamsError where they are others.
    """
    data_sha256 = model.metadata.provenance.data_sha256
    place = find_corpus(STATE, data_sha256) if folder is None else folder
    if place is None:
        raise ParamsError(
            f"{model.path}: expected the folder of its recordings, found no record of it in {STATE}; name it with --folder"
        )
    corpus, sides = heard_by(model.bundle, place, output)
    if sides is None:
        raise ParamsError(
            f"{place}: expected the recordings that {model.path} was trained on, of which some are held out, found others; "
            "name their folder with --folder"
        )
    return Sides(corpus, sides.train, sides.train, sides.held_out)


def taken_sides(folder: Path, taken: int, seed: int, work: Path) -> tuple[Model, Sides]:
    """A model of so many recordings of a folder, drawn at random; others are the held-out ones and those of the null.

    Near-duplicates of the ones that were taken are left out. Raises ParamsError where too few others are left.
    """
    ingest(folder, work / "all", "auto", MAX_REJECTED)
    entries = load_corpus(work / "all").entries
    order = np.random.default_rng(seed).permutation(len(entries))
    chosen = [entries[place] for place in order[:taken]]
    for entry in chosen:
        target = work / "taken" / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / entry.path, target)
    groups = {entry.group for entry in chosen}
    others = [entries[place].path for place in order[taken:] if entries[place].group not in groups]
    if len(others) < 4 * FEWEST:
        raise ParamsError(
            f"{folder}: expected at least {4 * FEWEST} recordings beside the {taken} that are taken, found "
            f"{len(others)} that are no near-duplicates of these; take fewer"
        )
    model = _trained(work / "taken", work)
    corpus, _ = heard_by(model.bundle, folder, work / "corpus")
    row = {entry.path: entry for entry in corpus.entries}
    training, rest = (
        [row[name] for name in own if name in row]
        for own in ([entry.path for entry in chosen], others)
    )
    return model, Sides(corpus, training, rest[1::2], rest[::2])


def _trained(folder: Path, work: Path) -> Model:
    """A model with a prior of the recordings of a folder, with default settings."""
    execution = execution_from_environment()
    path, executor = work / f"{folder.name}.distill", Executor(execution.workers)
    train_model(
        folder, path, default_params(), execution, executor, prior=True, state=work / "state"
    )
    return Model(path)


def tables(
    name: str, model: Model, sides: Sides, wanted: int, seed: int, progress: Progress
) -> list[Table]:
    """Measures of what the model and simple generators make, and of the probes. Raises ParamsError for few recordings."""
    held_out, others = sides.read(sides.held_out), sides.read(sides.null)
    least = min(len(held_out), len(others) // 2)
    if least < FEWEST:
        raise ParamsError(
            f"{name}: expected at least {FEWEST} held-out recordings and {2 * FEWEST} others to judge by, found "
            f"{len(held_out)} and {len(others)}; add recordings"
        )
    made = {
        DECODED: decoded(model, sides, sides.held_out),
        **made_by(model, sides, wanted, seed, progress),
    }
    if sides.null is not sides.training:
        made = {TRAINING: sides.read(sides.training), **made}
    counted = min(least, *map(len, made.values()))
    kind_of_null = TRAINING if sides.null is sides.training else OTHERS
    as_null, null_decoded = f"null: {counted} {kind_of_null}", f"{kind_of_null}, decoded"
    null_codec = {null_decoded: decoded(model, sides, sides.null)}
    wrong = probes(others, sides.corpus.sample_rate, seed)
    judges, figures, told = panel(model.bundle.codec), [], []
    cells: dict[str, list[str]] = {kind: [] for kind in (as_null, *made, *wrong)}
    for judge, hear in judges.items():
        recordings, generator = hear(held_out), np.random.default_rng(seed)
        sets = {as_null: others, **made, **wrong, **null_codec}
        heard = {
            kind: hear(own)
            for kind, own in followed(sets.items(), progress, f"sets heard by {judge}")
        }
        reference = heard[DECODED][independent(sides.held_out)]
        heard[null_decoded] = heard[null_decoded][independent(sides.null)]
        for kind in (null_decoded, GENERATED, COUNTING):
            told.append((name, kind, judge, *against_decoded(reference, heard[kind], seed)))
        beside = {
            kind: Comparison(recordings, heard[kind], paired=kind == DECODED) for kind in cells
        }
        null = Null.of(beside[as_null], counted, generator)
        for kind, comparison in beside.items():
            values, p_value = (
                comparison.draws(counted, generator).mean(axis=0),
                f"{comparison.p_value(generator):.3f}",
            )
            apart = [number(value, "+.1f") for value in null.deviations(values)]
            if kind == as_null:
                apart = [f"± {value:.2f}" for value in null.deviation]
            with_off = (f"{value:.2f} ({off})" for value, off in zip(values, apart, strict=True))
            figures.append((name, judge, kind, *with_off, p_value))
            cells[kind].append(
                ("" if kind == as_null else f"{apart[KERNEL]}, {apart[NEAREST]}; ") + f"p {p_value}"
            )
    rows = {kind: (name, kind, *own) for kind, own in cells.items()}
    shown = ("corpus", "sounds", *judges)
    return [
        Table("judged", shown, tuple(rows[kind] for kind in (as_null, *made))),
        Table("hearing", shown, tuple(rows[kind] for kind in wrong)),
        Table("against_decoded", AGAINST_DECODED, tuple(told)),
        Table(FIGURES, ("corpus", "judge", "sounds", *MEASURES, "p"), tuple(figures)),
    ]


def against_decoded(reference: Statistics, sounds: Statistics, seed: int) -> tuple[str, ...]:
    """Cells of whether sounds `[M, values]` are told from decoded held-out recordings `[N, values]`."""
    test = two_sample_test(reference, sounds, np.random.default_rng(seed))
    accuracies = (number(value, ".2f") for value in (test.accuracy, test.critical, test.bound))
    return (f"{len(reference)}, {len(sounds)}", *accuracies, f"{test.p_value:.3f}", test.verdict)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judge", description=__doc__)
    add = parser.add_argument
    add(
        "paths",
        nargs="+",
        type=Path,
        help="model files, or folders of recordings to train models of",
    )
    add(
        "--folder",
        type=Path,
        metavar="DIR",
        help="the recordings that the model file was trained on",
    )
    taken = "train on so many recordings of a folder; the others judge"
    add("--take", nargs="+", type=whole(1), metavar="N", help=taken)
    add("--count", type=whole(1), default=128, help="sounds of each generator")
    add("--seed", type=int, default=0, help="of sounds, draws and what is taken")
    add_write(parser, "tables", "judges.md")
    return parser


if __name__ == "__main__":
    main()
