"""Distances of a set of sounds to held-out recordings in any features, and what they are of recordings themselves."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.novelty.report import Statistics, squared_distances

DRAWS = 200
SCALE = 100.0
PERMUTATIONS = 999
FEWEST = 2  # sounds and recordings of a set

Matrix = NDArray[np.float64]
Chosen = NDArray[np.int_]

MEASURES = (
    "kernel distance",  # unbiased squared MMD x 100; 0 for sounds of the same distribution, also below
    "density",  # recordings in whose neighbourhood a sound is, by those expected; 1 for the same, more for a core
    "coverage",  # share of the recordings with a sound in their neighbourhood
    "nearest neighbour",  # accuracy of telling sounds from recordings by the nearest neighbour; .5 for the same
)


class Comparison:
    """A set of sounds beside held-out recordings in one judge's features.

    Rows of `sounds` that are `paired` are decodes of the held-out recordings: a sound is not compared with its own.
    """

    def __init__(self, held_out: Statistics, sounds: Statistics, paired: bool = False) -> None:
        self.within, self.between = (
            squared_distances(sounds, sounds),
            squared_distances(held_out, sounds),
        )
        self.held_out = squared_distances(held_out, held_out)
        for own in (self.within, self.held_out):
            np.fill_diagonal(own, np.inf)
        if paired:
            np.fill_diagonal(self.between, np.inf)
        self.neighbours = min(
            5, len(held_out) - 1
        )  # whose distance is the radius, as in Naeem et al. 2020
        self.radii = np.sort(self.held_out, axis=1)[:, self.neighbours - 1]
        upper = self.held_out[np.triu_indices(len(held_out), 1)]
        self.bandwidth = max(2 * float(np.median(upper)), 1e-12)

    def draws(self, count: int, generator: np.random.Generator) -> Matrix:
        """Measures `[n, 4]` of DRAWS draws of `count` sounds, of one where that is all of them."""
        total = len(self.within)
        draws = range(DRAWS if count < total else 1)
        return np.stack(
            [self.measured(generator.choice(total, count, replace=False)) for _ in draws]
        )

    def measured(self, chosen: Chosen) -> Matrix:
        """The MEASURES `[4]` of the sounds of these numbers beside all held-out recordings."""
        between = self.between[:, chosen]
        inside, pairs = between <= self.radii[:, None], np.isfinite(between)
        labels = np.arange(len(self.held_out) + len(chosen)) >= len(self.held_out)
        return np.array(
            [
                self._kernel_distance(chosen),
                inside[pairs].mean() * len(self.held_out) / self.neighbours,
                inside.any(axis=1).mean(),
                _told(labels[None], self._nearest(chosen))[0],
            ]
        )

    def p_value(self, generator: np.random.Generator) -> float:
        """Of the accuracy by nearest neighbours, of all sounds: how often permuted sides are told as well or better."""
        nearest = self._nearest(np.arange(len(self.within)))
        labels = np.arange(len(nearest)) >= len(self.held_out)
        permuted = generator.permuted(np.tile(labels, (PERMUTATIONS, 1)), axis=1)
        accuracy = _told(labels[None], nearest)[0]
        return float(1 + (_told(permuted, nearest) >= accuracy - 1e-12).sum()) / (1 + PERMUTATIONS)

    def _kernel_distance(self, chosen: Chosen) -> float:
        """Unbiased squared MMD (Gretton et al. 2012, eq. 3), as of the kernel audio distance (arXiv 2502.15602)."""
        parts = []
        for distances in (
            self.held_out,
            self.within[np.ix_(chosen, chosen)],
            self.between[:, chosen],
        ):
            pairs = np.isfinite(distances)
            parts.append(float(np.exp(-distances[pairs] / self.bandwidth).mean()))
        recordings, sounds, across = parts
        return SCALE * (recordings + sounds - 2 * across)

    def _nearest(self, chosen: Chosen) -> Chosen:
        """Number of the nearest other of each of the recordings and then the sounds."""
        across = self.between[:, chosen]
        joined = np.block(
            [[self.held_out, across], [across.T, self.within[np.ix_(chosen, chosen)]]]
        )
        nearest: Chosen = joined.argmin(axis=1)
        return nearest


def _told(labels: NDArray[np.bool_], nearest: Chosen) -> Matrix:
    """Accuracy `[n]` of taking the side of the nearest neighbour, the mean of both sides; `labels` `[n, sounds]`."""
    right = labels[:, nearest] == labels
    sides = [(right & side).sum(axis=1) / side.sum(axis=1) for side in (labels, ~labels)]
    told: Matrix = (sides[0] + sides[1]) / 2
    return told


@dataclass(frozen=True, eq=False)
class Null:
    """Measures of recordings in the place of sounds: mean and deviation `[4]` over draws of them."""

    mean: Matrix
    deviation: Matrix

    @classmethod
    def of(cls, comparison: Comparison, count: int, generator: np.random.Generator) -> "Null":
        """Measure draws of `count` recordings."""
        values = comparison.draws(count, generator)
        return cls(values.mean(axis=0), values.std(axis=0))

    def deviations(self, values: Matrix) -> Matrix:
        """By how many deviations values are off, `[4]`; NaN where recordings do not vary."""
        with np.errstate(divide="ignore", invalid="ignore"):
            apart: Matrix = np.where(
                self.deviation > 1e-9, (values - self.mean) / self.deviation, np.nan
            )
        return apart
