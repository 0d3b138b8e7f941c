"""Grains of recordings: where they are not moved their crossfades give the recording, and moved ones come from it alone."""

import numpy as np
import pytest

from benchmarks.peers.grains import grains, granulated

RATE = 8_000


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 1_234])
def test_grains_that_are_not_moved_are_the_recording(samples: int) -> None:
    recording = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    made = granulated(recording, 100, 0, np.random.default_rng(1))
    np.testing.assert_allclose(made, recording, atol=1e-6)


def test_moved_grains_change_a_sound_but_not_a_constant() -> None:
    """Crossfades have the sum 1 wherever grains come from; only the last ones reach beyond the end."""
    rng, level = np.random.default_rng(0), np.full(2_000, 0.5, np.float32)
    made = granulated(level, 200, 80, rng)
    np.testing.assert_allclose(made[180:-280], 0.5, atol=1e-6)
    noise = rng.standard_normal(2_000).astype(np.float32)
    moved = granulated(noise, 200, 80, rng)
    assert not np.allclose(moved, noise, atol=0.1)
    assert np.abs(moved).max() <= np.abs(noise).max() * 1.5


def test_each_sound_is_of_one_recording_and_as_long() -> None:
    recordings = [np.full(length, value, np.float32) for length, value in ((4_000, 0.1), (6_000, 0.9))]
    made = grains(recordings, 20, RATE, np.random.default_rng(0))
    assert {len(sound) for sound in made} == {4_000, 6_000}
    for sound in made:
        assert sound[len(sound) // 2] == pytest.approx(0.1 if len(sound) == 4_000 else 0.9)
    again = grains(recordings, 20, RATE, np.random.default_rng(0))
    assert all(np.array_equal(*pair) for pair in zip(made, again, strict=True))
