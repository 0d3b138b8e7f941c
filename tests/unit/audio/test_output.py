"""Sample rate and loudness of sounds, the latter beside the formulas of ITU-R BS.1770-4."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import sosfilt

from distill.audio.output import CEILING_DB, Output, integrated_loudness, levelled, resampled

Doubles = NDArray[np.float64]
# Tables 1 and 2 of the recommendation: at 48 kHz.
K_WEIGHTING = [
    [1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585],
    [1, -2, 1, 1, -1.99004745483398, 0.99007225036621],
]


def tone(seconds: float, rate: int = 48_000, hertz: float = 997.0) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def reference(samples: Doubles) -> float:
    """Equations 1 to 7 of the recommendation, block by block, at 48 kHz; of less than a block the whole is one."""
    weighted = sosfilt(K_WEIGHTING, np.atleast_2d(samples.T))
    size = min(19_200, weighted.shape[1])
    starts = range(0, weighted.shape[1] - size + 1, 4800)
    powers = np.array([np.square(weighted[:, start : start + size]).mean(axis=1).sum() for start in starts])
    loud = -0.691 + 10 * np.log10(powers)
    first = powers[loud > -70]
    relative = -0.691 + 10 * np.log10(first.mean()) - 10
    return float(-0.691 + 10 * np.log10(powers[(loud > -70) & (loud > relative)].mean()))


@pytest.mark.parametrize("rate", [8000, 24_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("seconds", [0.1, 0.4, 3.0])
def test_a_full_scale_sine_has_the_loudness_of_the_recommendation(rate: int, seconds: float) -> None:
    sine = tone(seconds, rate)
    assert integrated_loudness(sine, rate) == pytest.approx(-3.01, abs=0.03)
    assert integrated_loudness(np.stack([sine, 0 * sine], axis=1), rate) == pytest.approx(-3.01, abs=0.03)
    assert integrated_loudness(np.stack([sine, sine], axis=1), rate) == pytest.approx(0.0, abs=0.03)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.floats(0.002, 2.0), st.integers(1, 2), st.floats(-30, 0))
def test_loudness_is_that_of_the_formulas(seed: int, seconds: float, channels: int, level: float) -> None:
    random = np.random.default_rng(seed)
    noise = random.standard_normal((round(seconds * 48_000), channels)) * 10 ** (level / 20) * 0.1
    noise *= np.exp(-np.arange(len(noise)) / random.uniform(2000, 90_000))[:, None]
    sound = noise[:, 0] if channels == 1 else noise
    assert integrated_loudness(sound, 48_000) == pytest.approx(reference(sound), abs=0.01)


def test_sounds_are_brought_to_one_loudness_or_as_near_as_their_peaks_let_them() -> None:
    click = np.zeros((9600, 2), np.float32)
    click[100:140] = 1
    for sound, clips in ((0.001 * tone(1), False), (tone(0.05), False), (tone(2, hertz=80), False), (click, True)):
        made, under = levelled(sound, 48_000, -20)
        assert integrated_loudness(made, 48_000) == pytest.approx(-20 - under, abs=0.01)
        assert (under > 0) == clips
        assert 20 * np.log10(np.abs(made).max()) <= CEILING_DB + 1e-4
    assert not levelled(np.zeros(1000, np.float32), 48_000, -20).samples.any()


def test_what_stays_under_is_said() -> None:
    output = Output(48_000, -14.0)
    assert output.lines([0.0, 0.01]) == Output(48_000).lines([3.0]) == []
    (line,) = output.lines([0.0, 1.0, 2.26], "take")
    assert line == (
        "2 takes of 3 up to 2.3 dB under -14 LUFS, where peaks reach -1 dBFS; at -16.3 LUFS all are equally loud"
    )


@pytest.mark.parametrize("rate", [8000, 44_100, 96_000])
def test_a_sound_is_the_same_at_another_rate(rate: int) -> None:
    sound = 0.5 * tone(0.5, 24_000)
    made = resampled(sound, 24_000, rate)
    assert len(made) == rate // 2
    assert made[rate // 8 : -rate // 8] == pytest.approx(0.5 * tone(0.5, rate)[rate // 8 : -rate // 8], abs=1e-4)
    assert resampled(sound, 24_000, 24_000) is sound
    assert len(resampled(sound[:0], 24_000, rate)) == 0


def test_peaks_between_samples_do_not_clip() -> None:
    clipped = (2 * tone(0.5, 24_000)).clip(-1, 1)
    for gain in (1, 3):  # a peak above full scale, as floats have it, stays
        assert np.abs(resampled(gain * clipped, 24_000, 44_100)).max() == pytest.approx(gain, abs=1e-5)
