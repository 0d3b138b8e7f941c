"""The classifier two-sample test: its accuracies by refitting, its level on equal sets, its power, and its verdicts."""

import numpy as np
import pytest

from benchmarks.judge.two_sample import (
    APART,
    LEVEL,
    MARGIN,
    NEAR,
    RIDGE,
    UNKNOWN,
    TwoSampleTest,
    _hat_matrix,
    balanced_accuracies,
    two_sample_test,
)
from distill.novelty.report import Statistics

VALUES = 60  # more than some sets have sounds
MIXING = np.random.default_rng(0).standard_normal((VALUES, VALUES)) * np.exp(-np.arange(VALUES) / 5)[:, None]


def sets(reference: int, sounds: int, shift: float, seed: int) -> tuple[Statistics, Statistics]:
    """Correlated values, of which three directions of the second set are off by `shift` deviations."""
    points = np.random.default_rng(seed).standard_normal((reference + sounds, VALUES))
    points[reference:, :3] += shift
    mixed = points @ MIXING
    return mixed[:reference], mixed[reference:]


def repeated(reference: int, sounds: int, shift: float, repeats: int) -> list[TwoSampleTest]:
    generator = np.random.default_rng(1)
    return [two_sample_test(*sets(reference, sounds, shift, seed), generator) for seed in range(repeats)]


def proportion(tests: list[TwoSampleTest], verdict: str) -> float:
    return float(np.mean([test.verdict == verdict for test in tests]))


@pytest.mark.parametrize("sizes", [(4, 4), (5, 9)])
def test_accuracies_are_those_of_ridge_regressions_that_are_fitted_again_without_each_sound(
    sizes: tuple[int, int],
) -> None:
    features = np.concatenate(sets(*sizes, 1.0, seed=3))
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    ridge = RIDGE * np.square(scaled).sum() / len(scaled)
    sides = np.random.default_rng(0).permutation(np.arange(len(features)) < sizes[0])
    gram = scaled @ scaled.T
    metric = gram @ np.linalg.inv(gram + ridge * np.eye(len(gram)))
    right: dict[bool, list[bool]] = {True: [], False: []}
    for left_out, side in enumerate(sides):
        kept = np.delete(np.arange(len(features)), left_out)
        ours, theirs = kept[sides[kept]], kept[~sides[kept]]
        targets = np.where(sides[kept], 1 / len(ours), -1 / len(theirs))
        fitted = np.linalg.solve(scaled[kept].T @ scaled[kept] + ridge * np.eye(VALUES), scaled[kept].T @ targets)
        lengths = [np.mean([metric[i, j] for i in own for j in own if i != j]) for own in (ours, theirs)]
        score = (1 - metric[left_out, left_out]) * scaled[left_out] @ fitted - (lengths[0] - lengths[1]) / 2
        right[bool(side)].append((score > 0) == side)
    slow = np.mean([np.mean(own) for own in right.values()])
    assert balanced_accuracies(_hat_matrix(features), sides[None])[0] == pytest.approx(slow)


@pytest.mark.parametrize(("reference", "sounds"), [(13, 64), (40, 40)])
def test_of_equal_distributions_one_in_twenty_is_told_apart(reference: int, sounds: int) -> None:
    found = repeated(reference, sounds, 0.0, 400)
    rejected = np.mean([test.p_value <= LEVEL for test in found])
    assert rejected == pytest.approx(LEVEL, abs=0.03)
    assert np.mean([test.accuracy for test in found]) == pytest.approx(0.5, abs=0.02)
    assert all((test.p_value <= LEVEL) == (test.accuracy > test.critical + 1e-9) for test in found)


def test_different_distributions_are_told_apart_by_more_sounds_more_often() -> None:
    few, many = (proportion(repeated(count, count, 0.6, 60), APART) for count in (13, 64))
    assert few < 0.6 < 0.85 < many
    far = two_sample_test(*sets(13, 64, 2.0, 0), np.random.default_rng(0))
    assert far.accuracy > 0.9
    assert far.p_value == 0.001


def test_near_is_said_of_equal_sets_that_are_large_and_hardly_ever_of_others() -> None:
    assert proportion(repeated(128, 128, 0.0, 40), NEAR) > 0.6
    assert proportion(repeated(13, 128, 0.0, 40), NEAR) == 0.0
    beyond = repeated(64, 64, 0.45, 200)
    assert np.mean([test.accuracy for test in beyond]) > MARGIN
    assert proportion(beyond, NEAR) < LEVEL


def test_the_bound_is_above_the_expected_accuracy_in_nineteen_of_twenty() -> None:
    found = repeated(64, 64, 0.4, 200)
    expected = np.mean([test.accuracy for test in found])
    assert np.mean([test.bound >= expected for test in found]) >= 1 - LEVEL - 0.03


def test_of_too_few_sounds_nothing_is_said() -> None:
    unknown = two_sample_test(*sets(2, 50, 3.0, 0), np.random.default_rng(0))
    assert np.isnan(unknown.accuracy)
    assert unknown.verdict == UNKNOWN
    assert two_sample_test(*sets(3, 4, 0.0, 0), np.random.default_rng(0)).verdict == UNKNOWN


def test_sounds_without_any_difference_are_told_by_chance() -> None:
    assert two_sample_test(np.ones((5, 3)), np.ones((5, 3)), np.random.default_rng(0)).p_value == 1.0
