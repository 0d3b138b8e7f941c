"""Critic: a logistic regression on traits that distinguishes a model's drafts from decoded recordings.

Recordings are decoded from their codes, because no choice among drafts can restore codec losses. The critic is a
residual energy-based model (Deng et al. 2020, "Residual energy-based models for text generation"), small enough for 10
recordings.

Shapes: S sounds, D traits, N samples.
"""

from functools import cached_property
from typing import Annotated, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from distill.generate.selection.traits import TRAITS
from distill.params import Settings, Share

RIDGE = 0.1  # penalty on weights of standardised traits, relative to the mean loss
STEPS = 15  # Newton steps
QUANTILES = np.linspace(0.0, 1.0, 21)
LEAST_DEVIATION = 1e-9
DIGITS = 6  # stored significant digits: further digits differ among processors

Doubles = NDArray[np.float64]
Number = Annotated[float, Field(ge=-1e9, le=1e9)]
OfTraits = Annotated[list[Number], Field(min_length=TRAITS, max_length=TRAITS)]


class Likeness(NamedTuple):
    """Likeness of a sound to the recordings: its `score`, the log odds that it is a decoded recording.

    `above` is the proportion of recordings, from 0 to 1, that score lower.
    """

    score: float
    above: float

    @property
    def in_words(self) -> str:
        """Sentence with the proportion in tenths."""
        return f"like your recordings: {10 * self.above:.0f} of 10 score lower"

    @property
    def json(self) -> dict[str, float | str]:
        """Proportion as a number and in words, for a JSON report."""
        return {"above_recordings": round(self.above, 3), "like_recordings": self.in_words}


class Critic(Settings):
    """Critic in a model file: `weights` and a `bias` for traits standardised by `means` and `deviations`.

    `recordings` holds quantiles of the scores of decoded training recordings. `auc` is the area under the ROC curve for
    these against drafts, 0.5 if they are indistinguishable. Both are cross-validated.
    """

    means: OfTraits
    deviations: Annotated[
        list[Annotated[Number, Field(ge=LEAST_DEVIATION)]],
        Field(min_length=TRAITS, max_length=TRAITS),
    ]
    weights: OfTraits
    bias: Number
    recordings: Annotated[list[Number], Field(min_length=len(QUANTILES), max_length=len(QUANTILES))]
    auc: Share

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.recordings != sorted(self.recordings):
            raise ValueError("expected quantiles that rise")
        return self

    @classmethod
    def fit(cls, decoded: Doubles, drafts: Doubles) -> Self:
        """Fit to traits of at least two decoded recordings `[S, D]`, and of drafts `[S, D]`."""
        folds = 5
        both = np.concatenate([decoded, drafts])
        means, deviations = both.mean(axis=0), both.std(axis=0) + 2 * LEAST_DEVIATION
        decoded, drafts = (decoded - means) / deviations, (drafts - means) / deviations
        of_decoded, of_drafts = np.arange(len(decoded)) % folds, np.arange(len(drafts)) % folds
        own, others = np.zeros(len(decoded)), np.zeros(len(drafts))
        for fold in range(folds):
            regression = _Regression.fit(decoded[of_decoded != fold], drafts[of_drafts != fold])
            own[of_decoded == fold] = regression(decoded[of_decoded == fold])
            others[of_drafts == fold] = regression(drafts[of_drafts == fold])
        auc = ((own[:, None] > others) + 0.5 * (own[:, None] == others)).mean()
        weights, bias = _Regression.fit(decoded, drafts)
        quantiles = np.sort(_rounded(np.quantile(own, QUANTILES)))
        values = {
            "means": means,
            "deviations": deviations,
            "weights": weights,
            "recordings": quantiles,
        }
        return cls(
            **{name: _rounded(value).tolist() for name, value in values.items()},
            bias=float(f"{bias:.{DIGITS - 1}e}"),
            auc=round(float(auc), 4),
        )

    @cached_property
    def _regression(self) -> "_Regression":
        return _Regression(np.array(self.weights), self.bias)

    def __call__(self, traits: Doubles) -> list[Likeness]:
        """Likeness to the recordings of each sound with traits `[S, D]`."""
        scores = self._regression((traits - np.array(self.means)) / np.array(self.deviations))
        above = np.interp(scores, self.recordings, QUANTILES)
        return [Likeness(*pair) for pair in zip(scores.tolist(), above.tolist(), strict=True)]

    @property
    def line(self) -> str:
        """Sentence on how well the critic distinguishes drafts from recordings."""
        how = "from 0.5, where they cannot be told, to 1, always"
        return f"drafts are told from decoded recordings with an area under the curve of {self.auc:.2f}, {how}"


class _Regression(NamedTuple):
    """Logistic regression: weights `[D]` and a bias."""

    weights: Doubles
    bias: float

    @classmethod
    def fit(cls, decoded: Doubles, drafts: Doubles) -> Self:
        """Fit to two classes `[S, D]` of equal total weight by Newton's method."""
        inputs = np.pad(np.concatenate([decoded, drafts]), ((0, 0), (0, 1)), constant_values=1.0)
        target = np.repeat([1.0, 0.0], [len(decoded), len(drafts)])
        share = np.repeat([0.5 / len(decoded), 0.5 / len(drafts)], [len(decoded), len(drafts)])
        found, penalty = np.zeros(inputs.shape[1]), np.full(inputs.shape[1], RIDGE)
        penalty[-1] = 0.0
        for _ in range(STEPS):
            odds = 1 / (1 + np.exp(-inputs @ found))
            curvature = (inputs.T * (share * odds * (1 - odds))) @ inputs + np.diag(penalty)
            found -= np.linalg.solve(
                curvature, inputs.T @ (share * (odds - target)) + penalty * found
            )
        return cls(found[:-1], float(found[-1]))

    def __call__(self, traits: Doubles) -> Doubles:
        """Log odds `[S]` of traits `[S, D]`."""
        return np.asarray(traits @ self.weights + self.bias)


def _rounded(values: Doubles) -> Doubles:
    """Round values to DIGITS significant digits."""
    return np.array([float(f"{value:.{DIGITS - 1}e}") for value in values])
