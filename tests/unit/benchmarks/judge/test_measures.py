"""Measures against slow versions, on sets whose relation is known."""

import numpy as np
import pytest

from benchmarks.judge.measures import MEASURES, Comparison, Null
from distill.novelty.report import Statistics

KERNEL, DENSITY, COVERAGE, NEAREST = range(len(MEASURES))


def points(count: int, seed: int, shift: float = 0.0) -> Statistics:
    return np.random.default_rng(seed).standard_normal((count, 3)) + shift


def every(comparison: Comparison) -> np.ndarray:
    return comparison.measured(np.arange(len(comparison.within)))


def test_the_kernel_distance_is_that_of_a_slow_version() -> None:
    held_out, sounds = points(7, 0), points(5, 1, 0.5)
    apart = sorted(float(np.linalg.norm(one - other)) for i, one in enumerate(held_out) for other in held_out[:i])

    def kernel(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.exp(-np.square(one - other).sum() / (2 * apart[len(apart) // 2] ** 2)))

    def among(own: Statistics) -> float:
        return float(
            np.mean([kernel(one, other) for i, one in enumerate(own) for j, other in enumerate(own) if i != j])
        )

    across = np.mean([kernel(one, other) for one in held_out for other in sounds])
    assert every(Comparison(held_out, sounds))[KERNEL] == pytest.approx(
        100 * (among(held_out) + among(sounds) - 2 * across)
    )


def test_the_kernel_distance_of_equal_distributions_is_zero_on_average() -> None:
    found = [every(Comparison(points(6, 2 * seed), points(6, 2 * seed + 1)))[KERNEL] for seed in range(400)]
    assert abs(np.mean(found)) < 2 * np.std(found) / 20
    assert every(Comparison(points(20, 0), points(20, 1, 2.0)))[KERNEL] > 5 * np.std(found)


def test_density_and_coverage_of_sounds_at_known_recordings() -> None:
    """Twelve recordings on a line: a neighbourhood reaches to the fifth next, which is 3 away in the middle."""
    held_out = np.arange(12.0)[:, None]
    one_place = every(Comparison(held_out, np.full((4, 1), 5.5)))
    inside = sum(abs(place - 5.5) <= max(3, 5 - min(place, 11 - place)) for place in range(12))
    assert one_place[DENSITY] == pytest.approx(inside / 5)
    assert one_place[COVERAGE] == pytest.approx(inside / 12)
    everywhere, nowhere = every(Comparison(held_out, held_out + 0.5)), every(Comparison(held_out, held_out + 100))
    assert everywhere[COVERAGE] == 1.0
    assert nowhere[[DENSITY, COVERAGE]].tolist() == [0.0, 0.0]


def test_the_nearest_neighbour_tells_other_sounds_and_no_equal_ones() -> None:
    rng = np.random.default_rng(0)
    for shift, sides_are_told in ((0.0, False), (4.0, True)):
        comparison = Comparison(points(30, 0), points(20, 1, shift))
        assert (every(comparison)[NEAREST] > 0.9) == sides_are_told
        assert (comparison.p_value(rng) <= 0.001) == sides_are_told
    assert every(Comparison(points(30, 0), points(20, 1)))[NEAREST] == pytest.approx(0.5, abs=0.15)


def test_p_values_of_equal_distributions_are_uniform() -> None:
    rng = np.random.default_rng(0)
    found = [Comparison(points(12, 2 * seed), points(30, 2 * seed + 1)).p_value(rng) for seed in range(200)]
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.06)


def test_a_decode_is_not_compared_with_its_own_recording() -> None:
    held_out = points(40, 0)
    own = every(Comparison(held_out, held_out, paired=True))
    assert own[KERNEL] == pytest.approx(0.0, abs=1e-9)
    assert own[DENSITY] == pytest.approx(40 / 39, abs=0.01)
    assert own[NEAREST] == 0.5
    assert every(Comparison(held_out, held_out))[KERNEL] < -1


def test_draws_are_as_large_as_asked_for_and_the_same_again() -> None:
    comparison = Comparison(points(9, 0), points(8, 1))
    first, again = (comparison.draws(4, np.random.default_rng(0)) for _ in range(2))
    assert (first == again).all()
    assert len(first) > len(comparison.draws(8, np.random.default_rng(0))) == 1


def test_deviations_are_those_of_recordings_and_nothing_where_they_do_not_vary() -> None:
    null = Null(np.array([1.0, 1.0, 1.0, 0.5]), np.array([2.0, 0.5, 0.0, 0.1]))
    found = null.deviations(np.array([5.0, 0.5, 1.0, 0.8]))
    assert found[[0, 1, 3]] == pytest.approx([2.0, -1.0, 3.0])
    assert np.isnan(found[2])
    made = Null.of(Comparison(points(9, 0), points(8, 1)), 4, np.random.default_rng(0))
    assert (made.deviation > 0).sum() >= 3
