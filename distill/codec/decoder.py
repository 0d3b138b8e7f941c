"""Parts of the codec's decoder: a ConvNeXt backbone, heads for spectra, and noise.

Shapes: B batch, F code frames, T hops, W width.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codec.envelope import GAIN_STEPS, LOG_FLOOR, MAX_LOG_GAIN, mask_gaps
from distill.codec.spectral import MAX_LOG_MEL, SpectrogramConfig, band_position, mel_filterbank
from distill.codec.steady import steady
from distill.codec.tones.layer import Tones
from distill.codec.tones.lobes import partials_spectrum
from distill.seeds import STEP, mix

KERNEL_SIZE = 7  # of convolutions
MAX_LOG_MAGNITUDE = 7.0  # e^7 is far above any bin of a full-scale sound; prevents overflow
# Averages of learnt gains on tones, and on low tones: hops to each side, and the largest difference.
STEADY, LOW_STEADY = (4, 0.3), (8, 2.0)
TABLE_SAMPLES = 1 << 17  # length of the noise table


class ConvNeXtStack(nn.Module):
    """ConvNeXt backbone over time (Liu et al. 2022, arXiv 2201.03545; one-dimensional as in Vocos, arXiv 2306.00814).

    `context` is the receptive field in steps to each side. Autocast applies only to the MLPs of blocks: convolutions
    and norms are faster and safer in fp32.
    """

    def __init__(self, inputs: int, width: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Conv1d(inputs, width, KERNEL_SIZE, padding=KERNEL_SIZE // 2)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, dropout, 1 / num_layers) for _ in range(num_layers)
        )
        self.final_norm = nn.LayerNorm(width)
        self.context = (KERNEL_SIZE // 2) * (num_layers + 1)

    def forward(self, x: Tensor, inside: Tensor | None = None) -> Tensor:
        """Map `[B, T, inputs]` to hidden states `[B, T, width]`, fp32; steps with `inside` `[T]` 0 count as padding."""
        x = self.norm(convolve_time(mask_gaps(x, inside), self.embed))
        for block in self.blocks:
            x = block(mask_gaps(x, inside))
        y: Tensor = self.final_norm(x)
        return y


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block: depthwise convolution, LayerNorm, MLP of three times the width, layer scale, residual."""

    def __init__(self, width: int, dropout: float, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(
            width, width, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=width
        )
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 3 * width)
        self.dropout = nn.Dropout(dropout)
        self.contract = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states `[B, T, D]` of `[B, T, D]`, fp32."""
        y = nn.functional.gelu(self.expand(self.norm(convolve_time(x, self.depthwise))))
        if self.training and self.dropout.p:
            # Drop whole channels of a crop: a mask of single values took as long as both layers.
            y = y * self.dropout(y.new_ones(len(y), 1, y.shape[2]))
        return torch.addcmul(x, self.scale, self.contract(y).float())


def convolve_time(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """Convolution over T of `[B, T, inputs]` to `[B, T, outputs]`, in fp32.

    An image of height 1 with channels last needs no copies: two to three times as fast, forward and backward.
    """
    margin = KERNEL_SIZE // 2
    with torch.autocast(x.device.type, enabled=False):
        # For few positions, a matrix product is faster.
        is_short = x.device.type == "cpu" and x.shape[0] * x.shape[1] <= 64
        if (
            conv.groups == 1
            and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
            and is_short
        ):
            windows = (
                nn.functional.pad(x, (0, 0, margin, margin)).unfold(1, KERNEL_SIZE, 1).flatten(2)
            )
            return nn.functional.linear(windows, conv.weight.flatten(1), conv.bias)
        image, weight = x.transpose(1, 2)[:, :, None], conv.weight[:, :, None]
        y = nn.functional.conv2d(image, weight, conv.bias, padding=(0, margin), groups=conv.groups)
        return y[:, :, 0].transpose(1, 2)


class SpectrumHead(nn.Linear):
    """Head that corrects the magnitudes of log-mel frames and predicts phases."""

    def __init__(self, width: int, config: SpectrogramConfig) -> None:
        super().__init__(width, 2 * config.bins)
        bank = mel_filterbank(config.sample_rate, config.n_fft, config.n_mels)
        self.inverse_bank = nn.Buffer(torch.linalg.pinv(bank), persistent=False)  # [n_mels, bins]
        # [bins], 0 at both ends of the spectrum, which no loss covers
        self.in_bands = nn.Buffer((bank.sum(dim=1) > 0.25).float(), persistent=False)
        self.phase_advance = nn.Buffer(_phase_advance(config.bins), persistent=False)  # [4, bins]
        nn.init.normal_(self.weight, std=0.02)
        self.weight.data[: config.bins] = 0.0
        nn.init.zeros_(self.bias)

    def log_magnitudes(self, log_mel: Tensor) -> Tensor:
        """Natural log magnitudes `[B, T, bins]` from log-mel frames `[B, T, n_mels]` alone."""
        return (
            (10.0 ** log_mel.clamp_max(MAX_LOG_MEL) @ self.inverse_bank).clamp_min(LOG_FLOOR).log()
        )

    def spectrum(self, hidden: Tensor, base: Tensor, hops: Tensor) -> Tensor:
        """Complex spectrum `[B, T, bins]` from hidden states `[B, T, W]` and `log_magnitudes`, at `hops` `[T]`."""
        change, phase = self(hidden).chunk(2, dim=-1)
        phase = phase + self.phase_advance[hops % 4]
        magnitude = (base + change).clamp_max(MAX_LOG_MAGNITUDE).exp()
        # Twice as fast as `torch.polar`.
        return torch.complex(magnitude * phase.cos(), magnitude * phase.sin())


class Texture(NamedTuple):
    """Magnitudes of the `noise` `[B, T, bins]`, log `gains` `[B, T, GAIN_STEPS]`, and trust in the envelope.

    `trust` `[B, T, envelope_steps]` is from 0 to 1.
    """

    noise: Tensor
    gains: Tensor
    trust: Tensor


class TextureHead(nn.Linear):
    """Head for what the spectrum of a window lacks: noise, and the envelope inside the window."""

    def __init__(self, width: int, config: SpectrogramConfig) -> None:
        self.sizes = [config.bins, GAIN_STEPS, config.envelope_steps]
        super().__init__(width, sum(self.sizes))
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.bias.data[: config.bins] = -3.0  # log ratio of noise to spectrum before training
        bank = mel_filterbank(config.sample_rate, config.n_fft, config.n_mels)
        between = (bank / bank.sum(dim=1, keepdim=True).clamp_min(1e-9)).T
        self.between = nn.Buffer(between, persistent=False)  # [n_mels, bins]

    @torch.no_grad()
    def amplify(self, gain: float) -> None:
        """Multiply the decoder's output by a factor."""
        first, count, _ = self.sizes
        self.bias[first : first + count] += math.log(gain)

    def texture(self, hidden: Tensor, base: Tensor, toneless: Tensor) -> Texture:
        """Texture from hidden states `[B, T, W]`, relative to a spectrum with `log_magnitudes` `base`.

        Tone replaces noise: `toneless` `[B, T, n_mels]` is the proportion of each band that is not tone.
        """
        share, gains, trust = self(hidden).split(self.sizes, dim=-1)
        noise = (base + share).clamp_max(MAX_LOG_MAGNITUDE).exp() * (toneless @ self.between)
        return Texture(noise, gains, trust.sigmoid())


