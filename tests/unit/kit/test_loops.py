"""Loops: of what is steady, of whole periods, and without a click; of nothing else."""

import numpy as np
import pytest
from numpy.typing import NDArray

from distill.kit.loops import MIN_SECONDS, STEADY, Loop, looped, looped_alike
from unit.kit.tones import tone

RATE = 16_000


def find_loop(samples: NDArray[np.float32]) -> Loop | None:
    return looped(samples, samples, RATE, len(samples))[1]


def held(samples: NDArray[np.float32], loop: Loop, seconds: float) -> NDArray[np.float32]:
    """What a sampler plays while a note is held."""
    again = samples[loop.start : loop.end + 1]
    times = int(seconds * RATE / len(again)) + 1
    return np.concatenate([samples[: loop.start], *[again] * times])[: round(seconds * RATE)]


def course_db(played: NDArray[np.float32]) -> float:
    """By how much the level of 0.1 s varies."""
    windows = np.lib.stride_tricks.sliding_window_view(played, RATE // 10)[:: RATE // 50]
    return float(np.ptp(20 * np.log10(windows.std(axis=1))))


@pytest.mark.parametrize("key", [24, 45, 60, 69.37, 93])
@pytest.mark.parametrize("kind", ["plain", "vibrato", "breath", "slow decay", "short"])
def test_a_steady_sound_is_held_without_a_click(key: float, kind: str) -> None:
    settings = {"vibrato": {"vibrato": 0.3}, "breath": {"noise": 0.03}, "slow decay": {"decay": 0.2}}.get(kind, {})
    sound = tone(key, 0.6 if kind == "short" else 2.0, RATE, **settings)
    mixed, loop = looped(sound, sound, RATE, len(sound))
    assert loop is not None
    assert loop.correlation >= STEADY.correlation
    assert loop.end - loop.start >= MIN_SECONDS * RATE
    assert len(mixed) == len(sound)
    played = held(mixed, loop, 5.0)
    # Steps and bends across the seams, and past the end of the loop, are such as the sound has anyway.
    seams = np.arange(loop.end, len(played) - 2, loop.end + 1 - loop.start)
    for order in (1, 2):
        usual = np.abs(np.diff(sound, order)).max()
        assert max(np.abs(np.diff(played, order)[seam - 1 : seam + 2]).max() for seam in seams) <= 1.05 * usual
        assert np.abs(np.diff(mixed, order)[loop.end - 1 : loop.end + 2]).max() <= 1.05 * usual
    assert course_db(played[loop.start :]) < 1.0


@pytest.mark.parametrize(
    ("kind", "varies"), [("beats", 2.0), ("swells", 2.0), ("falls", 4.5)], ids=["beats", "swells", "falls"]
)
def test_what_is_held_does_not_pulse(kind: str, varies: float) -> None:
    time = np.arange(3 * RATE) / RATE
    decibels = {"beats": 1.5 * np.sin(4.4 * np.pi * time), "swells": 2 * time, "falls": -2 * time}[kind]
    sound = (0.5 * tone(57, 3.0, RATE) * 10 ** (decibels / 20)).astype(np.float32)
    mixed, loop = looped(sound, sound, RATE, len(sound))
    assert loop is not None
    assert np.array_equal(mixed[: loop.start - RATE // 20], sound[: loop.start - RATE // 20])
    assert course_db(sound[RATE // 2 :]) > varies
    assert course_db(held(mixed, loop, 6.0)[loop.start :]) < 0.5


@pytest.mark.parametrize(
    "settings",
    [
        {"decay": 3.0},  # a plucked string
        {"decay": 1.0},
        {"noise": 0.5},
        {"seconds": 0.25},  # too short
        {"glide": 12.0},
    ],
)
def test_what_decays_is_noise_glides_or_is_short_has_no_loop(settings: dict[str, float]) -> None:
    assert find_loop(tone(57, sample_rate=RATE, **{"seconds": 2.0, **settings})) is None
    assert find_loop(np.zeros(100, np.float32)) is None


def test_a_steady_bass_under_a_sound_that_pulses_has_no_loop() -> None:
    bass, pulses = (
        tone(36, 2.0, RATE, partials=1),
        np.sin(2 * np.pi * np.arange(2 * RATE) / RATE).astype(np.float32) ** 2,
    )
    assert find_loop(bass) is not None
    assert find_loop(bass + 0.1 * pulses * tone(84, 2.0, RATE)) is None


def test_a_loop_is_in_the_part_that_is_steady() -> None:
    steady, plucked = tone(57, 1.0, RATE), tone(57, 1.0, RATE, decay=6.0)
    loop = find_loop(np.concatenate([2 * plucked, steady, plucked]))
    assert loop is not None
    assert RATE <= loop.start < loop.end < 2.15 * RATE
    frequency = 440 * 2 ** ((57 - 69) / 12)
    periods = (loop.end + 1 - loop.start) * frequency / RATE
    assert abs(periods - round(periods)) < 0.02


def test_both_channels_of_a_stereo_sound_are_held_without_a_click() -> None:
    left, right = tone(57, 2.0, RATE, decay=0.2), tone(57, 2.0, RATE, decay=0.3, noise=0.01, partials=6)
    sound = np.stack([left, 0.5 * right], axis=1)
    mixed, loop = looped(sound, sound.mean(axis=1), RATE, len(sound))
    assert loop is not None
    assert mixed.shape == sound.shape
    for channel, own in zip(mixed.T, sound.T, strict=True):
        played = held(channel, loop, 5.0)
        seams = np.arange(loop.end, len(played) - 2, loop.end + 1 - loop.start)
        usual = np.abs(np.diff(own)).max()
        assert max(np.abs(np.diff(played)[seam - 1 : seam + 2]).max() for seam in seams) <= 1.05 * usual


def test_all_sounds_of_an_instrument_have_a_loop_or_none_has() -> None:
    """Of steady sounds a noisy one has a loop, too; one that decays, or is too short, takes it from all."""
    fade = RATE // 50
    steady, noisy = [tone(key, 2.0, RATE) for key in (45, 52)], tone(57, 2.0, RATE, noise=0.15)
    assert find_loop(noisy) is None

    def found(*sounds: NDArray[np.float32]) -> list[bool]:
        made = looped_alike(sounds, RATE, fade)
        assert all(len(mixed) == len(sound) for (mixed, _), sound in zip(made, sounds, strict=True))
        return [loop is not None for _, loop in made]

    assert found(*steady, noisy) == [True] * 3
    mixed, loop = looped_alike([*steady, noisy], RATE, fade)[2]
    assert loop is not None
    assert course_db(held(mixed, loop, 5.0)[loop.start :]) < 1.0
    for other in (tone(57, 2.0, RATE, decay=3.0), tone(57, 0.2, RATE)):
        made = looped_alike([*steady, other], RATE, fade)
        assert [loop for _, loop in made] == [None] * 3
        assert all(mixed is sound for (mixed, _), sound in zip(made, [*steady, other], strict=True))
    plucked = [tone(key, 2.0, RATE, decay=3.0) for key in (45, 52)]
    assert found(*plucked, steady[0]) == [False] * 3
    assert looped_alike([], RATE, fade) == []
