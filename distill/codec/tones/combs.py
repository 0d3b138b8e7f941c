"""Combs that partials leave in mel bands, for analysis to remove from features and for synthesis to restore.

Shapes: B batch, F code frames, K partials of a set, M mel bands.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.audio.noise_floor import MIDDLES
from distill.codec.scales import band_centres
from distill.codec.spectral import SpectrogramConfig
from distill.codec.tones.codes import FLOORS
from distill.codec.tones.lobes import MelLobes

SMALLEST = 1e-6  # amplitude added, against division by 0


class Combs(NamedTuple):
    """Band responses to partials of amplitude 1, and their local means, `[B, F, M]` each."""

    coarse: Tensor
    coarse_mean: Tensor
    fine: Tensor
    fine_mean: Tensor


class CombBands(nn.Module):
    """Combs of partials in the bands of both mel spectrograms, and their patterns in features."""

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.config, rate = config, config.sample_rate
        self.lobes = MelLobes(rate, config.n_fft, config.n_mels)
        self.fine_lobes = MelLobes(rate, config.n_fft // 4, config.n_fine_mels)
        centres = _centres(rate, config.n_mels)
        fine_centres = _centres(rate, config.n_fine_mels)
        self.centres = nn.Buffer(centres, persistent=False)  # [M] Hz
        self.fine_centres = nn.Buffer(fine_centres, persistent=False)  # [fine M] Hz
        # [noise bands, M]
        self.noise_bands = nn.Buffer(between_bands(self.centres), persistent=False)

    def forward(self, hertz: Tensor) -> Combs:
        """Combs of partials at `hertz` `[B, F, K]`; 0: no partial."""
        both = []
        for lobes in (self.lobes, self.fine_lobes):
            found = lobes(hertz)
            response = found.bands(torch.ones_like(found.weights[:, 0]))
            both += [response, local_mean(response)]
        return Combs(*both)

    def coarse_patterns(self, combs: Combs) -> Tensor:
        """Patterns `[floors, B, F, M]` that combs would leave in a log-mel hop, for each noise floor."""
        numbers = torch.arange(len(FLOORS), device=combs.coarse.device)[:, None, None]
        return _pattern(combs.coarse, combs.coarse_mean, noise_share(numbers, self.centres))

    def pattern(self, floors: Tensor, combs: Combs) -> Tensor:
        """Pattern `[B, F, features]` that combs leave in log-mel features, for `floors` `[B, F]`; 0 without a tone."""
        stack = self.config.stack
        coarse = _pattern(combs.coarse, combs.coarse_mean, noise_share(floors, self.centres))
        fine = _pattern(combs.fine, combs.fine_mean, noise_share(floors, self.fine_centres))
        envelope = coarse.new_zeros(*floors.shape, stack * self.config.envelope_steps)
        parts = [coarse.repeat(1, 1, stack), fine.repeat(1, 1, 2 * stack), envelope]
        return torch.cat(parts, dim=-1)

    def tonal_share(self, combs: Combs, noise: Tensor) -> Tensor:
        """Tonal proportion `[B, F, M]` of each band's amplitude.

        `noise` `[B, F, noise bands]` is the noise floor: log10 of noise to tone.
        """
        beside = 10.0 ** (noise @ self.noise_bands) * combs.coarse_mean
        return combs.coarse / (combs.coarse + beside + SMALLEST)


def _pattern(response: Tensor, mean: Tensor, noise: Tensor) -> Tensor:
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


def _centres(sample_rate: int, bands: int) -> Tensor:
    """Centres `[bands]` of mel bands in Hz."""
    return torch.from_numpy(band_centres(sample_rate, bands)).float()
