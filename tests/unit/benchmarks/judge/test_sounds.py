"""Counting that draws sounds, and probes that have one thing wrong."""

import numpy as np
import pytest

from benchmarks.judge.sounds import probes, sampled, without_treble
from distill.audio.partials import find_partials, steadiness
from distill.codes.sequences import CodedRecording
from distill.prior.counting_baseline import CountingModel
from unit.tiny import RATE

SIZES = (5, 9, 4, 3, 6, 7)


class Recorder:
    """A generator that notes the probabilities of what it draws."""

    def __init__(self) -> None:
        self.rng, self.noted = np.random.default_rng(0), []  # type: ignore[var-annotated]

    def choice(self, size: int, p: np.ndarray) -> int:
        drawn = int(self.rng.choice(size, p=p))
        self.noted.append(p[drawn])
        return drawn


def test_counting_draws_codes_by_the_probabilities_that_it_is_judged_with() -> None:
    rng = np.random.default_rng(0)
    recordings = [
        CodedRecording([np.stack([rng.integers(0, size, 30) for size in SIZES], axis=1)], str(number))
        for number in range(4)
    ]
    counting, recorder = CountingModel(recordings, SIZES), Recorder()
    codes = sampled(counting, 25, recorder)  # type: ignore[arg-type]
    assert codes.shape == (25, len(SIZES))
    assert np.exp(-counting.nats(codes)).ravel() == pytest.approx(recorder.noted)


def test_probes_change_one_thing_and_keep_the_others() -> None:
    time = np.arange(RATE) / RATE
    recordings = [
        (0.5 * np.sin(2 * np.pi * pitch * time) * np.exp(-time)).astype(np.float32)
        for pitch in (220, 330, 440, 550, 660)
    ]
    made = probes(recordings, RATE, seed=0)

    def is_tonal(sound: np.ndarray) -> bool:
        return steadiness(find_partials(sound, RATE)).is_tonal

    def level(sound: np.ndarray) -> float:
        return float(np.sqrt(np.square(sound).mean()))

    noise, shuffled, higher, softer, dull, few = made.values()
    assert [len(one) for one in (noise, shuffled, higher, softer, dull, few)] == [5, 5, 5, 5, 5, 8]
    assert is_tonal(recordings[2])
    assert not is_tonal(noise[2])
    assert level(noise[2]) == pytest.approx(level(recordings[2]), rel=0.25)
    assert level(noise[2][: RATE // 4]) > 1.3 * level(noise[2][-RATE // 4 :])
    size = round(0.1 * RATE)
    inner = slice(size // 10, -size // 10)
    pieces = [recordings[2][start : start + size][inner] for start in range(0, RATE, size)]
    places = [
        next(n for n, own in enumerate(pieces) if (own == shuffled[2][i : i + size][inner]).all())
        for i in range(0, RATE, size)
    ]
    assert sorted(places) == list(range(10))
    assert places != list(range(10))
    assert len(higher[2]) == pytest.approx(RATE / 2 ** (1 / 24), abs=2)
    assert (softer[2] == recordings[2] / 2).all()
    assert [float(one[100]) for one in few] == [float(recordings[place][100]) for place in (0, 4)] * 4
    assert all(
        (one == two).all() for one, two in zip(noise, next(iter(probes(recordings, RATE, 0).values())), strict=True)
    )


def test_a_sound_without_treble_keeps_what_is_below() -> None:
    time = np.arange(RATE) / RATE
    low, high = (np.sin(2 * np.pi * pitch * time).astype(np.float32) for pitch in (1_000, 5_000))
    assert without_treble(low + high, RATE) == pytest.approx(low, abs=1e-5)


def test_probes_take_the_shortest_sound() -> None:
    for kind, sounds in probes([np.full(1, 0.1, np.float32)], RATE, seed=0).items():
        assert all(np.isfinite(one).all() for one in sounds), kind
