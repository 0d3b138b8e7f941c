"""Kernel distance and diversity of sets of sounds."""

import tracemalloc

import numpy as np
import pytest

from distill.novelty.distance import (
    KernelDistance,
    diversity,
    kernel_distance,
    sound_statistics,
    squared_distances,
)


def test_kernel_distance_tells_other_sounds_from_the_same_kind() -> None:
    rng = np.random.default_rng(0)
    same, held_out, training = (rng.normal(0, 1, (30, 8)) for _ in range(3))
    other = rng.normal(2, 1, (30, 8))
    near, far = kernel_distance(same, held_out, training, 0), kernel_distance(other, held_out, training, 0)
    assert near is not None
    assert far is not None
    assert abs(near.value - near.null_mean) < 5 * near.null_deviation + 1
    assert far.value > near.value + 10
    assert kernel_distance(same[:1], held_out, training, 0) is None


def test_diversity_counts_different_sounds() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.normal(0, 100, (4, 8))
    held_out, training = (rng.normal(0, 100, (40, 8)) for _ in range(2))
    found = diversity(np.repeat(kinds, 5, axis=0), held_out, training, 0)
    assert found is not None
    assert 2 < found.value < 4.01
    assert found.baseline > 1.5 * found.value
    same = diversity(np.repeat(kinds[:1], 20, axis=0), held_out, training, 0)
    assert same is not None
    assert abs(same.value - 1) < 1e-6


def test_statistics_see_level_variation_change_and_slope() -> None:
    steady = np.ones((9, 2), np.float32)
    falling = np.linspace(8, 0, 9, dtype=np.float32)[:, None].repeat(2, axis=1)
    one, two = sound_statistics([steady, falling])
    np.testing.assert_allclose(one, [1, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(two, [4, 4, falling[:, 0].std(), falling[:, 0].std(), 1, 1, 6, 6], rtol=1e-6)
    assert sound_statistics([steady[:1]]).shape == (1, 8)


def test_a_distance_is_conclusive_from_a_number_of_sounds_on() -> None:
    """Sets of which half the sounds are unrelated show from there on, and not in much smaller sets."""
    rng = np.random.default_rng(0)
    held_out, training = rng.normal(0, 1, (60, 8)), rng.normal(0, 1, (200, 8))

    def distances(count: int) -> tuple[list[KernelDistance], list[KernelDistance]]:
        pairs: list[list[KernelDistance]] = [[], []]
        for seed in range(40):
            alike = rng.normal(0, 1, (count, 8))
            half = alike.copy()
            half[: count // 2] = rng.normal(0, 40, (count // 2, 8))
            for found, sounds in zip(pairs, (alike, half), strict=True):
                distance = kernel_distance(sounds, held_out, training, seed)
                assert distance is not None
                found.append(distance)
        return pairs[0], pairs[1]

    few, _ = distances(3)
    assert not any(one.is_conclusive for one in few)
    needed = int(np.median([one.needed for one in few]))
    assert 4 <= needed <= 20
    alike, half = distances(2 * needed)
    assert all(one.is_conclusive for one in (*alike, *half))
    bound = alike[0].null_mean + 2 * alike[0].null_deviation
    assert sum(one.value > bound for one in half) >= 36
    assert sum(one.value > bound for one in alike) <= 6


def test_the_rule_is_a_quarter_of_the_unrelated_value_in_two_deviations() -> None:
    assert KernelDistance(3.6, 4.8, 5.0, 40.0, 8).is_conclusive
    assert not KernelDistance(3.6, 4.8, 13.8, 40.0, 8).is_conclusive
    assert KernelDistance(3.6, 4.8, 13.8, 40.0, 8).needed == 23
    assert KernelDistance(3.6, 4.8, 13.8, 40.0, 8).largest_deviation == pytest.approx(5.0)


def test_the_distance_of_many_sounds_takes_little_memory() -> None:
    """All distances of 3,000 sounds with each other are 72 MB, of 10,000 gigabytes."""
    rng = np.random.default_rng(0)
    many, held_out, training = (rng.normal(0, 1, (count, 8)) for count in (3000, 20, 20))
    tracemalloc.start()
    try:
        found = kernel_distance(many, held_out, training, 0)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found is not None
    assert most < 120e6
    bandwidth = float(np.median(squared_distances(held_out, held_out)[np.triu_indices(20, 1)]))
    kernels = [
        np.exp(-squared_distances(*pair) / bandwidth) for pair in ((many,) * 2, (held_out,) * 2, (many, held_out))
    ]
    expected = [(one.sum() - len(one)) / (len(one) * (len(one) - 1)) for one in kernels[:2]]
    assert found.value == pytest.approx(100 * (sum(expected) - 2 * kernels[2].mean()))
