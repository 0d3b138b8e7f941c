"""A classifier two-sample test: can sounds be told from held-out recordings that the same codec decoded?

Both sides went through the codec, so what tells them apart is the prior's. Source: Lopez-Paz and Oquab 2017, section 3.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.judge.measures import PERMUTATIONS, Matrix
from distill.novelty.report import Statistics

FEWEST = 3  # sounds of a side: of two others a mean product is known
LEVEL = 0.05  # of the test, and of the bound
MARGIN = 0.60  # accuracy below which sounds count as near
RIDGE = 0.3  # of the mean variance of a sound

NEAR, APART, UNKNOWN = "as near as decoded", "told apart", "too few sounds to tell"


@dataclass(frozen=True)
class TwoSampleTest:
    """Balanced accuracy of telling two sets apart: .5 by chance, 1 where no sound is mistaken."""

    accuracy: float
    critical: float  # the accuracy above which p is at most LEVEL
    bound: float  # upper, one-sided 95 %
    p_value: float

    @property
    def verdict(self) -> str:
        """Near where even the bound is below MARGIN; apart where p is at most LEVEL; otherwise nothing is shown."""
        if self.bound < MARGIN:
            return NEAR
        return APART if self.p_value <= LEVEL else UNKNOWN


def two_sample_test(
    reference: Statistics, sounds: Statistics, generator: np.random.Generator
) -> TwoSampleTest:
    """Test whether `sounds` `[M, D]` differ from `reference` `[N, D]`; rows are independent sounds.

    Each sound is told by a linear discriminant with a ridge, fitted to all others, both sides with equal weight. p is
    how often random sides are told as well. The bound is as far above the accuracy as the critical value above chance; an
    accuracy below .5 is luck and counts as .5, so that of few sounds none is near. Of fewer than FEWEST of a side nothing
    is known.
    """
    if min(len(reference), len(sounds)) < FEWEST:
        return TwoSampleTest(np.nan, np.nan, 1.0, 1.0)
    features = np.concatenate([reference, sounds])
    sides = np.arange(len(features)) < len(reference)
    permuted = generator.permuted(np.tile(sides, (PERMUTATIONS, 1)), axis=1)
    accuracy, *chance = balanced_accuracies(_hat_matrix(features), np.vstack([sides, permuted]))
    as_well = int((np.array(chance) >= accuracy - 1e-12).sum())
    critical = float(np.sort(chance)[-int(LEVEL * (1 + PERMUTATIONS))])
    bound = min(1.0, float(max(accuracy, 0.5) + critical - np.mean(chance)))
    return TwoSampleTest(float(accuracy), critical, bound, (1 + as_well) / (1 + PERMUTATIONS))


def balanced_accuracies(hat: Matrix, sides: NDArray[np.bool_]) -> Matrix:
    """Leave-one-out accuracies `[n]` of divisions `sides` `[n, N]`, the mean of both sides, by a hat matrix `[N, N]`.

    Ridge regression predicts a sound that is left out as the others of its row predict it, up to a positive factor (Cook
    and Weisberg 1982, section 2.2). So each sound is nearer to one mean of the others or to the other, in the metric
    of the hat matrix; pairs of two sounds alone stand for the length of a mean, which of few sounds were longer.
    """
    products = hat - np.diag(np.diag(hat))
    scores = []
    for side in (sides.astype(np.float64), (~sides).astype(np.float64)):
        sums = side @ products
        others = side.sum(axis=1, keepdims=True) - side
        pairs = (side * sums).sum(axis=1, keepdims=True) - 2 * side * sums
        scores.append(sums / others - pairs / (others * (others - 1)) / 2)
    right = (scores[0] > scores[1]) == sides
    told = [(right & side).sum(axis=1) / side.sum(axis=1) for side in (sides, ~sides)]
    accuracies: Matrix = (told[0] + told[1]) / 2
    return accuracies


def _hat_matrix(features: Statistics) -> Matrix:
    """What ridge regression on standardised features `[N, D]` predicts `[N, N]` of the values at each sound."""
    centred = features - features.mean(axis=0)
    deviations = features.std(axis=0)
    scaled = centred[:, deviations > 1e-9] / deviations[deviations > 1e-9]
    values, vectors = np.linalg.eigh(scaled @ scaled.T)
    values = np.maximum(values, 0.0)
    hat: Matrix = (vectors * (values / (values + RIDGE * max(values.mean(), 1e-12)))) @ vectors.T
    return hat
