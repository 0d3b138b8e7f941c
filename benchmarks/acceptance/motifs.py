"""Long recordings of recurring motifs, each with motifs of its own, in the sounds of the demo corpus."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from distill.demo import instruments
from distill.demo.instruments import DEMO_SAMPLE_RATE, Samples
from distill.demo.recordings import MARIMBA, write_recording

STEP_SECONDS = 0.125  # of a sequencer at 120 beats a minute
STEPS = 8  # of a motif
MOTIFS = 6  # of a recording
MIN_DISTANCE = 4  # motifs at least, before one recurs
RING_SECONDS = 0.4  # of the longest note
_SCALE = (0, 3, 5, 7, 10, 12, 15, 17)  # semitones: A minor, without what clashes

Voice = Callable[[Generator, float], Samples]


def write_motifs(folder: Path, seed: int, count: int) -> list[Path]:
    """Write `count` recordings below `folder` as 16-bit mono FLAC, which follow from the seed. Raises AudioError."""
    paths = [folder / f"motifs_{number:03d}.flac" for number in range(count)]
    for number, path in enumerate(paths):
        write_recording(path, motif_recording(default_rng([seed, number]), 3))
    return paths


def motif_recording(rng: Generator, rounds: int) -> NDArray[np.float32]:
    """Samples `[N]` of a recording in [-1, 1]: all its motifs `rounds` times, each time in another order."""
    motif_samples = round(STEPS * STEP_SECONDS * DEMO_SAMPLE_RATE)
    voices = _voices(rng)
    motifs = [_motif(rng, voices) for _ in range(MOTIFS)]
    order = list(_order(rng, rounds))
    sound = np.zeros((len(order) + 1) * motif_samples)
    for position, index in enumerate(order):
        sound[position * motif_samples :][: len(motifs[index])] += motifs[index]
    sound = sound[: len(order) * motif_samples]
    return np.asarray(sound * (0.5 / np.abs(sound).max()), dtype=np.float32)


def _order(rng: Generator, rounds: int) -> Iterator[int]:
    """Indices of motifs: one permutation a round, such that none recurs within `MIN_DISTANCE` motifs."""
    recent: list[int] = []
    for _ in range(rounds):
        remaining: list[int] = rng.permutation(MOTIFS).tolist()
        while remaining:
            index = next(motif for motif in remaining if motif not in recent)
            remaining.remove(index)
            recent = [*recent, index][-MIN_DISTANCE:]
            yield index


def _motif(rng: Generator, voices: list[Voice]) -> Samples:
    """Samples of a motif, with the decay of its last notes."""
    sound = np.zeros(round((STEPS * STEP_SECONDS + RING_SECONDS) * DEMO_SAMPLE_RATE))
    for step in range(STEPS):
        if step == 0 or rng.random() < 0.7:
            voice = voices[int(rng.integers(len(voices)))]
            note = voice(rng, 220.0 * 2.0 ** (_SCALE[int(rng.integers(len(_SCALE)))] / 12))
            first = round(step * STEP_SECONDS * DEMO_SAMPLE_RATE)
            note = note[: len(sound) - first] / np.abs(note).max() * rng.uniform(0.4, 1.0)
            sound[first : first + len(note)] += note
    return sound


def _voices(rng: Generator) -> list[Voice]:
    """Three instruments with random settings, for one recording."""
    ring = float(rng.uniform(0.2, RING_SECONDS))
    bright, ratio, index = rng.uniform(0.2, 1.0), rng.uniform(1.2, 3.6), rng.uniform(2.0, 7.0)
    hardness, cutoff, shell = (
        rng.uniform(0.1, 0.9),
        rng.uniform(5000.0, 9000.0),
        rng.uniform(150.0, 250.0),
    )
    pick = float(rng.uniform(0.1, 0.4))
    every: list[Voice] = [
        lambda rng, hertz: instruments.plucked_string(rng, hertz, ring, bright, pick),
        lambda rng, hertz: instruments.struck_bar(rng, hertz, ring, MARIMBA, hardness),
        lambda rng, hertz: instruments.fm_bell(rng, hertz, ring, ratio, index),
        lambda rng, hertz: instruments.tom(rng, hertz, ring),
        lambda rng, _: instruments.hat(rng, seconds=0.15, cutoff=cutoff),
        lambda rng, _: instruments.snare(rng, frequency=shell, seconds=0.25, wires=0.6),
        lambda rng, _: instruments.kick(
            rng, frequency=shell / 3, seconds=0.3, sweep=4.0, click=0.4
        ),
    ]
    return [every[int(index)] for index in rng.choice(len(every), 3, replace=False)]
