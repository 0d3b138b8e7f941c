"""Finished sounds: without silence at the ends, without clicks, at one peak."""

import numpy as np
import pytest

from distill.kit.sounds import FADE_SECONDS, LEAD_SECONDS, PEAK_DB, finish

RATE = 16_000
PEAK = 10 ** (PEAK_DB / 20)


def tone(seconds: float, gain: float = 0.5) -> np.ndarray:
    return (gain * np.cos(np.arange(round(seconds * RATE)) * 0.3)).astype(np.float32)


def test_silence_at_both_ends_is_cut_and_silence_within_is_kept() -> None:
    rest = np.full(3000, 1e-4, dtype=np.float32)
    done = finish(np.concatenate([rest, tone(0.2), rest, tone(0.2), rest]), RATE)
    assert done is not None
    assert len(done.samples) == pytest.approx(3200 + 3000 + 3200 + LEAD_SECONDS * RATE, abs=4)
    assert np.abs(done.samples[3300:6100]).max() < 1e-3


def test_the_peak_is_met_and_the_end_is_faded_to_zero() -> None:
    for gain in (0.004, 0.5, 0.98):
        done = finish(tone(0.5, gain), RATE)
        assert done is not None
        assert np.abs(done.samples).max() == pytest.approx(PEAK, rel=1e-5)
        assert done.samples[-1] == 0
        fade = np.abs(done.samples[-int(FADE_SECONDS * RATE) :])
        assert fade[-80:].max() < 0.3 * PEAK < fade[:80].max()
        assert done.level_db == pytest.approx(20 * np.log10(gain / np.sqrt(2)), abs=0.1)
        assert done.samples.dtype == np.float32


def test_the_start_of_a_sound_rises_from_zero() -> None:
    quiet = np.full(400, 4e-4, dtype=np.float32)
    done = finish(np.concatenate([quiet, tone(0.1)]), RATE)
    assert done is not None
    assert done.samples[0] == 0
    assert (np.diff(done.samples[:16]) >= 0).all()


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(1000), np.full(1000, 9e-4)])
def test_a_silent_sound_is_none(samples: np.ndarray) -> None:
    assert finish(samples.astype(np.float32), RATE) is None


def test_a_peak_within_the_fade_is_still_normalised() -> None:
    for count in (1, 2, 3, 50, 400):
        done = finish(np.linspace(0.1, 0.9, count, dtype=np.float32), RATE)
        assert done is not None
        assert np.isfinite(done.samples).all()
        assert np.abs(done.samples).max() == pytest.approx(PEAK, rel=1e-5)


def test_the_given_samples_are_left_as_they_are() -> None:
    given = tone(0.1)
    before = given.copy()
    finish(given, RATE)
    np.testing.assert_array_equal(given, before)
