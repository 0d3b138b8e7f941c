"""Noise for the decoder: white, and a function of the codes and of the frame's place in its sound."""

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codec.spectral import SpectrogramConfig

TABLE_SAMPLES = 1 << 17
LEVEL_FACTOR, POSITION_FACTOR, DRAW_FACTOR = 40_503, 2_654_435_761, 97_654_321
MIXER = 6_364_136_223_846_793_005  # of Knuth's linear congruential generator; products wrap around at 64 bits
WORDS, FIRST_MIX, SECOND_MIX = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # of SplitMix64


class FrameNoise(nn.Module):
    """White Gaussian noise, a piece of a fixed table for each frame.

    Where a frame's piece begins follows from its codes and its position alone. Thus the same codes give the same
    samples, whatever is decoded beside them, and steady sound does not repeat its noise. Noise has a mean square of 1
    in each bin of a window's transform.
    """

    table: Tensor  # [TABLE_SAMPLES]

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.step = config.samples_per_frame
        scale = torch.hann_window(config.n_fft).square().sum().rsqrt()
        self.register_buffer("table", torch.from_numpy(gaussian_table().copy()) * scale, persistent=False)

    def forward(self, codes: Tensor, positions: Tensor | None = None, draw: int = 0) -> Tensor:
        """Noise `[B, F * samples_per_frame]` for codes `[B, F, Q]`; zeros where `positions` `[F]` is -1."""
        batch, frames, levels = codes.shape
        if positions is None:
            positions = torch.arange(frames, device=codes.device)
        factors = LEVEL_FACTOR ** torch.arange(1, levels + 1, device=codes.device)
        mixed = (codes * factors).sum(dim=-1) + positions * POSITION_FACTOR + draw * DRAW_FACTOR
        starts = (mixed * MIXER) >> 40
        samples = (starts[..., None] + torch.arange(self.step, device=codes.device)) % TABLE_SAMPLES
        return (self.table[samples] * (positions >= 0)[:, None]).reshape(batch, frames * self.step)


@functools.cache
def gaussian_table() -> NDArray[np.float32]:
    """Gaussian numbers `[TABLE_SAMPLES]` of variance 1: the Box-Muller transform of SplitMix64's first words."""
    words = np.arange(1, 2 * TABLE_SAMPLES + 1, dtype=np.uint64) * np.uint64(WORDS)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(FIRST_MIX)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(SECOND_MIX)
    words ^= words >> np.uint64(31)
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    radius, turn = uniform.reshape(-1, 2).T
    return np.asarray(np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * turn), dtype=np.float32)
