"""Synthetic collections of whole recordings, to pre-train a prior on.

A collection is what one person might have in a folder: a few instruments played at several pitches, velocities and
lengths, in one room, cut in one way; or drum kits, loops, rolls, melodies, words or songs.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from distill.audio.synthetic_sounds import Samples
from pretraining.drums import DRUMS
from pretraining.instruments import (
    SOURCES,
    Make,
    anything,
    chirps,
    held,
    noise_hit,
    repeated,
    resampled,
    string,
    struck,
    texture,
    tone,
    wind,
)
from pretraining.rooms import MAX_SECONDS, room_and_cutting
from pretraining.voices import singing, speaking

PlayNumber = Callable[[Generator, int], Samples]  # a recording of instrument `int`
Collection = Callable[
    [Generator, int, int], PlayNumber
]  # draws so many instruments for a sample rate


class Recording(NamedTuple):
    """Samples `[N]` and the number of its instrument, or of its word, in the collection."""

    samples: NDArray[np.float32]
    instrument: int


def synthetic_collection(
    rng: Generator, sample_rate: int, count: int, max_seconds: float
) -> list[Recording]:
    """Synthesise up to `count` recordings of up to `max_seconds` together."""
    shares, collections = zip(*_COLLECTIONS, strict=True)
    collection = collections[int(rng.choice(len(collections), p=shares))]
    instruments = max(1, int(count / rng.choice((1, 2, 5, 12))))
    play, finish = collection(rng, sample_rate, instruments), room_and_cutting(rng, sample_rate)
    recordings: list[Recording] = []
    seconds = 0.0
    while len(recordings) < count and seconds < max_seconds:
        instrument = int(rng.integers(instruments))
        samples = finish(rng, play(rng, instrument))
        recordings.append(Recording(samples, instrument))
        seconds += len(samples) / sample_rate
    return recordings


def _one_shots(*makes: Make) -> Collection:
    """Collections of instruments of these kinds, each played once in a recording."""

    def collection(rng: Generator, sample_rate: int, count: int) -> PlayNumber:
        instruments = [makes[int(rng.integers(len(makes)))](rng, sample_rate) for _ in range(count)]
        return lambda take, number: instruments[number](take)

    return collection


HITS = (*DRUMS, repeated(struck, noise_hit, tone))
NOTES = (string, wind, repeated(tone, held))
EVERYTHING = (*DRUMS, string, wind, chirps, *[repeated(*SOURCES)] * 6)


def _loops(rng: Generator, sample_rate: int, count: int) -> PlayNumber:
    """Patterns of up to three instruments on a grid."""
    play_once = _one_shots(*HITS)(rng, sample_rate, count)

    def play(take: Generator, number: int) -> Samples:
        step, steps = take.uniform(0.07, 0.25), int(take.choice((4, 8, 16)))
        repeats = int(take.integers(1, 4))
        loop = np.zeros(int(sample_rate * min(MAX_SECONDS - 1, step * steps * repeats)))
        for voice in (number, *take.integers(count, size=int(take.integers(3)))):
            sound, level = play_once(take, voice), 10 ** (-take.uniform(0, 12) / 20)
            pattern = take.random(steps) < take.uniform(0.1, 0.7)
            for position in np.flatnonzero(np.tile(pattern, repeats)):
                _add(
                    loop,
                    int(position * step * sample_rate),
                    sound,
                    level * 10 ** (-take.exponential(1.5) / 20),
                )
        return loop

    return play


def _rolls(rng: Generator, sample_rate: int, count: int) -> PlayNumber:
    """One instrument repeated quickly, faster or slower, louder or softer."""
    play_once = _one_shots(*HITS)(rng, sample_rate, count)

    def play(take: Generator, number: int) -> Samples:
        gaps = take.uniform(0.03, 0.15) * take.uniform(0.93, 1.07) ** np.arange(
            int(take.integers(3, 20))
        )
        starts = (np.concatenate([[0.0], np.cumsum(gaps)]) * sample_rate).astype(int)
        hits = [play_once(take, number) for _ in range(1 if take.random() < 0.5 else len(starts))]
        roll = np.zeros(int(starts[-1]) + len(hits[-1]))
        first, last = take.uniform(0.2, 1, 2)
        for index, (start, level) in enumerate(
            zip(starts, np.linspace(first, last, len(starts)), strict=True)
        ):
            _add(roll, int(start), hits[index % len(hits)], float(level))
        return roll

    return play


def _melodies(rng: Generator, sample_rate: int, count: int) -> PlayNumber:
    """A few notes of one instrument."""
    play_once = _one_shots(*NOTES)(rng, sample_rate, count)

    def play(take: Generator, number: int) -> Samples:
        note = play_once(take, number)[: int(1.5 * sample_rate)]
        step = int(sample_rate * take.uniform(0.1, 0.5))
        pitches = take.choice((-5, -3, 0, 2, 4, 5, 7, 9, 12), int(take.integers(2, 9)))
        notes = [resampled(note, 2 ** (float(pitch) / 12)) for pitch in pitches]
        melody = np.zeros(max(index * step + len(sound) for index, sound in enumerate(notes)))
        for index, sound in enumerate(notes):
            _add(melody, index * step, sound, 1.0)
        return melody

    return play


def _add(total: Samples, start: int, sound: Samples, level: float) -> None:
    if start < len(total):
        end = min(len(total), start + len(sound))
        total[start:end] += level * sound[: end - start]


def _mixed(rng: Generator, sample_rate: int, count: int) -> PlayNumber:
    """A bit of everything."""
    collections = (_one_shots(*EVERYTHING), _one_shots(*EVERYTHING), _loops, _rolls, _melodies)
    plays = [collection(rng, sample_rate, count) for collection in collections]
    return lambda take, number: plays[int(take.integers(len(plays)))](take, number)


_COLLECTIONS: tuple[tuple[float, Collection], ...] = (
    (0.20, _one_shots(*DRUMS)),
    (0.10, _one_shots(*HITS)),
    (0.10, _one_shots(*EVERYTHING)),
    (0.10, _one_shots(repeated(struck, struck, noise_hit, anything))),
    (0.12, _one_shots(*NOTES)),
    (0.05, _one_shots(repeated(held, texture), wind, chirps)),
    (0.12, speaking),
    (0.03, singing),
    (0.06, _loops),
    (0.02, _rolls),
    (0.04, _melodies),
    (0.06, _mixed),
)  # with the share of each
