"""Spectral distance between waveforms, which training minimises and evaluation reports."""

import math

import torch
from torch import Tensor, nn

from distill.codec import constants
from distill.codec.envelope import mean_squares
from distill.codec.spectral import LogMel, magnitude

POWER_FLOOR = 1e-9  # -90 dB
QUIET = 1e-4  # a sound of this mean amplitude is not asked for a better envelope in proportion
MAX_ERROR = 10.0
LONG_FLOOR = 1e-4  # -80 dB
REPORT_WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)
LONG_SECONDS = (0.093, 0.186)  # of windows whose bins are compared without mel bands: they tell partials apart


class MultiScaleMelLoss(nn.Module):
    """Multi-scale mel loss: the sum over window lengths of the mean absolute difference of log10 mel amplitudes.

    Windows and bands are those of the Descript audio codec (arXiv 2306.06546, appendix). Always fp32.
    """

    def __init__(self, sample_rate: int, windows: tuple[int, ...]) -> None:
        super().__init__()
        self.windows = windows
        # With short windows the lowest filters have no bin: they would compare silence with silence.
        scales = (LogMel(sample_rate, size, size // 4, max(4, size * 5 // 32), skip_empty=True) for size in windows)
        self.scales = nn.ModuleList(scales)

    def forward(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Loss of `estimate` `[B, N]` against `reference` `[B, N]`, a scalar. No gradient goes to the reference."""
        with torch.no_grad():
            targets = self.spectra(reference)
        pairs = zip(self.spectra(estimate), targets, strict=True)
        return torch.stack([(found - target).abs().mean() for found, target in pairs]).sum()

    def spectra(self, audio: Tensor) -> list[Tensor]:
        """Log-mel spectrogram `[B, T, bands]` of samples `[B, N]` at each scale, in fp32."""
        with torch.autocast(audio.device.type, enabled=False):
            audio, pairs = audio.float(), zip(self.scales, self.windows, strict=True)
            return [scale(nn.functional.pad(audio, (size // 2, size // 2))) for scale, size in pairs]


class LongSpectra(nn.Module):
    """Log10 magnitudes of windows so long that they tell partials apart."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sizes = [2 ** round(math.log2(seconds * sample_rate)) for seconds in LONG_SECONDS]
        for size in self.sizes:
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)

    def forward(self, audio: Tensor) -> list[Tensor]:
        """Spectra `[B, bins, T]` of samples `[B, N]`, one for each size; 0 is as loud as a full-scale sine."""
        found = []
        for size in self.sizes:
            window = getattr(self, f"window_{size}")
            padded = nn.functional.pad(audio, (size // 2, size // 2))
            spectrum = torch.stft(padded, size, size // 4, window=window, center=False, return_complex=True)
            found.append((magnitude(spectrum) * (4 / size) + LONG_FLOOR).log10())
        return found


class DecoderLoss(nn.Module):
    """Loss of a decoder that draws noise: spectral energy distance, and errors of envelope and level.

    The energy distance d(x, y) + d(x, y') - d(y, y') between a sound x and two draws y and y' is least where draws are
    distributed as sounds are (Gritsenko et al. 2020, arXiv 2008.01160). A mel distance d alone asks for the median,
    which is softer than the sound. Sounds are multiplied by `gain` first, since floors are absolute.
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
        """Loss of two draws `[2 * B, N]` of each sound of `reference` `[B, N]`: `recon` and its parts, scalars."""
        with torch.autocast(draws.device.type, enabled=False):
            draws, reference = draws.float() * self.gain, reference.float() * self.gain
            one, other = (self.mel.spectra(part) for part in draws.chunk(constants.DRAWS))
            with torch.no_grad():
                target = self.mel.spectra(reference)
            scales = list(zip(one, other, target, strict=True))
            mel = torch.stack([(y - x).abs().mean() + (z - x).abs().mean() for y, z, x in scales]).sum() / 2
            spread = torch.stack([(y - z).abs().mean() for y, z, _ in scales]).sum() / 2
            fine = self._fine_distance(draws, reference)  # before the reference is repeated
            reference = reference.repeat(constants.DRAWS, 1)
            envelope = self._envelope_error(draws, reference)
            level = self._level_error(draws, reference)
            recon = (
                mel
                - constants.REPULSION * spread
                + constants.ENVELOPE_SHARE * envelope
                + constants.LEVEL_SHARE * level
                + constants.LONG_SHARE * fine
            )
            return {"recon": recon, "mel": mel, "spread": spread, "envelope": envelope, "level": level, "long": fine}

    def _fine_distance(self, draws: Tensor, reference: Tensor) -> Tensor:
        """Energy distance between long spectra, as between mel spectra."""
        one, other = (self.long(part) for part in draws.chunk(constants.DRAWS))
        with torch.no_grad():
            target = self.long(reference[: len(one[0])])
        parts = [
            ((y - x).abs().mean() + (z - x).abs().mean() - constants.REPULSION * (y - z).abs().mean()) / 2
            for y, z, x in zip(one, other, target, strict=True)
        ]
        return torch.stack(parts).sum()

    def _envelope_error(self, audio: Tensor, reference: Tensor) -> Tensor:
        """Error of 2 ms envelopes, absolute and squared, as shares of each sound's own."""
        estimate, target = (_amplitudes(x, self.envelope_window) for x in (audio, reference))
        difference = estimate - target
        absolute = difference.abs().mean(dim=1) / target.mean(dim=1).clamp_min(QUIET)
        squared = difference.square().mean(dim=1) / target.square().mean(dim=1).clamp_min(QUIET**2)
        return (absolute.clamp_max(MAX_ERROR) + squared.clamp_max(MAX_ERROR)).mean() / 2

    def _level_error(self, audio: Tensor, reference: Tensor) -> Tensor:
        """Error of levels, in log10. Loud windows count more: else they come out too soft, and soft ones too loud."""
        levels, goals = (_amplitudes(x, self.level_window) for x in (audio, reference))
        weights = constants.LOUD_SHARE * goals / goals.mean(dim=1, keepdim=True) + 1 - constants.LOUD_SHARE
        return (weights * (levels.log10() - goals.log10()).abs()).mean()


def _amplitudes(audio: Tensor, window: int) -> Tensor:
    """Root mean squares `[B, T]` of windows of samples `[B, N]` that overlap by half."""
    return (mean_squares(audio, window) + POWER_FLOOR).sqrt()
