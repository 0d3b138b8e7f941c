"""Mixing a recording to mono: which channels count, and the constant offset that is taken off.

A stereo recording is not mixed: both channels are kept, each without its offset, see `distill.audio.image`.

The mix is the mean of the channels. Those whose peak is 40 dB or more below the loudest one's do not count, so a stereo
file with a silent channel is as loud as the other channel alone. Where the mean is 10 dB or more softer than the mean of
uncorrelated channels would be, the channels cancel out, and the channel with the most power is used alone.

A constant offset is the mean of the mix, in which a part of the recording counts by the inverse of its level: what is
soft shows it best. It is taken off where it is 0.001 (-60 dBFS) or more and five times its standard error. The swing of
a single hit is not.

Shapes: `n` frames of a block, `C` channels, `P` parts of `_PART_FRAMES`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.audio.pcm import F32

LEAST_OFFSET = 0.001
_PART_FRAMES = 1024
_TAPER = np.hanning(_PART_FRAMES) / np.hanning(_PART_FRAMES).sum()  # a low tone leaves little of itself in such a mean


@dataclass(frozen=True)
class Mix:
    """Numbers of the channels whose mean is taken, from 0, and the offset that is taken off it."""

    channels: tuple[int, ...]
    offset: float = 0.0

    def of(self, block: F32) -> F32:
        """Mix samples `[n, C]` to mono `[n]`, by columns: six times faster than mean(axis=1).

        Digital silence has no offset: it stays silent.
        """
        mixed = np.asarray(sum(block.T[[*self.channels]]) / np.float32(len(self.channels)), dtype=np.float32)
        return mixed - np.float32(self.offset) if self.offset and mixed.any() else mixed


@dataclass(frozen=True)
class BothChannels:
    """Two channels as they are, without the offset of each."""

    offsets: tuple[float, float] = (0.0, 0.0)

    @property
    def offset(self) -> float:
        """The larger offset."""
        return max(self.offsets, key=abs)

    def of(self, block: F32) -> F32:
        """Samples `[n, 2]` without offset. A silent channel stays silent."""
        if not any(self.offsets):
            return block
        offsets = np.where(block.any(axis=0), self.offsets, 0.0)
        return block - offsets.astype(np.float32)


def both_channels(count: int) -> BothChannels:
    """Both of two channels as they are."""
    assert count == 2
    return BothChannels()


def all_channels(count: int) -> Mix:
    """The mean of `count` channels as it is."""
    return Mix(tuple(range(count)))


class ChannelStatistics:
    """What a mix is decided by, gathered from blocks `[n, C]` of a recording."""

    def __init__(self, channels: int) -> None:
        self._frames = 0
        self._low, self._high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._sum, self._products = np.zeros(channels), np.zeros((channels, channels))
        # Of the means of parts, weighted; and sums of the weights and of their squares.
        self._part_sum, self._part_products = self._sum.copy(), self._products.copy()
        self._weights = self._squared_weights = 0.0

    def add(self, block: F32) -> None:
        """Add a block."""
        rows = block.T.astype(np.float64, order="C")  # [C, n]: sums are several times faster along rows
        self._frames += len(block)
        self._low, self._high = np.minimum(self._low, rows.min(axis=1)), np.maximum(self._high, rows.max(axis=1))
        self._sum += rows.sum(axis=1)
        self._products += rows @ rows.T
        parts = rows[:, : len(block) // _PART_FRAMES * _PART_FRAMES].reshape(len(rows), -1, _PART_FRAMES)  # [C, P, ...]
        powers = np.einsum("cpf,cpf->cp", parts, parts) / _PART_FRAMES
        means = parts @ _TAPER  # [C, P]
        deviation = np.sqrt(np.maximum(0.0, powers - np.square(parts.mean(axis=2)))).mean(axis=0)
        weights = powers.any(axis=0) / (deviation + LEAST_OFFSET)  # digital silence says nothing of an offset
        self._weights += float(weights.sum())
        self._squared_weights += float(np.square(weights).sum())
        self._part_sum += means @ weights
        self._part_products += (weights * means) @ means.T

    def mix(self) -> tuple[Mix, bool]:
        """The mix, and whether it is of one channel because all of them cancel out. All samples were finite."""
        mean = self._sum / max(1, self._frames)
        peaks = np.maximum(self._high - mean, mean - self._low)
        covariance = self._products / max(1, self._frames) - np.outer(mean, mean)
        counted = np.flatnonzero(peaks >= 0.01 * peaks.max())
        own = covariance[np.ix_(counted, counted)]
        is_cancelled = len(counted) > 1 and float(own.sum()) < 0.1 * float(np.trace(own))
        if is_cancelled:
            counted = counted[[np.diag(own).argmax()]]
        return Mix(tuple(counted.tolist()), self._offset(counted)), is_cancelled

    def both(self) -> BothChannels:
        """Both of two channels, without the offset of each."""
        return BothChannels((self._offset(np.array([0])), self._offset(np.array([1]))))

    def _offset(self, counted: NDArray[np.intp]) -> float:
        """The offset of a mix, 0 where it is not five times its standard error."""
        parts = self._weights**2 / max(self._squared_weights, 1e-30)  # that would tell as much if all told the same
        if parts < 8:
            return 0.0
        offset = float(self._part_sum[counted].mean()) / self._weights
        power = float(self._part_products[np.ix_(counted, counted)].mean()) / self._weights
        squared_error = max(0.0, power - offset**2) / parts
        return offset if abs(offset) >= max(LEAST_OFFSET, 5.0 * squared_error**0.5) else 0.0
