"""PCM of soft and of loud samples: what is lost of them, and what their hash depends on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from distill.audio.pcm import pcm_of, pcm_sha256, samples_of

NOISE = np.random.default_rng(0).uniform(-1, 1, 5000)


def stored(sound: NDArray[np.float64]) -> tuple[NDArray[np.int16], int]:
    samples = sound.astype(np.float32)
    return pcm_of(np.array_split(samples, 3), float(np.abs(samples).max()))


@given(st.lists(st.integers(-32768, 32767), min_size=1), st.integers(0, 15))
def test_16_bits_are_kept_as_they_are(values: list[int], shift: int) -> None:
    pcm = np.array(values, dtype=np.int16) >> shift
    found, exponent = stored(pcm / 32768)
    np.testing.assert_array_equal(found, pcm)
    assert exponent == 0


@given(st.floats(1e-4, 1.0))
def test_samples_of_any_level_are_as_far_above_rounding(level: float) -> None:
    sound = level * NOISE
    pcm, exponent = stored(sound)
    error = samples_of(pcm, exponent) - sound
    assert np.abs(error).max() <= 2.0**exponent / 65536 * 1.01
    assert 20 * np.log10(sound.std() / error.std()) > 88  # of the peak at half of full scale: 90 dB


def test_above_full_scale_is_scaled_down() -> None:
    for peak in (1.5, 100.0, 1e30):
        pcm, exponent = stored(np.array([peak, -peak / 2, peak]))
        assert (pcm.tolist(), exponent) == ([32767, -16384, 32767], 0)


def test_the_hash_is_of_the_samples() -> None:
    (loud, at_0), (soft, at_3) = stored(NOISE), stored(NOISE / 8)
    np.testing.assert_array_equal(loud, soft)
    assert (at_0, at_3) == (0, -3)
    hashes = {pcm_sha256(loud, at_0), pcm_sha256(soft, at_3), pcm_sha256(loud[:-1], at_0)}
    assert len(hashes) == 3
    assert pcm_sha256(np.array([1, -2], np.int16), 0) == pytest.approx(pcm_sha256(np.array([1, -2], ">i2"), 0))
