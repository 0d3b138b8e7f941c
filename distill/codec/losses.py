"""Spectral distance between waveforms, which training minimises and evaluation reports."""

from typing import cast

import torch
from torch import Tensor, nn

from distill.codec.spectral import LOG_FLOOR, magnitude, mel_filterbank

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
        with torch.autocast(estimate.device.type, enabled=False):
            distances = []
            for size in self.windows:
                with torch.no_grad():
                    target = self._log_mel(reference.float(), size)
                distances.append((self._log_mel(estimate.float(), size) - target).abs().mean())
            return torch.stack(distances).sum()

    def _log_mel(self, audio: Tensor, size: int) -> Tensor:
        window = cast(Tensor, getattr(self, f"window_{size}"))
        bank = cast(Tensor, getattr(self, f"bank_{size}"))
        padded = nn.functional.pad(audio, (size // 2, size // 2))
        spectrum = torch.stft(padded, size, size // 4, window=window, center=False, return_complex=True)
        return (magnitude(spectrum).transpose(1, 2) @ bank).clamp_min(LOG_FLOOR).log10()
