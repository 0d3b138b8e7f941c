"""Spectral distance between waveforms, which training minimises and evaluation reports."""

from typing import cast

import torch
from torch import Tensor, nn

from distill.codec.constants import (
    DRAWS,
    ENVELOPE_SECONDS,
    ENVELOPE_SHARE,
    LEVEL_SECONDS,
    LEVEL_SHARE,
    LOUD_SHARE,
    REPULSION,
)
from distill.codec.envelope import LOG_FLOOR, mean_squares
from distill.codec.spectral import magnitude, mel_filterbank

POWER_FLOOR = 1e-9  # -90 dB
QUIET = 1e-4  # a sound of this mean amplitude is not asked for a better envelope in proportion
MAX_ERROR = 10.0
REPORT_WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)


class MultiScaleMelLoss(nn.Module):
    """Multi-scale mel loss: the sum over window lengths of the mean absolute difference of log10 mel amplitudes.

    Windows overlap by three quarters; window w has w * 5 / 32 bands, at most 320 (the scales of the Descript audio
    codec, arXiv 2306.06546, appendix). Computed in fp32 whatever the autocast.
    """

    def __init__(self, sample_rate: int, windows: tuple[int, ...]) -> None:
        super().__init__()
        self.windows = windows
        for size in windows:
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)
            bank = mel_filterbank(sample_rate, size, max(4, size * 5 // 32))
            # With short windows the lowest filters have no bin: they would compare silence with silence.
            self.register_buffer(f"bank_{size}", bank[:, bank.sum(dim=0) > 0].contiguous(), persistent=False)

    def forward(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Loss of `estimate` `[B, N]` against `reference` `[B, N]`, a scalar. No gradient goes to the reference."""
        with torch.no_grad():
            targets = self.spectra(reference)
        pairs = zip(self.spectra(estimate), targets, strict=True)
        return torch.stack([(found - target).abs().mean() for found, target in pairs]).sum()

    def spectra(self, audio: Tensor) -> list[Tensor]:
        """Log-mel spectrogram `[B, T, bands]` of samples `[B, N]` at each scale, in fp32."""
        with torch.autocast(audio.device.type, enabled=False):
            return [self._log_mel(audio.float(), size) for size in self.windows]

    def _log_mel(self, audio: Tensor, size: int) -> Tensor:
        window = cast(Tensor, getattr(self, f"window_{size}"))
        bank = cast(Tensor, getattr(self, f"bank_{size}"))
        padded = nn.functional.pad(audio, (size // 2, size // 2))
        spectrum = torch.stft(padded, size, size // 4, window=window, center=False, return_complex=True)
        return (magnitude(spectrum).transpose(1, 2) @ bank).clamp_min(LOG_FLOOR).log10()


class DecoderLoss(nn.Module):
    """Loss of a decoder that draws noise: spectral energy distance, and errors of envelope and level.

    The energy distance d(x, y) + d(x, y') - d(y, y') between a sound x and two draws y and y' is least where draws are
    distributed as sounds are (Gritsenko et al. 2020, arXiv 2008.01160); d is the multi-scale mel distance. A distance
    alone asks for the median, which is softer than the sound. `REPULSION` weighs the last term.
    """

    def __init__(self, sample_rate: int, windows: tuple[int, ...] = REPORT_WINDOWS) -> None:
        super().__init__()
        self.mel = MultiScaleMelLoss(sample_rate, windows)
        self.envelope_window = 2 * max(1, round(ENVELOPE_SECONDS * sample_rate / 2))
        self.level_window = 2 * max(1, round(LEVEL_SECONDS * sample_rate / 2))

    def forward(self, draws: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """Loss of two draws `[2 * B, N]` of each sound of `reference` `[B, N]`: `recon` and its parts, scalars."""
        with torch.autocast(draws.device.type, enabled=False):
            draws, reference = draws.float(), reference.float()
            one, other = (self.mel.spectra(part) for part in draws.chunk(DRAWS))
            with torch.no_grad():
                target = self.mel.spectra(reference)
            scales = list(zip(one, other, target, strict=True))
            mel = torch.stack([(y - x).abs().mean() + (z - x).abs().mean() for y, z, x in scales]).sum() / 2
            spread = torch.stack([(y - z).abs().mean() for y, z, _ in scales]).sum() / 2
            envelope, level = self._errors(draws, reference.repeat(DRAWS, 1))
            recon = mel - REPULSION * spread + ENVELOPE_SHARE * envelope + LEVEL_SHARE * level
            return {"recon": recon, "mel": mel, "spread": spread, "envelope": envelope, "level": level}

    def _errors(self, audio: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Error of 2 ms envelopes, absolute and squared, as shares of each sound's own; and of levels, in log10.

        Loud windows' levels count more: else they come out too soft, and soft ones too loud.
        """
        estimate, target = (_amplitudes(x, self.envelope_window) for x in (audio, reference))
        difference = estimate - target
        absolute = difference.abs().mean(dim=1) / target.mean(dim=1).clamp_min(QUIET)
        squared = difference.square().mean(dim=1) / target.square().mean(dim=1).clamp_min(QUIET**2)
        envelope = (absolute.clamp_max(MAX_ERROR) + squared.clamp_max(MAX_ERROR)).mean() / 2
        levels, goals = (_amplitudes(x, self.level_window) for x in (audio, reference))
        weights = LOUD_SHARE * goals / goals.mean(dim=1, keepdim=True) + 1 - LOUD_SHARE
        return envelope, (weights * (levels.log10() - goals.log10()).abs()).mean()


def _amplitudes(audio: Tensor, window: int) -> Tensor:
    """Root mean squares `[B, T]` of windows of samples `[B, N]` that overlap by half."""
    return (mean_squares(audio, window) + POWER_FLOOR).sqrt()
