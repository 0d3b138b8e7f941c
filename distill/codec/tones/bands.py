"""Mel bands around partials: local means, noise between partials, triangles for the rest of a spectrum."""

import torch
from torch import Tensor, nn

from distill.audio.noise_floor import MIDDLES
from distill.codec.scales import MEL_CORNER_HERTZ, MEL_FACTOR, band_centres, highest_mel
from distill.codec.spectral import SpectrogramConfig
from distill.codec.tones.codes import FLOORS

SMALLEST = 1e-6  # amplitude added or clamped to, against division by 0
TRIANGLE_STEP = 5  # bands between the peaks of triangles


def comb_pattern(response: Tensor, mean: Tensor, noise: Tensor) -> Tensor:
    """Log10 of bands with partials and noise (a proportion of the mean), relative to bands with their local mean."""
    floor = noise * mean
    return ((response + floor + SMALLEST) / (mean + floor + SMALLEST)).log10()


def noise_share(number: Tensor, centres: Tensor) -> Tensor:
    """Ratio of noise to tone `[..., M]` in bands with these centres in Hz, for floor indices `number` `[...]`."""
    low, high, edge = torch.tensor(FLOORS, device=number.device)[number].unbind(-1)
    return torch.where(centres < edge[..., None], low[..., None], high[..., None])


def local_mean(response: Tensor) -> Tensor:
    """Local means `[..., M]` of responses `[..., M]`: a Hann window of 13 bands to each side, mirrored at the ends."""
    reach = min(13, response.shape[-1] - 1)
    window = torch.hann_window(2 * reach + 3)[1:-1].to(response)
    flat = nn.functional.pad(response.flatten(0, -2)[:, None], (reach, reach), mode="reflect")
    return nn.functional.conv1d(flat, (window / window.sum())[None, None]).reshape(response.shape)


def between_bands(centres: Tensor) -> Tensor:
    """Linear interpolation weights `[noise bands, M]` over log frequency, from noise-floor bands to `centres` in Hz."""
    middles = torch.from_numpy(MIDDLES).log()
    octave = centres.clamp(MIDDLES[0], MIDDLES[-1]).log()
    after = torch.searchsorted(middles, octave).clamp(1, len(middles) - 1)
    share = (octave - middles[after - 1]) / (middles[after] - middles[after - 1])
    rows = torch.arange(len(middles))[:, None]
    return (rows == after) * share + (rows == after - 1) * (1 - share)


def centres_of(sample_rate: int, bands: int) -> Tensor:
    """Centres `[bands]` of mel bands in Hz."""
    return torch.from_numpy(band_centres(sample_rate, bands)).float()


def band_position(frequencies: Tensor, config: SpectrogramConfig) -> Tensor:
    """Positions of frequencies in Hz among the centres of mel bands, 0 to less than `n_mels - 1`."""
    mel = MEL_FACTOR * (1 + frequencies / MEL_CORNER_HERTZ).log10()
    position = mel / highest_mel(config.sample_rate) * (config.n_mels + 1) - 1
    return position.clamp(0.0, config.n_mels - 1.001)


def triangles(bands: int) -> Tensor:
    """Triangles `[n, bands]`, each `2 * TRIANGLE_STEP` bands wide, that sum to 1."""
    count = -(-(bands - 1) // TRIANGLE_STEP) + 1
    distance = (torch.arange(bands) - torch.arange(count)[:, None] * TRIANGLE_STEP).abs()
    return (1 - distance / TRIANGLE_STEP).clamp_min(0)
