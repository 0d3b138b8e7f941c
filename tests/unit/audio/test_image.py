"""Stereo images: what they say of channels, and a fold in which nothing cancels."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt, welch

from distill.audio import image
from distill.audio.image import BANDS, COHERENCE_STEPS, LEVEL_STEPS, dequantised, fold, image_of, mono

RATE = 44_100
F32 = NDArray[np.float32]
RNG = np.random.default_rng(0)
N = 3 * RATE
A, B = (0.1 * RNG.standard_normal((2, N))).astype(np.float32)
T = np.arange(N) / RATE
TONE = (0.3 * sum(np.sin(2 * np.pi * 220 * k * T) / k for k in range(1, 9)) * np.exp(-2 * T)).astype(np.float32)
LATE = np.r_[np.zeros(44, np.float32), A[:-44]]


def two(left: NDArray[np.floating], right: NDArray[np.floating]) -> F32:
    return np.stack([left, right], axis=1).astype(np.float32)


def ping_pong() -> F32:
    burst, silence = A[: RATE // 4], np.zeros(RATE // 4, np.float32)
    return two(np.tile(np.r_[burst, silence], 6), np.tile(np.r_[silence, burst], 6))


def middle_and_side() -> F32:
    return two(0.9 * A, 0.1 * B)  # a file whose channels are middle and side


STEREO = {
    "wide": two(A, B),
    "narrow": two(A + 0.2 * B, A - 0.2 * B),
    "out of phase": two(A, -A),
    "nearly out of phase": two(0.3 * A + B, 0.3 * A - B),
    "panned": two(A, 0.2 * A),
    "one silent": two(A, 0 * A),
    "ping-pong": ping_pong(),
    "mid-side": middle_and_side(),
    "delay": two(A, LATE),
    "tone, turned phase": two(TONE, np.r_[np.zeros(50, np.float32), TONE[:-50]]),
    "tone left, noise right": two(TONE, 0.3 * B),
}


def band_levels(sound: F32, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    hertz, power = welch(sound, RATE, nperseg=4096)
    return np.array([power[(hertz >= low) & (hertz < high)].sum() for low, high in pairwise(edges)])


@pytest.mark.parametrize("name", STEREO)
def test_the_fold_has_the_mean_power_of_both_channels_in_each_band(name: str) -> None:
    channels = STEREO[name]
    edges = np.array([60, 150, 300, 500, 1000, 2000, 4000, 8000, 16000])
    expected = sum(band_levels(channel, edges) for channel in channels.T) / 2
    heard = expected > 1e-6 * expected.max()
    error = 10 * np.log10(band_levels(fold(channels, RATE), edges)[heard] / expected[heard])
    assert np.abs(error).max() < 0.3


def test_equal_channels_are_folded_to_that_channel_bit_for_bit() -> None:
    np.testing.assert_array_equal(fold(two(A, A), RATE), A)
    np.testing.assert_array_equal(fold(two(A, -A), RATE), A)
    assert len(image_of(two(A, A), RATE)) == 0


@pytest.mark.parametrize(("gains", "expected"), [((1, 0.5), 1.25), ((0.5, -1), 1.25), ((1, 0), 1), ((0, 1), 1)])
def test_the_fold_of_one_sound_is_that_sound_from_first_to_last_sample(
    gains: tuple[float, float], expected: float
) -> None:
    for sound in (A[:20_001], A[:300]):
        folded = fold(two(gains[0] * sound, gains[1] * sound), RATE)
        scale = (expected / 2) ** 0.5 * np.sign(np.dot(folded, sound))
        np.testing.assert_allclose(folded, scale * sound, atol=2e-3)


def test_a_fold_has_no_comb_of_a_delay() -> None:
    hertz, before = welch(A, RATE, nperseg=1024)
    _, after = welch(fold(two(A, LATE), RATE), RATE, nperseg=1024)
    heard = (hertz > 60) & (hertz < 20_000)
    assert np.abs(10 * np.log10(after / before))[heard].max() < 0.5


def test_nothing_sounds_before_an_attack_or_in_silence() -> None:
    hit = np.where(T < 1, 0, A * np.exp(-30 * (T - 1))).astype(np.float32)
    other = np.where(T < 1, 0, B * np.exp(-30 * (T - 1))).astype(np.float32)
    folded = fold(two(hit, other), RATE)
    before = np.abs(folded[: RATE - RATE // 200]).max()  # 5 ms before it
    assert before < 0.02 * np.abs(folded).max()
    assert np.abs(folded[: RATE - RATE // 10]).max() < 1e-6


def test_a_long_sound_is_folded_by_chunks_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fold(STEREO["tone left, noise right"], RATE)
    monkeypatch.setattr(image, "_WINDOWS_AT_ONCE", 50)
    np.testing.assert_allclose(fold(STEREO["tone left, noise right"], RATE), whole, atol=1e-6)


@pytest.mark.parametrize("level", [1e-20, 1e-4, 1e25])
def test_no_level_is_too_soft_or_too_loud(level: float) -> None:
    channels = STEREO["panned"] + STEREO["wide"]
    scaled = (channels * np.float64(level)).astype(np.float32)
    np.testing.assert_array_equal(image_of(scaled, RATE), image_of(channels, RATE))
    np.testing.assert_allclose(fold(scaled, RATE) / np.float64(level), fold(channels, RATE), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "level", "coherence"),
    [
        ("wide", 0, 0),
        ("narrow", 0, 0.937),
        ("out of phase", 0, -1),
        ("panned", 14, 1),
        ("one silent", 25, 1),
        ("mid-side", 18, 0),
        ("tone, turned phase", 0, None),
    ],
)
def test_an_image_says_level_difference_and_coherence(name: str, level: float, coherence: float | None) -> None:
    levels, coherences = dequantised(image_of(STEREO[name], RATE))
    assert levels.shape == (3, BANDS)
    assert np.abs(levels - level).mean() < 0.5
    if coherence is not None:
        assert np.abs(coherences - coherence).mean() < 0.1


@pytest.mark.parametrize("decibels", [1, 3, 5.5, 8.4, 8.6, 12, 16, 21])
def test_what_is_panned_is_coherent_whatever_the_step_of_its_level(decibels: float) -> None:
    levels, coherences = dequantised(image_of(two(A, 10 ** (-decibels / 20) * A), RATE))
    assert (coherences == 1).all()
    assert np.abs(levels - decibels).max() <= 3.5


def test_what_goes_from_side_to_side_within_a_second_is_wide() -> None:
    levels, coherences = dequantised(image_of(ping_pong(), RATE))
    assert np.abs(levels).mean() < 4
    assert coherences.mean() < 0.4


def test_channels_change_sides_in_an_image() -> None:
    levels, coherences = dequantised(image_of(two(0.3 * A, A), RATE))
    other, same = dequantised(image_of(two(A, 0.3 * A), RATE))
    np.testing.assert_array_equal(levels, -other)
    np.testing.assert_array_equal(coherences, same)


def test_an_image_is_of_bands() -> None:
    low, high = (sosfiltfilt(butter(8, 2000, kind, fs=RATE, output="sos"), A) for kind in ("low", "high"))
    levels, _ = dequantised(image_of(two(low + 0.1 * high, 0.1 * low + high), RATE))
    assert (levels[:, 1:8] >= 18).all()
    assert (levels[:, -5:] <= -18).all()


@pytest.mark.parametrize(("seconds", "rows"), [(0.02, 1), (1.5, 1), (1.6, 2), (2.4, 2), (2.5, 3)])
def test_a_long_sound_has_a_row_for_each_second(seconds: float, rows: int) -> None:
    channels = STEREO["wide"][: round(seconds * RATE)]
    assert len(image_of(channels, RATE)) == rows


def test_a_sound_that_moves_moves_in_its_image_and_silence_stays_where_the_sound_is() -> None:
    right = np.where(T < 1, 0.1, 1.0) * A
    levels, _ = dequantised(image_of(two(np.where(T < 1, 1.0, 0.1) * A, right), RATE))
    assert levels.mean(axis=1) == pytest.approx([18, -18, -18], abs=1.5)
    silent = np.where(T < 1, 1.0, 0.0)
    levels, coherence = dequantised(image_of(two(silent * A, 0.2 * silent * A), RATE))
    assert np.abs(levels - 14).mean() < 0.5
    assert coherence.min() > 0.9


def test_a_difference_that_nobody_hears_is_mono() -> None:
    assert len(image_of(two(A, A + 1e-4 * B), RATE)) == 0
    assert len(image_of(np.zeros((RATE, 2), np.float32), RATE)) == 0


def test_the_grids_are_those_of_mpeg_4() -> None:
    assert (len(LEVEL_STEPS), len(COHERENCE_STEPS)) == (15, 8)
    np.testing.assert_array_equal(LEVEL_STEPS, -LEVEL_STEPS[::-1])


def test_mono_is_the_mean_of_both_channels() -> None:
    np.testing.assert_allclose(mono(two(A, B)), (A + B) / 2, atol=1e-7)
    assert mono(A) is A
