"""The critic: a logistic regression on traits that tells drafts of a model from what its recordings decode to.

Decodes and not recordings: what the codec loses no choice among drafts brings back. A residual energy-based model (Deng
et al. 2020, "Residual energy-based models for text generation") that is as small as 5 recordings ask for. Shapes: S
sounds, D traits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

RIDGE = 0.03  # on weights of traits of deviation 1, beside a mean loss of 1 sound
FOLDS = 5
STEPS = 15  # of Newton's method
QUANTILES = np.linspace(0.0, 1.0, 101)

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Critic:
    """Weights `[D]` and a bias for traits less a `mean` `[D]`, divided by a `deviation` `[D]`.

    `recordings` `[101]` are the quantiles of scores of decoded training recordings, and `auc` the area under the curve of
    telling them from drafts, both by regressions that were not fitted to the same recordings and drafts: .5 is chance.
    """

    mean: Doubles
    deviation: Doubles
    weights: Doubles
    bias: float
    recordings: Doubles
    auc: float

    @classmethod
    def fit(cls, decoded: Doubles, groups: Sequence[int], drafts: Doubles) -> Self:
        """Fit to traits of decoded recordings `[S, D]`, of which those of one group are alike, and of drafts `[S, D]`."""
        both = np.concatenate([decoded, drafts])
        mean, deviation = both.mean(axis=0), both.std(axis=0) + 1e-9
        decoded, drafts = (decoded - mean) / deviation, (drafts - mean) / deviation
        fold_of_decoded, fold_of_drafts = np.asarray(groups) % FOLDS, np.arange(len(drafts)) % FOLDS
        own, others = np.zeros(len(decoded)), np.zeros(len(drafts))
        for fold in range(FOLDS):
            weights, bias = _regression(decoded[fold_of_decoded != fold], drafts[fold_of_drafts != fold])
            own[fold_of_decoded == fold] = decoded[fold_of_decoded == fold] @ weights + bias
            others[fold_of_drafts == fold] = drafts[fold_of_drafts == fold] @ weights + bias
        auc = float(((own[:, None] > others) + 0.5 * (own[:, None] == others)).mean())
        weights, bias = _regression(decoded, drafts)
        return cls(mean, deviation, weights, bias, np.quantile(own, QUANTILES), auc)

    def scores(self, traits: Doubles) -> Doubles:
        """Logarithms `[S]` of the odds that sounds with traits `[S, D]` are decoded recordings."""
        return np.asarray((traits - self.mean) / self.deviation @ self.weights + self.bias)

    def place(self, score: float) -> float:
        """Share of the recordings, from 0 to 1, whose score is lower."""
        return float(np.interp(score, self.recordings, QUANTILES))


def _regression(decoded: Doubles, drafts: Doubles) -> tuple[Doubles, float]:
    """Weights `[D]` and bias of a regression in which both sides count as much, by Newton's method."""
    traits = np.concatenate([decoded, drafts])
    inputs = np.concatenate([traits, np.ones((len(traits), 1))], axis=1)
    target = np.concatenate([np.ones(len(decoded)), np.zeros(len(drafts))])
    share = np.concatenate([np.full(len(side), 0.5 / len(side)) for side in (decoded, drafts)])
    found, penalty = np.zeros(inputs.shape[1]), RIDGE * np.eye(inputs.shape[1])
    penalty[-1, -1] = 0.0
    for _ in range(STEPS):
        odds = 1 / (1 + np.exp(-inputs @ found))
        curvature = (inputs.T * (share * odds * (1 - odds))) @ inputs + penalty
        found -= np.linalg.solve(curvature, inputs.T @ (share * (odds - target)) + penalty @ found)
    return found[:-1], float(found[-1])
