"""Measurements of sounds and spectra that several packages share."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # ingest does not import torch
    from torch import Tensor

Decibels = TypeVar("Decibels", NDArray[np.floating], "Tensor")


def window_energies(sound: NDArray[np.floating], window: int) -> NDArray[np.float64]:
    """Energies `[N - window + 1]` of all windows of `window` samples in a sound `[N]`; empty if it is shorter."""
    sums = np.concatenate([[0.0], np.cumsum(np.square(sound, dtype=np.float64))])
    energies: NDArray[np.float64] = sums[window:] - sums[: max(0, len(sums) - window)]
    return energies


def level_db(samples: NDArray[np.floating], sample_rate: int) -> float:
    """Level of samples `[N]` or `[N, 2]` in dBFS: the RMS of the loudest 50 ms over all channels; -200 for silence."""
    window = max(1, min(len(samples), round(0.05 * sample_rate)))
    channels = np.atleast_2d(samples.T)
    energies = sum(window_energies(channel, window) for channel in channels)
    return float(10 * np.log10(max(1e-20, np.max(energies) / (window * len(channels)))))


def peak_offset(left: Decibels, peak: Decibels, right: Decibels) -> Decibels:
    """Offset in bins of a spectral peak from its bin, by parabolic interpolation of three levels."""
    offset: Decibels = 0.5 * (left - right) / (left - 2 * peak + right - 1e-9)
    return offset


def row_count(seconds: float) -> int:
    """Number of per-second rows. Row t covers the second from t on; the last row ends with the sound."""
    long_seconds = 1.5  # sounds up to this length have one row of per-second measurements
    return max(1, int(seconds + 0.5)) if seconds > long_seconds else 1


def row_of_seconds(seconds: NDArray[np.floating], rows: int) -> NDArray[np.int64]:
    """Index of the row that holds each time, clipped to `rows`."""
    return np.asarray(np.clip(seconds.astype(np.int64), 0, rows - 1))
