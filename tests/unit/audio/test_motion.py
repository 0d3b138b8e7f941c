"""How sounds move: each figure tells a pair of sets apart that the others hear alike; of few sounds none is said."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from distill.audio.motion import Median, Motion, medians, motion_line, tempo

RATE = 24_000
TIME = np.arange(2 * RATE) / RATE


def tone(semitones: float | NDArray[np.float64] = 0.0, treble: float = 5.0, noise: float = 0.0) -> NDArray[np.float64]:
    """Partials of A3, those above 3 kHz decay by `treble` more in a second; bent by semitones; with noise beside them."""
    phase = 2 * np.pi * np.cumsum(220 * 2 ** (np.broadcast_to(semitones, TIME.shape) / 12)) / RATE
    decays = [1.0 if number < 12 else treble for number in range(1, 33)]
    # The first partial is the strongest: among equal ones any would be followed.
    partials = [
        np.cos(number * phase + number**2) * np.exp(-TIME * decay) / number**0.1
        for number, decay in enumerate(decays, 1)
    ]
    return np.sum(partials, axis=0) + noise * np.random.default_rng(0).standard_normal(len(TIME)) * np.exp(-TIME)


def measured(sound: NDArray[np.float64]) -> Motion:
    return Motion.measure(sound, RATE)


def test_treble_that_dies_first_is_damping_alone() -> None:
    same, damped = measured(tone(treble=1.0)), measured(tone(treble=5.0))
    assert same.damping == pytest.approx(0, abs=1)
    assert damped.damping == pytest.approx(-20 * np.log10(np.e) * 4, rel=0.15)
    assert damped.pitch_range == pytest.approx(same.pitch_range, abs=2)
    assert damped.flatness < -25  # there is no noise


def test_a_bend_is_a_range_of_pitch_alone() -> None:
    straight, bent = measured(tone()), measured(tone(3 * TIME / 2))
    assert straight.pitch_range < 2
    assert bent.pitch_range == pytest.approx(240, abs=40)  # from the 10th to the 90th percentile
    assert bent.damping == pytest.approx(straight.damping, rel=0.2)


@pytest.mark.parametrize("hertz", [95, 110, 220, 880])
def test_low_pitches_are_followed_as_high_ones(hertz: int) -> None:
    bend = 2 * TIME / 2  # semitones
    for semitones, found in ((0.0, 0.0), (bend, 160.0)):
        phase = 2 * np.pi * np.cumsum(hertz * 2 ** (np.broadcast_to(semitones, TIME.shape) / 12)) / RATE
        assert measured(np.cos(phase)).pitch_range == pytest.approx(found, abs=12)


def test_noise_between_partials_is_flatness_alone() -> None:
    clean, noisy = measured(tone(treble=1.0)), measured(tone(treble=1.0, noise=0.1))
    assert noisy.flatness > clean.flatness + 5
    assert noisy.damping == pytest.approx(clean.damping, abs=2)


def test_hits_on_a_grid_have_a_pulse_and_those_beside_it_have_none() -> None:
    rng = np.random.default_rng(1)
    pulses = []
    for jitter in (0.0, 0.2):
        sound = np.zeros(len(TIME))
        for beat in np.arange(0.05, 1.7, 0.25) + rng.uniform(0, jitter, 7):
            hit = rng.standard_normal(1200) * np.exp(-np.arange(1200) / 200)
            sound[round(beat * RATE) :][:1200] += hit
        pulses.append(measured(sound).pulse)
    assert pulses[0] > 0.6
    assert pulses[1] < 0.5
    assert math.isnan(measured(tone()[:RATE]).pulse)  # too short for one


@pytest.mark.parametrize("beats_a_minute", [75, 97, 120, 138])
def test_hits_on_beats_have_their_tempo(beats_a_minute: float) -> None:
    sound, rng = np.zeros(4 * RATE), np.random.default_rng(2)
    for number, beat in enumerate(np.arange(0.05, 3.9, 30 / beats_a_minute)):
        hit = rng.standard_normal(1200) * np.exp(-np.arange(1200) / 200)
        sound[round(beat * RATE) :][:1200] += (0.3 if number % 2 else 1.0) * hit  # softer between beats
    assert tempo(sound, RATE) == pytest.approx(beats_a_minute, abs=0.5)
    assert math.isnan(tempo(sound[:RATE], RATE))  # too short


@pytest.mark.parametrize("treble", [1.0, 5.0])
def test_tones_that_die_have_no_tempo(treble: float) -> None:
    assert math.isnan(tempo(tone(treble=treble, noise=0.1), RATE))


@pytest.mark.parametrize("sound", [np.zeros(2 * RATE), np.zeros(1), np.ones(5), tone()[:400]])
def test_silence_and_clicks_have_no_motion_and_break_nothing(sound: NDArray[np.float64]) -> None:
    found = measured(sound)
    assert math.isnan(found.pitch_range)
    assert math.isnan(found.pulse)
    assert math.isnan(tempo(sound, RATE))


def test_the_interval_of_a_median_holds_it_in_nine_of_ten_draws() -> None:
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        sounds = [Motion(damping, math.nan, math.nan, 0.0, 1.0) for damping in rng.normal(-20, 10, 8)]
        found = medians(sounds)["damping"]
        inside += found.low <= -20 <= found.high
    assert 0.88 < inside / 400 < 0.99
    assert medians(sounds).keys() == {"damping", "flatness", "seconds"}


def test_of_few_sounds_nothing_is_said() -> None:
    few = medians([Motion(-20.0, 3.0, 0.5, -30.0, 1.0)] * 4)
    many = medians([Motion(-20.0, 3.0, 0.5, -30.0, 1.0)] * 5)
    assert few == {}
    assert motion_line(few, many) == ""
    assert many["pulse"] == Median(0.5, 0.5, 0.5, 5)
    assert "decay of treble less that of bass -20 dB/s (-20 to -20), of held-out recordings -20; range" in motion_line(
        many, many
    )