class ToneHead(nn.Linear):
    """Head of learnt gains on the partials of tones, per band."""

    def __init__(self, width: int, config: SpectrogramConfig) -> None:
        super().__init__(width, config.n_mels)
        self.config = config
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def spectrum(self, hidden: Tensor, tones: Tones, inside: Tensor | None = None) -> Tensor:
        """Complex spectrum `[B, T, bins]` of tones with gains from hidden states `[B, T, W]`.

        Gains are averaged over time, since gains that waver put noise between partials. `inside` `[T]` is 0 in gaps.
        """
        position = band_position(tones.frequencies, self.config)
        gains = self(hidden).clamp(-MAX_LOG_GAIN, MAX_LOG_GAIN)
        gains = torch.lerp(
            steady(gains, *STEADY, inside), steady(gains, *LOW_STEADY, inside), tones.low[..., None]
        )
        band = position.long()
        gain = torch.lerp(gains.gather(-1, band), gains.gather(-1, band + 1), position - band)
        return partials_spectrum(
            tones.frequencies, tones.amplitudes * gain.exp(), tones.phases, self.config
        )


class FrameNoise(nn.Module):
    """White Gaussian noise with mean square 1 in each bin of a transform: a piece of a fixed table per frame.

    The start of a piece depends only on the frame's codes, its position and `draw`. So the same codes give the same
    samples in any batch, and steady sound does not repeat its noise.
    """

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.step = config.samples_per_frame
        scale = torch.hann_window(config.n_fft).square().sum().rsqrt()
        table = torch.from_numpy(gaussian_table().copy()) * scale
        # [TABLE_SAMPLES + step], periodic
        self.table = nn.Buffer(torch.cat([table, table[: self.step]]), persistent=False)

    def forward(self, codes: Tensor, positions: Tensor, draw: int = 0) -> Tensor:
        """Noise `[B, F * samples_per_frame]` for codes `[B, F, Q]`; zeros where `positions` `[F]` is -1.

        `draw` selects the realisation.
        """
        batch, frames, levels = codes.shape
        factors = 40_503 ** torch.arange(1, levels + 1, device=codes.device)
        # Python's sum, since ONNX runtimes do not wrap reductions at 64 bits.
        by_level = (codes * factors).unbind(dim=-1)
        mixed = sum(by_level, positions * 2_654_435_761 + draw * 97_654_321)
        # Knuth's linear congruential generator; products wrap around at 64 bits.
        starts = (mixed * 6_364_136_223_846_793_005) >> 40
        pieces = self.table[
            (starts % TABLE_SAMPLES)[..., None] + torch.arange(self.step, device=codes.device)
        ]
        return (pieces * (positions >= 0)[:, None]).reshape(batch, frames * self.step)


@functools.cache
def gaussian_table() -> NDArray[np.float32]:
    """Standard Gaussian numbers `[TABLE_SAMPLES]`: the Box-Muller transform of SplitMix64's first words."""
    words = mix(np.arange(1, 2 * TABLE_SAMPLES + 1, dtype=np.uint64) * np.uint64(STEP))
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    radius, turn = uniform.reshape(-1, 2).T
    return np.asarray(np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * turn), dtype=np.float32)


def _phase_advance(bins: int) -> Tensor:
    """Phases of the bins' centre frequencies at hops 0 to 3, `[4, bins]` in radians; the pattern repeats.

    A hop is a quarter of the window, so the phase of bin k advances by k quarters of a cycle. Another k halves put a
    pulse in the middle of its window. The network predicts only the difference, since a convolution cannot count the
    frames of a steady tone.
    """
    return ((torch.arange(4)[:, None] + 2) * torch.arange(bins) % 4).float() * (torch.pi / 2)
