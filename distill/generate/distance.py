"""Distance between two sets of sounds, with the band that chance alone would give."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from distill.models.spectral import LogMel, SpectrogramConfig

NULL_DRAWS = 200
SCALE = 100.0


@dataclass(frozen=True)
class KernelDistance:
    """Unbiased squared maximum mean discrepancy x 100, and mean and deviation of the same for training recordings."""

    value: float
    null_mean: float
    null_deviation: float


def sound_statistics(samples: NDArray[np.float32], config: SpectrogramConfig) -> NDArray[np.float64]:
    """Samples `[N]` to `[4 * n_mels]`: mean, deviation, mean change, and first third minus last third of log-mel frames."""
    frames = config.frames_for(len(samples)) * config.samples_per_frame
    padded = np.zeros(frames + 2 * config.margin, dtype=np.float32)
    padded[config.margin : config.margin + len(samples)] = samples
    log_mel = LogMel(config.sample_rate, config.n_fft, config.hop_length, config.n_mels)
    mel = log_mel(torch.from_numpy(padded)[None])[0].double().numpy()
    third = max(1, len(mel) // 3)
    change = np.abs(np.diff(mel, axis=0)).mean(axis=0) if len(mel) > 1 else np.zeros(mel.shape[1])
    return np.concatenate(
        [mel.mean(axis=0), mel.std(axis=0), change, mel[:third].mean(axis=0) - mel[-third:].mean(axis=0)]
    )


def kernel_distance(
    generated: Sequence[NDArray[np.float64]],
    held_out: Sequence[NDArray[np.float64]],
    training: Sequence[NDArray[np.float64]],
    seed: int,
) -> KernelDistance | None:
    """MMD² with a Gaussian kernel whose bandwidth is the median distance among held-out sounds (Gretton et al. 2012, eq. 3).

    The null band draws as many training recordings as there are generated sounds, or half of them where they are fewer
    than twice that. None when any side has too few sounds.
    """
    count = min(len(generated), len(training) // 2)
    if min(len(generated), len(held_out), count) < 2:
        return None
    reference = np.stack(held_out)
    distances = _squared_distances(reference, reference)
    bandwidth = max(float(np.median(distances[np.triu_indices(len(reference), 1)])), 1e-12)
    value = _mmd(np.stack(generated), reference, bandwidth)
    generator = np.random.default_rng(seed)
    pool = np.stack(training)
    draws = [
        _mmd(pool[generator.choice(len(pool), count, replace=False)], reference, bandwidth) for _ in range(NULL_DRAWS)
    ]
    return KernelDistance(value, float(np.mean(draws)), float(np.std(draws)))


def _mmd(one: NDArray[np.float64], other: NDArray[np.float64], bandwidth: float) -> float:
    within_one = np.exp(-_squared_distances(one, one) / bandwidth)
    within_other = np.exp(-_squared_distances(other, other) / bandwidth)
    across = np.exp(-_squared_distances(one, other) / bandwidth)
    n, m = len(one), len(other)
    unbiased = (within_one.sum() - n) / (n * (n - 1)) + (within_other.sum() - m) / (m * (m - 1)) - 2 * across.mean()
    return float(unbiased * SCALE)


def _squared_distances(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    result: NDArray[np.float64] = np.maximum(squares, 0.0)
    return result
