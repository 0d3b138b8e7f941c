"""What several rooms measure of sounds and spectra alike."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # recordings are prepared without networks
    from torch import Tensor

LONG_SECONDS = 1.5  # up to which what is measured once a second has one row for the whole sound
Decibels = TypeVar("Decibels", NDArray[np.floating], "Tensor")


def window_energies(sound: NDArray[np.floating], window: int) -> NDArray[np.float64]:
    """Sums of squares `[N - window + 1]` of the windows of a sound `[N]`, from each of its samples on; none of a shorter one."""
    sums = np.concatenate([[0.0], np.cumsum(np.square(sound, dtype=np.float64))])
    energies: NDArray[np.float64] = sums[window:] - sums[: max(0, len(sums) - window)]
    return energies


def level_db(samples: NDArray[np.floating], sample_rate: int) -> float:
    """Level of samples `[N]` or `[N, 2]` in dBFS: the RMS of the loudest 50 ms, of both channels together.

    Silence has -200 dBFS.
    """
    window = max(1, min(len(samples), round(0.05 * sample_rate)))
    channels = np.atleast_2d(samples.T)
    energies = sum(window_energies(channel, window) for channel in channels)
    return float(10 * np.log10(max(1e-20, np.max(energies) / (window * len(channels)))))


def peak_offset(left: Decibels, peak: Decibels, right: Decibels) -> Decibels:
    """How far from its bin a peak of a spectrum lies, in bins, by the parabola through its level and its neighbours'."""
    offset: Decibels = 0.5 * (left - right) / (left - 2 * peak + right - 1e-9)
    return offset


def row_count(seconds: float) -> int:
    """Rows of what is measured once a second. Row t begins at t seconds and lasts one, the last row to the end of the sound."""
    return max(1, int(seconds + 0.5)) if seconds > LONG_SECONDS else 1


def row_of_seconds(seconds: NDArray[np.floating], rows: int) -> NDArray[np.int64]:
    """Numbers of the rows in which times lie, of so many rows."""
    return np.asarray(np.clip(seconds.astype(np.int64), 0, rows - 1))
