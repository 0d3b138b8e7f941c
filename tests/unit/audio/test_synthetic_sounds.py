"""Synthetic sounds: every kind, always finite, a function of the generator."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distill.audio.synthetic_sounds import synthetic_sound


@example(seed=0, rate=24_000, length=1)
@example(seed=1023106, rate=8_000, length=1)  # bare clicks
@settings(deadline=None, max_examples=90)
@given(seed=st.integers(0, 2**32 - 1), rate=st.sampled_from([8_000, 24_000, 48_000]), length=st.integers(1, 30_000))
def test_sounds_are_finite_and_within_full_scale(seed: int, rate: int, length: int) -> None:
    sound = synthetic_sound(np.random.default_rng(seed), rate, length)
    assert sound.shape == (length,)
    assert sound.dtype == np.float32
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() <= 1.0
    np.testing.assert_array_equal(sound * 32768, np.round(sound * 32768))


def test_the_generator_decides() -> None:
    one, two, other = (synthetic_sound(np.random.default_rng(seed), 24_000, 20_000) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_sounds_are_of_many_kinds() -> None:
    """Loud and soft, tonal and noisy, steady and short: spectral flatness and level spread widely."""
    flatness, levels = [], []
    for seed in range(80):
        sound = synthetic_sound(np.random.default_rng(seed), 24_000, 24_000).astype(np.float64)
        power = np.abs(np.fft.rfft(sound * np.hanning(24_000))) ** 2 + 1e-12
        flatness.append(np.exp(np.log(power).mean()) / power.mean())
        levels.append(20 * np.log10(np.sqrt((sound**2).mean()) + 1e-9))
    assert np.quantile(flatness, 0.9) > 30 * np.quantile(flatness, 0.1)
    assert np.quantile(levels, 0.9) - np.quantile(levels, 0.1) > 15
