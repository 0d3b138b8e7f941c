"""Pitch of voices and basses from their periods.

In a long spectrum, a gliding voice has no peaks, and the partials of a bass lie too close together. But both repeat
from period to period. The autocorrelation of a windowed sound, divided by the autocorrelation of the window, estimates
the proportion of the sound that repeats after each lag (Boersma 1993, "Accurate short-term analysis of the fundamental
frequency").

Shapes: B batch, F code frames, L lags.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.audio.measure import peak_offset
from distill.codec.scales import semitones
from distill.codec.spectral import SpectrogramConfig


class PeriodRange(NamedTuple):
    """Range of the search, from `lowest` to `highest` Hz, and the maximum number of pitches per frame.

    Windows hold three periods of `lowest`. The weight of a frequency falls from 1 to a tenth at `top` Hz and above.
    """

    lowest: float
    highest: float
    most: int
    top: float


VOICES = PeriodRange(65.0, 400.0, 2, math.inf)
# The range includes high pitches, so that they are not taken for basses.
BASSES = PeriodRange(26.5, 400.0, 1, 1000.0)


class PeriodAnalysis(nn.Module):
    """Finds the likeliest periods of each frame."""

    def __init__(self, config: SpectrogramConfig, pitches: PeriodRange) -> None:
        super().__init__()
        self.count = pitches.most
        # Periods are searched at a sample rate of about 5500 Hz.
        self.stride = 2 ** max(0, round(math.log2(config.sample_rate / 5500.0)))
        self.rate = config.sample_rate / self.stride
        self.step = config.samples_per_frame // self.stride
        size = 2 * math.ceil(1.5 * self.rate / pitches.lowest)
        beyond = size * self.stride - config.samples_per_frame
        self.spare: int = beyond // 2  # samples that windows reach beyond their frame, at each end
        window = torch.hann_window(size + 2, periodic=False)[1:-1]
        self.window = nn.Buffer(window, persistent=False)  # [size]
        shortest, longest = int(self.rate / pitches.highest), math.ceil(self.rate / pitches.lowest)
        # [L], one more at each end
        self.lags = nn.Buffer(torch.arange(shortest - 1, longest + 2), persistent=False)
        # Size of transforms, without wrap-around.
        self.size = 2 ** math.ceil(math.log2(size + longest + 1))
        hertz = torch.arange(self.size // 2 + 1) * (self.rate / self.size)
        weights = 1 - 0.45 * (1 - (math.pi * (hertz / pitches.top).clamp_max(1.0)).cos())
        self.weights = nn.Buffer(weights, persistent=False)  # [size // 2 + 1] of frequencies
        self.own = nn.Buffer(self._correlations(window[None]), persistent=False)  # [1, L]

    def _correlations(self, windows: Tensor) -> Tensor:
        """Autocorrelations `[n, L]` of windows `[n, N]`, divided by their energies."""
        spectra = torch.fft.rfft(windows, self.size)
        products = torch.fft.irfft(
            (spectra.real.square() + spectra.imag.square()) * self.weights, self.size
        )
        shares: Tensor = products[:, self.lags] / products[:, :1].clamp_min(1e-12)
        return shares

    def forward(self, audio: Tensor, margin: int, power: Tensor) -> tuple[Tensor, Tensor]:
        """Pitches in semitones (MIDI), and the proportion of a frame that repeats after each period, `[B * F, count]`.

        `audio` is `[B, margin + F * samples_per_frame + margin]`; `power` spectra are `[B * F, bins]`. The proportion
        is -1 where a frame has fewer periods.
        """
        edge = margin - self.spare
        low = nn.functional.avg_pool1d(audio[:, None, edge : audio.shape[1] - edge], self.stride)[
            :, 0
        ]
        windows = low.unfold(1, len(self.window), self.step).flatten(0, 1)
        windows = (windows - windows.mean(dim=1, keepdim=True)) * self.window
        repeats = self._correlations(windows) / self.own
        left, middle, right = repeats[:, :-2], repeats[:, 1:-1], repeats[:, 2:]
        shift = peak_offset(left, middle, right).clamp(-0.5, 0.5)
        lags = self.lags[1:-1]
        # A sound that repeats after a period also repeats after two, so that an octave costs 0.02.
        likely = middle - (left - right) * shift / 4 - 0.02 * (lags / lags[0]).log2()
        likely = torch.where((middle >= left) & (middle > right), likely, -torch.inf)
        likely, index = likely.topk(self.count, dim=1)
        pitches = semitones((self.rate / (lags[index] + shift.gather(1, index))).log2())
        # Power above half the lower rate counts as power that does not repeat.
        bins = round(power.shape[1] / self.stride)
        share = power[:, :bins].sum(dim=1, keepdim=True) / power.sum(dim=1, keepdim=True).clamp_min(
            1e-12
        )
        return pitches, torch.where(likely > -torch.inf, likely * share, -1.0)
