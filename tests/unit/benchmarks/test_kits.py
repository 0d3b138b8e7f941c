"""Measures of kits: a cliff is heard where there is one, and differences of length, loudness and spectrum."""

import numpy as np
import pytest

from benchmarks.kits import cliff_db, difference, loudness
from distill.codec.tones.layer import PARTIALS

RATE, PITCH = 24_000, 41.2


def bass(db_per_octave: float, cliff: float, pitch: float = PITCH, noise: float = 0.0) -> np.ndarray:
    """Partials that fall by so many dB an octave, those that no code has by a cliff more."""
    time, numbers = np.arange(RATE) / RATE, np.arange(1, int(RATE / 2 / pitch))
    levels = -db_per_octave * np.log2(numbers) - cliff * (numbers > PARTIALS)
    phases = 2 * np.pi * 0.618 * numbers**2
    partials = 10 ** (levels / 20)[:, None] * np.sin(2 * np.pi * pitch * numbers[:, None] * time + phases[:, None])
    return partials.sum(axis=0) + noise * np.random.default_rng(0).standard_normal(RATE)


@pytest.mark.parametrize("slope", [0.0, 6.0, 12.0])
@pytest.mark.parametrize("cliff", [0.0, 12.0, 24.0, -6.0])
def test_a_cliff_is_heard_and_a_slope_is_none(slope: float, cliff: float) -> None:
    assert cliff_db(bass(slope, cliff), RATE, PITCH) == pytest.approx(cliff, abs=0.5)


def test_noise_has_no_cliff_and_what_is_high_has_no_room_for_one() -> None:
    noise = bass(0.0, 200.0, noise=1.0) - bass(0.0, 200.0)
    assert abs(cliff_db(noise, RATE, PITCH)) < 1.0
    assert np.isnan(cliff_db(bass(6.0, 24.0, pitch=200.0), RATE, 200.0))


def test_a_sound_differs_from_itself_in_nothing_and_from_others_by_as_much_as_they_differ() -> None:
    one = bass(6.0, 0.0)
    assert difference(one, one, RATE) == (1.0, 0.0, 0.0)
    softer = difference(one, 0.5 * one[: RATE // 2], RATE)
    assert softer[:2] == pytest.approx((2.0, 6.02), abs=0.3)
    assert softer.spectrum < 1.0
    assert difference(one, bass(12.0, 0.0), RATE).spectrum > 6.0


@pytest.mark.parametrize("rate", [24_000, 48_000])
def test_loudness_is_that_of_the_standard(rate: int) -> None:
    """A full-scale sine of 997 Hz is -3.01 LUFS; a low one is softer."""
    time = np.arange(rate) / rate
    assert loudness(np.sin(2 * np.pi * 997 * time), rate) == pytest.approx(-3.01, abs=0.1)
    assert loudness(np.sin(2 * np.pi * 30 * time), rate) < -7
