"""Synthetic sounds: every kind, always finite, a function of the generator."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distill.audio.synthetic_sounds import synthetic_sound


@example(seed=0, rate=24_000, length=1)
@example(seed=1023106, rate=8_000, length=1)  # bare clicks
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), rate=st.sampled_from([8_000, 24_000, 48_000]), length=st.integers(1, 30_000))
def test_sounds_are_finite_and_a_function_of_the_generator(seed: int, rate: int, length: int) -> None:
    sound, again = (synthetic_sound(np.random.default_rng(seed), rate, length) for _ in range(2))
    assert (sound.shape, sound.dtype) == ((length,), np.float32)
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() <= 1.0
    np.testing.assert_array_equal(sound * 32768, np.round(sound * 32768))
    np.testing.assert_array_equal(sound, again)
