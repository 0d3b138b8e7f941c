"""Long recordings of recurring motifs, in the sounds of the demo corpus: a corpus for long memories.

Each recording has motifs of its own, repeats each of them with others in between, and has nothing else.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from distill.demo import instruments
from distill.demo.instruments import DEMO_SAMPLE_RATE, Samples
from distill.demo.recordings import write_recording

STEP_SECONDS = 0.125  # of a sequencer at 120 beats a minute
STEPS = 8  # of a motif
MOTIFS = 6  # of a recording
RECORDINGS, ROUNDS = 64, 3
MIN_DISTANCE = 4  # motifs at least, before one recurs
RING_SECONDS = 0.4  # of the longest note
PEAK = 0.5
_SCALE = (0, 3, 5, 7, 10, 12, 15, 17)  # semitones: A minor, without what clashes

Voice = Callable[[Generator, float], Samples]


def write_motifs(folder: Path, seed: int = 0, count: int = RECORDINGS) -> list[Path]:
    """Write `count` recordings of `ROUNDS` rounds below `folder` as 16-bit mono FLAC and return their paths.

    Equal files may be there. The same seed gives the same samples. Raises AudioError.
    """
    paths = [folder / f"motifs_{number:03d}.flac" for number in range(count)]
    for number, path in enumerate(paths):
        write_recording(path, motif_recording(default_rng([seed, number]), ROUNDS))
    return paths


def motif_recording(rng: Generator, rounds: int) -> NDArray[np.float32]:
    """Synthesise a recording: all its motifs `rounds` times, each time in another order.

    Returns samples `[N]` in [-1, 1] at `DEMO_SAMPLE_RATE`.
    """
    motif_samples = round(STEPS * STEP_SECONDS * DEMO_SAMPLE_RATE)
    voices = _voices(rng)
    motifs = [_motif(rng, voices) for _ in range(MOTIFS)]
    order = list(_order(rng, rounds))
    sound = np.zeros((len(order) + 1) * motif_samples)
    for position, index in enumerate(order):
        motif = motifs[index]
        sound[position * motif_samples :][: len(motif)] += motif
    sound = sound[: len(order) * motif_samples]
    return np.asarray(sound * (PEAK / np.abs(sound).max()), dtype=np.float32)


def _order(rng: Generator, rounds: int) -> Iterator[int]:
    """Indices of motifs: one permutation a round, such that none recurs within `MIN_DISTANCE` motifs."""
    recent: list[int] = []
    for _ in range(rounds):
        remaining = [int(index) for index in rng.permutation(MOTIFS)]
        while remaining:
            index = next(one for one in remaining if one not in recent)
            remaining.remove(index)
            recent = [*recent, index][-MIN_DISTANCE:]
            yield index


def _motif(rng: Generator, voices: list[Voice]) -> Samples:
    """Samples of a motif, with the decay of its last notes."""
    length = round((STEPS * STEP_SECONDS + RING_SECONDS) * DEMO_SAMPLE_RATE)
    sound = np.zeros(length)
    for step in range(STEPS):
        if step == 0 or rng.random() < 0.7:
            voice = voices[int(rng.integers(len(voices)))]
            frequency = 220.0 * 2.0 ** (_SCALE[int(rng.integers(len(_SCALE)))] / 12)
            note = voice(rng, frequency)
            first = round(step * STEP_SECONDS * DEMO_SAMPLE_RATE)
            note = note[: length - first] / np.abs(note).max() * rng.uniform(0.4, 1.0)
            sound[first : first + len(note)] += note
    return sound


def _voices(rng: Generator) -> list[Voice]:
    """Three instruments with random settings, for one recording."""
    ring = float(rng.uniform(0.2, RING_SECONDS))
    bright, ratio, index = rng.uniform(0.2, 1.0), rng.uniform(1.2, 3.6), rng.uniform(2.0, 7.0)
    hardness, cutoff, shell = rng.uniform(0.1, 0.9), rng.uniform(5000.0, 9000.0), rng.uniform(150.0, 250.0)

    def pitched(play: Callable[..., Samples]) -> Voice:
        return lambda rng, frequency: play(rng, frequency=frequency, seconds=ring)

    every: list[Voice] = [
        pitched(partial(instruments.plucked_string, brightness=bright, pick_position=float(rng.uniform(0.1, 0.4)))),
        pitched(partial(instruments.struck_bar, ratios=(1.0, 4.0, 9.8), hardness=hardness)),
        pitched(partial(instruments.fm_bell, ratio=ratio, index=index)),
        pitched(instruments.tom),
        lambda rng, _: instruments.hat(rng, seconds=0.15, cutoff=cutoff),
        lambda rng, _: instruments.snare(rng, frequency=shell, seconds=0.25, wires=0.6),
        lambda rng, _: instruments.kick(rng, frequency=shell / 3, seconds=0.3, sweep=4.0, click=0.4),
    ]
    return [every[int(index)] for index in rng.choice(len(every), 3, replace=False)]
