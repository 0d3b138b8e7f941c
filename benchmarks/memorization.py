"""Is memorisation told from learning? Corpora of which that is known, through codec and prior.

Five corpora are takes of the same few sounds, which a prior can only learn by heart; ten vary as a musician's do.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, default_rng

from benchmarks.arguments import say
from benchmarks.report import Table
from distill.audio.corpus import Corpus
from distill.codec.model import VQVAE
from distill.codec.training import train_vqvae
from distill.demo import instruments as play
from distill.demo.recordings import MARIMBA, write_recording
from distill.execution import Execution
from distill.params import default_params
from distill.pipeline.train import code_folder
from distill.prior.training import PriorTraining, fit_prior
from distill.training.distributed import make_fabric
from distill.training.run import Run

COLUMNS = (
    "corpus",
    "memorised",
    "recordings",
    "levels",
    "perplexity",
    "of three coarse levels",
    "warns",
)
Play = Callable[[Generator, int], play.Samples]  # the recording of that index


class Case(NamedTuple):
    """A corpus, and whether a prior that predicts its held-out recordings has learnt it by heart."""

    name: str
    memorised: bool
    recordings: int
    play: Play


def _note(index: int) -> float:
    """Frequency in Hz: a minor scale from 110 Hz on."""
    octave, degree = divmod(index, 7)
    return float(110.0 * 2 ** (octave + (0, 2, 3, 5, 7, 8, 10)[degree] / 12))


def _kit(rng: Generator, index: int) -> play.Samples:
    drums: Sequence[Callable[[], play.Samples]] = (
        lambda: play.kick(
            rng,
            rng.uniform(40, 75),
            rng.uniform(0.2, 0.5),
            rng.uniform(2.5, 7),
            rng.uniform(0, 0.8),
        ),
        lambda: play.snare(rng, rng.uniform(140, 260), rng.uniform(0.12, 0.4), rng.uniform(0.2, 1)),
        lambda: play.hat(rng, rng.uniform(0.1, 0.4), rng.uniform(5000, 9500)),
        lambda: play.tom(rng, rng.uniform(80, 220), rng.uniform(0.3, 0.5)),
        lambda: play.clap(rng, rng.uniform(0.2, 0.4), rng.uniform(800, 1600)),
    )
    return drums[index % len(drums)]()


def _three_drums(rng: Generator, index: int) -> play.Samples:
    if index % 3 == 0:
        return play.kick(rng, 50, 0.4, 4, 0.3)
    return play.snare(rng, 190, 0.25, 0.6) if index % 3 == 1 else play.hat(rng, 0.2, 7000)


def _chord(rng: Generator, index: int) -> play.Samples:
    notes = [_note(index % 12) * ratio for ratio in (1, 1.5, 2, (2.4, 2.52)[index % 2])]
    return play.chord(
        rng, notes, rng.uniform(0.5, 0.9), rng.uniform(0.2, 0.8), rng.uniform(0.03, 0.2)
    )


def _sweep(rng: Generator, index: int) -> play.Samples:
    ends = np.sort(rng.uniform(200, 9000, 2))[:: (1, -1)[index % 2]]
    return play.noise_sweep(
        rng, rng.uniform(0.4, 0.9), ends.tolist(), rng.uniform(2, 5), rng.uniform(0.1, 0.9)
    )


def _string(rng: Generator, index: int) -> play.Samples:
    note, bright, pick = _note(index % 21), rng.uniform(0.2, 1), rng.uniform(0.08, 0.35)
    return play.plucked_string(rng, note, rng.uniform(0.3, 0.8), bright, pick)


def _bell(rng: Generator, _: int) -> play.Samples:
    note, ratio = _note(int(rng.integers(7, 21))), float(rng.choice([1.4, 1.73, 2.76, 3.53]))
    return play.fm_bell(rng, note, rng.uniform(0.5, 1.0), ratio, rng.uniform(2, 7))


def _bar(rng: Generator, index: int) -> play.Samples:
    return play.struck_bar(
        rng, _note(7 + index), rng.uniform(0.4, 0.9), MARIMBA, rng.uniform(0.15, 0.9)
    )


CASES = (
    Case("one kick", True, 16, lambda rng, _: play.kick(rng, 55, 0.5, 4, 0.4)),
    Case(
        "one hard kick",
        True,
        18,
        lambda rng, _: play.kick(rng, 50, 0.4, rng.uniform(4.9, 5.1), rng.uniform(0.7, 0.9)),
    ),
    Case("one tom", True, 30, lambda rng, _: play.tom(rng, 110, 0.5)),
    Case("three drums", True, 36, _three_drums),
    Case("many takes", True, 105, _three_drums),
    Case("kicks", False, 18, lambda rng, _: _kit(rng, 0)),
    Case("strings", False, 20, _string),
    Case("bars", False, 16, _bar),
    Case("sweeps", False, 14, _sweep),
    Case("snares", False, 30, lambda rng, _: _kit(rng, 1)),
    Case("hats", False, 30, lambda rng, _: _kit(rng, 2)),
    Case("chords", False, 24, _chord),
    Case("bells", False, 30, _bell),
    Case("kit", False, 105, _kit),
    Case("many strings", False, 105, _string),
)


def measure_memorization(execution: Execution) -> Table:
    """Train codec and prior on each corpus with 4, 8 and 16 levels: what the check is given, and whether it warns."""
    rows = []
    for quality in ("small", "standard", "high"):
        for case in CASES:
            say(f"{case.name}, {quality}")
            training = _trained(case, quality, execution)
            metrics, levels = training.result.best_metrics, training.facts.shape.num_quantizers
            rows.append(
                (
                    *(
                        case.name,
                        "yes" if case.memorised else "no",
                        str(case.recordings),
                        str(levels),
                    ),
                    *(
                        f"{metrics[name]:.2f}"
                        for name in ("val_perplexity_without_tones", "val_coarse_perplexity")
                    ),
                    "yes" if training.facts.memorization.was_memorizing else "no",
                )
            )
    return Table("memorization", COLUMNS, tuple(rows))


def _trained(case: Case, quality: str, execution: Execution) -> PriorTraining:
    """A prior of a codec of the recordings of a case."""
    fabric = make_fabric(execution)
    # The shipped weights have learnt the most; codes of more epochs are of the same kinds.
    params = default_params(vqvae={"quality": quality, "epochs": 2})

    def train(corpus: Corpus) -> VQVAE:
        count = len(corpus.entries)
        given = params.vqvae_config(count), params.split.resolve(count), params.seed, fabric
        return train_vqvae(corpus, *given).model

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "recordings")
        for index in range(case.recordings):
            rng = default_rng([params.seed, index, *case.name.encode()])
            samples = case.play(rng, index)
            loudness = 1.0 if case.memorised else rng.uniform(0.3, 1.0)
            samples *= 0.9 * loudness / np.abs(samples).max()
            write_recording(folder / f"{index:03d}.flac", samples.astype(np.float32))
        data = code_folder(folder, Path(temporary, "work"), params, execution, train)
    return fit_prior(data, params.prior_config(data.recordings), params.seed, Run(fabric))
