"""Mono mixdown of a recording: choice of channels, and removal of the DC offset.

A stereo recording is not mixed: both channels are kept, each without its DC offset, see `distill.audio.image`.

The mix is the mean of the channels. It leaves out channels whose peak is more than 40 dB below the loudest channel's,
so a silent channel does not halve the level. If the mean is more than 10 dB softer than the mean of uncorrelated
channels would be, the channels cancel out, and the channel with the most power is used alone.

The DC offset is a weighted mean of the mix. Parts of the recording are weighted by the inverse of their level, since
soft parts show the offset best. It is removed if it is at least 0.001 (-60 dBFS) and five times its standard error;
the swing of a single hit stays.

Shapes: `n` frames of a block, `C` channels, `P` parts of `_PART_FRAMES`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.audio.pcm import F32

LEAST_OFFSET = 0.001
_PART_FRAMES = 1024
_TAPER = (
    np.hanning(_PART_FRAMES) / np.hanning(_PART_FRAMES).sum()
)  # a low tone hardly changes a tapered mean


@dataclass(frozen=True)
class Mix:
    """Mono mix: the mean of `channels` (counted from 0), minus `offset`."""

    channels: tuple[int, ...]
    offset: float = 0.0

    def of(self, block: F32) -> F32:
        """Mix samples `[n, C]` to mono `[n]`, by columns: six times faster than mean(axis=1).

        Digital silence stays silent: no offset is subtracted.
        """
        mixed = np.asarray(
            sum(block.T[[*self.channels]]) / np.float32(len(self.channels)), dtype=np.float32
        )
        return mixed - np.float32(self.offset) if self.offset and mixed.any() else mixed


@dataclass(frozen=True)
class BothChannels:
    """Two channels unmixed, each minus its DC offset."""

    offsets: tuple[float, float] = (0.0, 0.0)

    @property
    def offset(self) -> float:
        """The offset of larger magnitude."""
        return max(self.offsets, key=abs)

    def of(self, block: F32) -> F32:
        """Samples `[n, 2]` minus the offsets. A silent channel stays silent."""
        if not any(self.offsets):
            return block
        offsets = np.where(block.any(axis=0), self.offsets, 0.0)
        return block - offsets.astype(np.float32)


def both_channels(count: int) -> BothChannels:
    """Both channels unchanged. `count` has to be 2."""
    assert count == 2
    return BothChannels()


def all_channels(count: int) -> Mix:
    """Mean of all `count` channels, no offset removed."""
    return Mix(tuple(range(count)))


class ChannelStatistics:
    """Statistics that decide the mix, accumulated over blocks `[n, C]` of a recording."""

    def __init__(self, channels: int) -> None:
        self._frames = 0
        self._low, self._high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._sum, self._products = np.zeros(channels), np.zeros((channels, channels))
        # Weighted sums over the means of parts; sums of the weights and of the squared weights.
        self._part_sum, self._part_products = self._sum.copy(), self._products.copy()
        self._weights = self._squared_weights = 0.0

    def add(self, block: F32) -> None:
        """Add a block `[n, C]`."""
        rows = block.T.astype(
            np.float64, order="C"
        )  # [C, n]: sums are several times faster along rows
        self._frames += len(block)
        self._low, self._high = (
            np.minimum(self._low, rows.min(axis=1)),
            np.maximum(self._high, rows.max(axis=1)),
        )
        self._sum += rows.sum(axis=1)
        self._products += rows @ rows.T
        parts = rows[:, : len(block) // _PART_FRAMES * _PART_FRAMES].reshape(
            len(rows), -1, _PART_FRAMES
        )  # [C, P, ...]
        powers = np.einsum("cpf,cpf->cp", parts, parts) / _PART_FRAMES
        means = parts @ _TAPER  # [C, P]
        deviation = np.sqrt(np.maximum(0.0, powers - np.square(parts.mean(axis=2)))).mean(axis=0)
        weights = powers.any(axis=0) / (deviation + LEAST_OFFSET)  # digital silence shows no offset
        self._weights += float(weights.sum())
        self._squared_weights += float(np.square(weights).sum())
        self._part_sum += means @ weights
        self._part_products += (weights * means) @ means.T

    def mix(self) -> tuple[Mix, bool]:
        """Choose the mix; True if the channels cancel out and only one is used. All samples have to be finite."""
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
        """Both channels, each minus its DC offset."""
        return BothChannels((self._offset(np.array([0])), self._offset(np.array([1]))))

    def _offset(self, counted: NDArray[np.intp]) -> float:
        """DC offset of a mix; 0 if below LEAST_OFFSET or five times its standard error."""
        parts = self._weights**2 / max(
            self._squared_weights, 1e-30
        )  # effective number of equally weighted parts
        if parts < 8:
            return 0.0
        offset = float(self._part_sum[counted].mean()) / self._weights
        power = float(self._part_products[np.ix_(counted, counted)].mean()) / self._weights
        squared_error = max(0.0, power - offset**2) / parts
        return offset if abs(offset) >= max(LEAST_OFFSET, 5.0 * squared_error**0.5) else 0.0
