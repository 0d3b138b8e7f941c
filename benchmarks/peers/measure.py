"""The tables of `make bench ARGS=--peers`: how near the sounds of each peer are, what they copy, and what they cost."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.arguments import say
from benchmarks.judge.__main__ import KERNEL, NEAREST, trained_sides
from benchmarks.judge.features import Samples, panel
from benchmarks.judge.measures import Comparison, Null
from benchmarks.judge.sounds import MAX_SECONDS, followed
from benchmarks.peers.peer import DISTILL, MODEL, RECORDINGS, SEED, Peer, Task, figures
from benchmarks.peers.worker import DRAWN, SOUNDS, TRAINED, WINDOW
from benchmarks.report import MISSING, Table, number
from distill.api import Model
from distill.audio.motion import IN_WORDS, Motion, medians
from distill.audio.read import read_recording
from distill.novelty.report import Statistics, diversity
from distill.novelty.verdict import VERDICTS
from distill.progress import ProgressReport

WORK = Path(".peers")
HELD_OUT, TRAINING = "held-out recordings", "training recordings"
ABOUT = ("corpus", "sounds", "CPU minutes")
Row = tuple[str, ...]


def measure_peers(
    folder: Path, minutes: Sequence[float], count: int, peers: Sequence[Peer], kept: Path = WORK
) -> Iterator[Table]:
    """Let peers train on a folder of recordings and draw `count` sounds, and measure these.

    What was trained or drawn before, below `kept`, is there already. Raises DistillError.
    """
    name = folder.resolve().name
    task = prepared(folder, kept / name)
    runs: dict[Row, Path] = {
        (name, peer.name, cpu_minutes(run)): run
        for peer in peers
        for run in drawn_by(peer, task, minutes, count)
    }
    recorded: dict[Row, list[Samples]] = {
        (name, HELD_OUT, MISSING): task.sides.read(task.sides.held_out),
        (name, TRAINING, MISSING): task.sides.read(task.sides.training),
    }
    sets = recorded | {row: read_sounds(run, task.rate) for row, run in runs.items()}
    with ProgressReport(name) as progress:
        novel = {
            row: verdicts(task.model, own)
            for row, own in followed(sets.items(), progress, "sets by novelty")
        }
        judged = judgements(task, sets)
        varied = {
            row: different(task, own)
            for row, own in followed(sets.items(), progress, "sets by diversity")
        }
        moved = {
            row: motion(own, task.rate)
            for row, own in followed(sets.items(), progress, "sets by motion")
        }
    costs = dict.fromkeys(sets, (MISSING, MISSING)) | {row: cost(run) for row, run in runs.items()}
    steps = dict.fromkeys(sets, MISSING) | {row: steps_of(run) for row, run in runs.items()}
    cells = tuple((*row, *costs[row], novel[row], *judged[row]) for row in sets)
    yield Table(
        "peers", (*ABOUT, "MB", "CPU s per s of sound", "/".join(VERDICTS), *judges_of(task)), cells
    )
    figures_of_motion = (f"{words},{unit}".rstrip(",") for words, _, unit in IN_WORDS.values())
    cells = tuple((*row, steps[row], varied[row], *moved[row]) for row in sets)
    yield Table(
        "peers_motion",
        (*ABOUT, "steps", "diversity, of recordings", "seconds", *figures_of_motion),
        cells,
    )


def drawn_by(peer: Peer, task: Task, minutes: Sequence[float], count: int) -> Iterator[Path]:
    """The runs of a peer, each with `count` sounds."""
    for run in peer.train(task, minutes):
        if len([*(run / SOUNDS).glob("*.wav")]) != count:
            say(f"{task.folder.name}: sounds by {peer.name}, {run.name}")
            peer.draw(task, run, count, WINDOW / task.rate)
        yield run


def prepared(folder: Path, work: Path) -> Task:
    """What all peers have in common. Distill is trained first: its split is that of all."""
    run = DISTILL.trained(work, folder)
    model = Model(run / MODEL)
    task = Task(folder, work, model, trained_sides(model, folder, work / "corpus"))
    given = work / RECORDINGS
    given.mkdir(exist_ok=True)
    for place, entry in enumerate(task.sides.training):
        samples = task.sides.corpus.read(entry, 0, entry.samples)
        soundfile.write(given / f"{place:03d}.wav", samples, task.rate, subtype="FLOAT")
    return task


def read_sounds(run: Path, rate: int) -> list[Samples]:
    """Sounds `[N]` of a run, read as recordings are: silence at both ends is trimmed. At most MAX_SECONDS of each."""
    files = sorted((run / SOUNDS).glob("*.wav"))
    return [
        read_recording(file, rate, trim=True).samples[: round(MAX_SECONDS * rate)] for file in files
    ]


def cpu_minutes(run: Path) -> str:
    """Minutes of CPU time that a run was trained for, a dash where it was not."""
    return number(figures(run, TRAINED).get("cpu_seconds", math.nan) / 60, ".1f")


def steps_of(run: Path) -> str:
    """Steps of a training, a dash where there are none."""
    return number(figures(run, TRAINED).get("steps", math.nan), ".0f")


def cost(run: Path) -> Row:
    """Cells of what a run costs: megabytes of what it draws with, and CPU seconds for a second of sound."""
    took = figures(run, DRAWN)
    seconds = took["cpu_seconds"] / took["sound_seconds"]
    return f"{figures(run, TRAINED)['bytes'] / 1e6:.1f}", f"{seconds:.3f}"


def verdicts(model: Model, sounds: Sequence[Samples]) -> str:
    """How many of sounds `[N]` are copies, close and new, as the product says."""
    counted = Counter(
        novelty.verdict for novelty in model.novelty([model.encode(sound) for sound in sounds])
    )
    return "/".join(f"{counted[verdict]}" for verdict in VERDICTS)


def judges_of(task: Task) -> Mapping[str, Callable[[Sequence[Samples]], Statistics]]:
    """The judges of `make judge`, whichever they are."""
    return panel(task.model.bundle.codec)


def judgements(task: Task, sets: Mapping[Row, Sequence[Samples]]) -> dict[Row, Row]:
    """Cells of sets of sounds by each judge, as of `make judge`, whose null are draws of training recordings."""
    cells: dict[Row, Row] = dict.fromkeys(sets, ())
    held_out, others = (
        next(own for row, own in sets.items() if row[1] == kind) for kind in (HELD_OUT, TRAINING)
    )
    counted = min(len(held_out), len(others) // 2)
    for hear in judges_of(task).values():
        recordings, generator = hear(held_out), np.random.default_rng(SEED)
        null = Null.of(Comparison(recordings, hear(others)), counted, generator)
        for row, own in sets.items():
            if own is held_out:
                cells[row] += (MISSING,)
                continue
            comparison = Comparison(recordings, hear(own))
            values, p_value = (
                comparison.draws(counted, generator).mean(axis=0),
                comparison.p_value(generator),
            )
            off = [number(value, "+.1f") for value in null.deviations(values)]
            cells[row] += (f"{off[KERNEL]}, {off[NEAREST]}; p {p_value:.3f}",)
    return cells


def different(task: Task, sounds: Sequence[Samples]) -> str:
    """Cell of how many different sounds a set `[N]` amounts to, beside as many recordings; a dash of too few sounds."""
    hear, sides = judges_of(task)["spectra"], task.sides
    held_out, training = (hear(sides.read(entries)) for entries in (sides.held_out, sides.training))
    scores = diversity(hear(sounds), held_out, training, SEED) or (math.nan, math.nan)
    return ", ".join(number(score, ".1f") for score in scores)


def motion(sounds: Sequence[Samples], rate: int) -> Row:
    """Cells of how sounds `[N]` move: medians of their length and of each figure, or a dash where few have it."""
    measured = [Motion.measure(sound, rate) for sound in sounds]
    found, lengths = medians(measured), sorted(len(sound) / rate for sound in sounds)
    shown = (
        f"{found[name].value:{form}}" if name in found else MISSING
        for name, (_, form, _) in IN_WORDS.items()
    )
    return (f"{lengths[len(lengths) // 2]:.2f}", *shown)
