"""Lobes of partials in spectra with Hann windows, and in their mel bands.

Only sounding partials are computed: many frames have few, and most bins of a spectrum have no partial.

Shapes: n sounding partials, K partials of a set, M mel bands.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.codec.spectral import SpectrogramConfig, mel_filterbank


class BandLobes(NamedTuple):
    """Sparse matrix from partials to mel bands.

    `sounding` `[n]` are the indices of sounding partials among all partials, flattened. A partial of amplitude 1 adds
    its `weights` `[n, 8]` to the flattened bands `[..., M]` at its positions `places` `[n, 8]`.
    """

    sounding: Tensor
    places: Tensor
    weights: Tensor
    shape: tuple[int, ...]  # [..., M]

    def bands(self, amplitudes: Tensor) -> Tensor:
        """Mel amplitudes `[..., M]` of partials with amplitudes `[n]`."""
        found = self.weights * amplitudes[:, None]
        empty = found.new_zeros(self.shape).flatten()
        return empty.scatter_add(0, self.places.flatten(), found.flatten()).reshape(self.shape)

    def along(self, bands: Tensor) -> Tensor:
        """Weighted sums `[n]` of bands `[..., M]`, one for each partial: the transpose of `bands`."""
        return (self.weights * bands.flatten()[self.places]).sum(dim=1)


class MelLobes(nn.Module):
    """Lobes of partials in the mel bands of a spectrum of `n_fft` samples; a bin is in at most two bands."""

    def __init__(self, sample_rate: int, n_fft: int, bands: int) -> None:
        super().__init__()
        self.sample_rate, self.n_fft, self.count = sample_rate, n_fft, bands
        shares, numbers = mel_filterbank(sample_rate, n_fft, bands).topk(2, dim=1)
        self.shares = nn.Buffer(shares, persistent=False)  # [bins, 2]
        self.numbers = nn.Buffer(numbers, persistent=False)  # [bins, 2] band indices

    def forward(self, frequencies: Tensor) -> BandLobes:
        """Mel bands of partials at frequencies `[..., K]` in Hz; 0: no partial."""
        sounding = frequencies.flatten().nonzero()[:, 0]
        bins, offset = _near_bins(
            frequencies.flatten()[sounding], self.n_fft, self.sample_rate, reach=2
        )
        bins, size = bins.clamp(0, self.n_fft // 2), hann_transform(offset).abs() * (self.n_fft / 4)
        rows = sounding // frequencies.shape[-1] * self.count
        places = (rows[:, None, None] + self.numbers[bins]).flatten(1)
        weights = (size[:, :, None] * self.shares[bins]).flatten(1)
        return BandLobes(sounding, places, weights, (*frequencies.shape[:-1], self.count))


def partials_spectrum(
    frequencies: Tensor, amplitudes: Tensor, phases: Tensor, config: SpectrogramConfig
) -> Tensor:
    """Complex spectrum `[B, T, bins]` of partials `[B, T, K]`, with phases in cycles at the middle of the window."""
    n_fft, count = config.n_fft, config.n_fft // 2 + 1
    sounding = frequencies.flatten().nonzero()[:, 0]
    heard, loud, turn = (values.flatten()[sounding] for values in (frequencies, amplitudes, phases))
    bins, offset = _near_bins(heard, n_fft, config.sample_rate, reach=4)
    size = hann_transform(offset) * (1 - 2 * (bins % 2)) * (loud * (n_fft / 4))[:, None]
    size = size * ((bins >= 0) & (bins < count))
    places = (sounding // frequencies.shape[-1] * count)[:, None] + bins.clamp(0, count - 1)
    angle = (2 * math.pi * turn)[:, None]
    empty = frequencies.new_zeros(*frequencies.shape[:-1], count)
    flat = empty.flatten()
    parts = [
        flat.scatter_add(0, places.flatten(), (size * wave).flatten())
        for wave in (angle.cos(), angle.sin())
    ]
    return torch.complex(*parts).reshape(empty.shape)


def hann_transform(offset: Tensor) -> Tensor:
    """Fourier transform of a Hann window at `offset` bins: 1 at 0, 0.5 at 1."""
    x = torch.where(offset.abs() < 1e-4, 1e-4, offset)
    below = 1 - x * x
    return torch.where(below.abs() < 1e-4, 0.5, (math.pi * x).sin() / (math.pi * x * below))


def _near_bins(
    frequencies: Tensor, n_fft: int, sample_rate: int, reach: int
) -> tuple[Tensor, Tensor]:
    """Nearest bins `[n, 2 * reach]` to frequencies `[n]` in Hz, and their offsets from them in bins."""
    position = frequencies * (n_fft / sample_rate)
    bins = position.floor()[:, None] + torch.arange(1 - reach, reach + 1, device=position.device)
    return bins.long(), bins - position[:, None]
