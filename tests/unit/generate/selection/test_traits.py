"""Traits: numbers that are finite of any sound, and that change with what they are named after."""

import numpy as np
import pytest
from numpy.typing import NDArray

from distill.generate.selection.traits import GROUPS, LINE_GROUPS, TRAITS, TraitMeter

RATE = 24_000
METER = TraitMeter(RATE)
TIME = np.arange(RATE) / RATE
TONE = sum(np.sin(2 * np.pi * 220.0 * part * TIME) / part for part in range(1, 40))
NOISE = np.random.default_rng(0).standard_normal(RATE)
SLOPES, FLATNESS = slice(4 * GROUPS, 5 * GROUPS), slice(5 * GROUPS, 6 * GROUPS)
LASTING = slice(6 * GROUPS, 6 * GROUPS + LINE_GROUPS)
AGAIN, END, LOUDEST = -3, -2, -1


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(RATE), np.ones(3), TONE[:900], NOISE, 1e-9 * NOISE])
def test_traits_of_any_sound_are_finite(samples: NDArray[np.float64]) -> None:
    traits = METER(samples.astype(np.float32))
    assert traits.shape == (TRAITS,)
    assert np.isfinite(traits).all()


def test_traits_do_not_depend_on_the_level() -> None:
    np.testing.assert_allclose(METER(0.1 * TONE), METER(TONE), atol=1e-3)


def test_noise_is_flat_and_does_not_last() -> None:
    tone, noise = METER(TONE), METER(NOISE)
    assert (noise[FLATNESS] > -4).all()
    assert (tone[FLATNESS][1:] < noise[FLATNESS][1:] - 5).all()
    assert (tone[LASTING] > noise[LASTING] + 0.2).all()


def test_slopes_are_those_of_a_decay() -> None:
    decay = METER(TONE * 10 ** (-20 * TIME / 20))  # 20 dB a second
    np.testing.assert_allclose(50 * decay[SLOPES][:-1], -20.0, atol=2.0)  # the treble is too soft to be told


def test_a_second_beginning_rises_again() -> None:
    struck = TONE * np.exp(-12 * TIME)
    twice = struck + 0.5 * np.roll(struck, RATE // 2) * (TIME > 0.5)
    assert METER(struck)[AGAIN] < 3
    assert METER(twice)[AGAIN] > 20


def test_how_a_sound_ends_and_where_it_is_loudest() -> None:
    swell = METER(TONE * TIME**2)
    struck = METER(TONE * np.exp(-5 * TIME))
    assert swell[END] > -6
    assert struck[END] < -30
    assert swell[LOUDEST] > 0.9
    assert struck[LOUDEST] < 0.1
