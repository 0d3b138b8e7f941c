"""Spectral distances between waveforms, for training and evaluation."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from distill.codec import constants
from distill.codec.envelope import mean_squares
from distill.codec.spectral import LogMel, magnitudes, windowed

REPORT_WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)


class MultiScaleMelLoss(nn.Module):
    """Multi-scale mel loss: the sum over window lengths of the mean absolute difference of log10 mel amplitudes.

    Windows and bands are taken from the Descript audio codec (arXiv 2306.06546, appendix). Always fp32.
    """

    def __init__(self, sample_rate: int, windows: tuple[int, ...]) -> None:
        super().__init__()
        self.windows = windows
        # With short windows the lowest filters have no bin; they are left out, since they would compare silence.
        scales = (
            LogMel(sample_rate, size, size // 4, max(4, size * 5 // 32), skip_empty=True)
            for size in windows
        )
        self.scales = nn.ModuleList(scales)

    def forward(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Loss of `estimate` `[B, N]` against `reference` `[B, N]`, a scalar, without gradient for the reference."""
        with torch.no_grad():
            targets = self.spectra(reference)
        pairs = zip(self.spectra(estimate), targets, strict=True)
        return torch.stack([(own - target).abs().mean() for own, target in pairs]).sum()

    def spectra(self, audio: Tensor) -> list[Tensor]:
        """Log-mel spectrogram `[B, T, bands]` of samples `[B, N]` at each scale, in fp32."""
        with torch.autocast(audio.device.type, enabled=False):
            pairs = zip(self.scales, self.windows, strict=True)
            return [scale(audio.float(), padding=size // 2) for scale, size in pairs]


class LongSpectra(nn.Module):
    """Log10 magnitudes of windows long enough to resolve partials, without mel bands."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sizes = [2 ** round(math.log2(seconds * sample_rate)) for seconds in (0.093, 0.186)]
        for size in self.sizes:
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)

    def forward(self, audio: Tensor) -> list[Tensor]:
        """Spectra `[B, T, bins]` of samples `[B, N]`, one per window size; a full-scale sine is 0."""
        spectra = []
        for size in self.sizes:
            window = getattr(self, f"window_{size}")
            windows = windowed(audio, window, size // 4, size // 2)
            spectra.append((magnitudes(windows) * (4 / size) + 1e-4).log10())  # floor of -80 dB
        return spectra


class DecoderLoss(nn.Module):
    """Loss of a decoder that generates noise: spectral energy distance, and errors of envelope and level.

    The energy distance d(x, y) + d(x, y') - d(y, y') between a sound x and two outputs y and y' is least if outputs
    have the distribution of sounds (Gritsenko et al. 2020, arXiv 2008.01160). A mel distance d alone favours the
    median, which is softer than the sound. Sounds are multiplied by `gain` first, since floors are absolute.
    """

    def __init__(self, sample_rate: int, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.mel = MultiScaleMelLoss(sample_rate, REPORT_WINDOWS)
        self.long = LongSpectra(sample_rate)
        self.envelope_window, self.level_window = (
            2 * max(1, round(seconds * sample_rate / 2))
            for seconds in (constants.ENVELOPE_SECONDS, constants.LEVEL_SECONDS)
        )

    def forward(self, draws: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """Loss of two outputs `[2 * B, N]` per sound of `reference` `[B, N]`: `recon` and its parts, scalars."""
        with torch.autocast(draws.device.type, enabled=False):
            draws, reference = draws.float() * self.gain, reference.float() * self.gain
            distances, spreads = _distances(self.mel.spectra, draws, reference)
            long_distances, long_spreads = _distances(self.long, draws, reference)
            reference = reference.repeat(constants.DRAWS, 1)
            parts = {
                "mel": distances.sum() / 2,
                "spread": spreads.sum() / 2,
                "envelope": self._envelope_error(draws, reference),
                "level": self._level_error(draws, reference),
                "long": ((long_distances - constants.REPULSION * long_spreads) / 2).sum(),
            }
            recon = (
                parts["mel"]
                - constants.REPULSION * parts["spread"]
                + constants.ENVELOPE_SHARE * parts["envelope"]
                + constants.LEVEL_SHARE * parts["level"]
                + constants.LONG_SHARE * parts["long"]
            )
            return {"recon": recon, **parts}

    def _envelope_error(self, audio: Tensor, reference: Tensor) -> Tensor:
        """Error of 2 ms envelopes: mean of absolute and squared error, relative to each sound's envelope."""
        estimate, target = (_amplitudes(x, self.envelope_window) for x in (audio, reference))
        # Floor and ceiling, for quiet sounds.
        difference, quiet, largest = (estimate - target, 1e-4, 10.0)
        absolute = difference.abs().mean(dim=1) / target.mean(dim=1).clamp_min(quiet)
        squared = difference.square().mean(dim=1) / target.square().mean(dim=1).clamp_min(quiet**2)
        return (absolute.clamp_max(largest) + squared.clamp_max(largest)).mean() / 2

    def _level_error(self, audio: Tensor, reference: Tensor) -> Tensor:
        """Error of levels, in log10. Loud windows weigh more, else loud windows become too soft, and soft too loud."""
        levels, goals = (_amplitudes(x, self.level_window) for x in (audio, reference))
        weights = (
            constants.LOUD_SHARE * goals / goals.mean(dim=1, keepdim=True)
            + 1
            - constants.LOUD_SHARE
        )
        return (weights * (levels.log10() - goals.log10()).abs()).mean()


def _distances(
    spectra: Callable[[Tensor], list[Tensor]], draws: Tensor, reference: Tensor
) -> tuple[Tensor, Tensor]:
    """Two distances of spectra `[scales]`: sum from both outputs to the reference, and between the two outputs."""
    one, other = map(spectra, draws.chunk(constants.DRAWS))
    with torch.no_grad():
        target = spectra(reference)
    scales = list(zip(one, other, target, strict=True))
    distances = [(y - x).abs().mean() + (z - x).abs().mean() for y, z, x in scales]
    return torch.stack(distances), torch.stack([(y - z).abs().mean() for y, z, _ in scales])


def _amplitudes(audio: Tensor, window: int) -> Tensor:
    """Root mean squares `[B, T]` of half-overlapping windows of samples `[B, N]`, with a floor of -90 dB."""
    return (mean_squares(audio, window) + 1e-9).sqrt()
