"""Distance of a set of sounds to held-out recordings, with its null distribution, and diversity."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.novelty.spectra import Spectra

NULL_DRAWS = 200
DIVERSITY_DRAWS = 20
SCALE = 100.0
ROWS = 1000  # sounds whose distances to all others are held at once: of 10,000 with each other they take gigabytes
NOTICED_SHARE = 0.5  # of the sounds: when so many are unrelated to the recordings, a distance shows it
DEVIATIONS = 2.0  # of the null distribution, by which it shows

Statistics = NDArray[np.float64]  # [sounds, values]


@dataclass(frozen=True)
class KernelDistance:
    """Unbiased squared maximum mean discrepancy x 100, with mean and deviation of its null distribution.

    `unrelated` is the value of sounds that have nothing in common with the recordings nor with each other. `compared`
    recordings are in each draw of the null distribution.
    """

    value: float
    null_mean: float
    null_deviation: float
    unrelated: float
    compared: int

    @property
    def largest_deviation(self) -> float:
        """The null deviation up to which the distance shows a set of which half the sounds are unrelated.

        Squared MMD grows with the square of the share of other sounds (it is quadratic in the difference of the
        distributions), so half of them add a quarter of `unrelated`. That has to be two deviations.
        """
        return self.unrelated * NOTICED_SHARE**2 / DEVIATIONS

    @property
    def is_conclusive(self) -> bool:
        """Whether the sets are large enough for the value to mean something."""
        return self.null_deviation <= self.largest_deviation

    @property
    def needed(self) -> int:
        """Estimate of how many sounds are enough: the deviation falls about as one over their number."""
        return max(2, math.ceil(self.compared * self.null_deviation / max(self.largest_deviation, 1e-12)))


@dataclass(frozen=True)
class Diversity:
    """Vendi score, the effective number of different sounds (Friedman and Dieng 2022).

    `baseline` is the score of as many training recordings.
    """

    value: float
    baseline: float


def sound_statistics(sounds: Iterable[Spectra]) -> Statistics:
    """Summary statistics `[sounds, 4 * bands]` of spectra `[F, bands]`.

    Mean, deviation, mean absolute change, and first third minus last third.
    """
    return np.stack([_statistics(sound.astype(np.float64)) for sound in sounds])


def _statistics(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    third = max(1, len(sound) // 3)
    change = np.abs(np.diff(sound, axis=0)).mean(axis=0) if len(sound) > 1 else np.zeros(sound.shape[1])
    slope = sound[:third].mean(axis=0) - sound[-third:].mean(axis=0)
    return np.concatenate([sound.mean(axis=0), sound.std(axis=0), change, slope])


def kernel_distance(
    generated: Statistics, held_out: Statistics, training: Statistics, seed: int
) -> KernelDistance | None:
    """Squared MMD of generated and held-out sounds with a Gaussian kernel (Gretton et al. 2012, eq. 3).

    The bandwidth is the median squared distance among held-out sounds. The null distribution draws as many training
    recordings as there are generated sounds, or half of the recordings where they are fewer than twice that. None when
    any side has too few sounds.
    """
    count, others = min(len(generated), len(training) // 2), len(held_out)
    if min(others, count) < 2:
        return None
    bandwidth = _bandwidth(held_out)
    draws = [
        _mmd(drawn, held_out, bandwidth) for drawn in _drawn(np.random.default_rng(seed), training, count, NULL_DRAWS)
    ]
    unrelated = SCALE * (_kernel_sum(held_out, held_out, bandwidth) - others) / (others * (others - 1))
    value = _mmd(generated, held_out, bandwidth)
    return KernelDistance(value, float(np.mean(draws)), float(np.std(draws)), unrelated, count)


def diversity(generated: Statistics, held_out: Statistics, training: Statistics, seed: int) -> Diversity | None:
    """Vendi score of generated sounds with the kernel of `kernel_distance`. None when any side has too few sounds."""
    count = min(len(generated), len(training))
    if min(count, len(held_out)) < 2:
        return None
    bandwidth, generator = _bandwidth(held_out), np.random.default_rng(seed)
    draws = DIVERSITY_DRAWS if count < len(generated) else 1
    baseline = [_vendi(drawn, bandwidth) for drawn in _drawn(generator, training, count, DIVERSITY_DRAWS)]
    values = [_vendi(drawn, bandwidth) for drawn in _drawn(generator, generated, count, draws)]
    return Diversity(float(np.mean(values)), float(np.mean(baseline)))


def _drawn(generator: np.random.Generator, sounds: Statistics, count: int, draws: int) -> Iterator[Statistics]:
    """So many draws of `count` sounds."""
    return (sounds[generator.choice(len(sounds), count, replace=False)] for _ in range(draws))


def _bandwidth(sounds: Statistics) -> float:
    distances = squared_distances(sounds, sounds)
    return max(float(np.median(distances[np.triu_indices(len(sounds), 1)])), 1e-12)


def _vendi(sounds: Statistics, bandwidth: float) -> float:
    weights = np.linalg.eigvalsh(np.exp(-squared_distances(sounds, sounds) / bandwidth) / len(sounds))
    weights = weights[weights > 1e-12]
    return float(np.exp(-(weights * np.log(weights)).sum()))


def _mmd(one: Statistics, other: Statistics, bandwidth: float) -> float:
    n, m = len(one), len(other)
    within_one = (_kernel_sum(one, one, bandwidth) - n) / (n * (n - 1))
    within_other = (_kernel_sum(other, other, bandwidth) - m) / (m * (m - 1))
    across = _kernel_sum(one, other, bandwidth) / (n * m)
    return (within_one + within_other - 2 * across) * SCALE


def _kernel_sum(one: Statistics, other: Statistics, bandwidth: float) -> float:
    """Sum of the Gaussian kernel over all pairs of rows."""
    blocks = (one[first : first + ROWS] for first in range(0, len(one), ROWS))
    return sum(float(np.exp(-squared_distances(block, other) / bandwidth).sum()) for block in blocks)


def squared_distances(one: Statistics, other: Statistics) -> NDArray[np.float64]:
    """Squared Euclidean distances `[N, M]` of the rows of `one` `[N, D]` and `other` `[M, D]`."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    result: NDArray[np.float64] = np.maximum(squares, 0.0)
    return result
