"""Codewords in shared coordinates, with the same meaning for every codec.

A pretrained prior transfers to codes of another codec only if codewords are described by their sound. Loudness
codewords are described by their loudness, tone codes by the tone layer's vectors, and spectral codewords by their
log-mel features. These features are resampled to the bands of `REFERENCE_RATE`, weighted as in the codec, and projected
onto shipped principal components of synthetic sounds. The first spectral level holds whole spectra at loudness 0, finer
levels hold differences of spectra.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from distill.codec.layout import LOUDNESS_RANGE
from distill.codec.model import VQVAE, feature_weights
from distill.codec.scales import mel_centres
from distill.codec.spectral import SpectrogramConfig, spectrogram_config_for
from distill.codec.tones.vectors import tone_vectors

PATH = Path(__file__).parent / "pretrained" / "coordinates.safetensors"
REFERENCE_RATE = 44_100  # Hz, sample rate of the reference bands
COORDINATES = 64  # per codeword
ABSENT = -2.5  # log10 amplitude, relative to the loudness, for bands above half the sample rate
FALL = 6.0  # the loudness coordinate of frequency k is scaled by 1 / (1 + k / FALL)

Positions = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SharedCoordinates:
    """Principal components of synthetic spectra, and scales of the coordinates."""

    mean: Tensor  # [features]
    components: Tensor  # [features, COORDINATES]
    scales: Tensor  # [levels, COORDINATES] of the spectral levels; further levels use the last row

    @classmethod
    def load(cls) -> "SharedCoordinates":
        """Load the shipped coordinates."""
        return cls(**{name: value.float() for name, value in load_file(PATH).items()})

    def of_codec(self, codec: VQVAE) -> list[Tensor]:
        """Coordinates `[V, COORDINATES]` of the codewords of each level of a codec.

        Loudness and spectra are converted to windows of `REFERENCE_RATE`.
        """
        config, codebooks = codec.spectrogram, codec.quantizer.codebooks.detach().float().cpu()
        steps = codec.quantizer.levels()[0].codewords[:, 0].cpu()
        reference = spectrogram_config_for(REFERENCE_RATE)
        loudness = steps / codec.quantizer.loudness_scale + math.log10(
            reference.n_fft / config.n_fft
        )
        resampling, present = resampled_bands(config)
        spectra = codebooks @ codec.components.detach().cpu().T / feature_weights(config)
        spectra[:1] += codec.mean.detach().cpu()
        spectra = spectra @ resampling
        spectra[:1, :, ~present] = ABSENT
        spectra[:1] -= self.mean
        levels = torch.arange(len(spectra)).clamp_max(len(self.scales) - 1)
        weights = feature_weights(spectrogram_config_for(REFERENCE_RATE))
        coordinates = (spectra * weights) @ self.components / self.scales[levels][:, None]
        return [loudness_coordinates(loudness), *tone_vectors(codec.tone), *coordinates]


def codewords_of(codec: VQVAE) -> Tensor:
    """Codewords `[Q, V, C]` of a codec in shared coordinates, padded with zeros to the largest codebook size V."""
    return nn.utils.rnn.pad_sequence(SharedCoordinates.load().of_codec(codec), batch_first=True)


def loudness_coordinates(loudness: Tensor) -> Tensor:
    """Coordinates `[n, COORDINATES]` of loudness `[n]`: cosines and sines, so near values have near coordinates."""
    low, high = LOUDNESS_RANGE
    turns = ((loudness - low) / (high - low)).clamp(-0.2, 1.2)[:, None]
    frequencies = torch.arange(COORDINATES // 2) + 0.5
    angles = math.pi * frequencies * turns
    sizes = 1 / (1 + frequencies / FALL)
    waves = torch.cat([angles.cos() * sizes, angles.sin() * sizes], dim=1)
    return waves / sizes.square().mean().div(2).sqrt()


def resampled_bands(config: SpectrogramConfig) -> tuple[Tensor, Tensor]:
    """Matrix `[features, reference features]` to features at `REFERENCE_RATE`, and a mask of existing features.
    Bands are interpolated linearly along the mel scale. Reference bands above half the sample rate do not exist.
    """
    reference = spectrogram_config_for(REFERENCE_RATE)
    coarse, fine = (
        _interpolation(
            mel_centres(config.sample_rate, own), mel_centres(reference.sample_rate, wanted)
        )
        for own, wanted in (
            (config.n_mels, reference.n_mels),
            (config.n_fine_mels, reference.n_fine_mels),
        )
    )
    envelopes = (
        np.arange(steps) / steps for steps in (config.envelope_steps, reference.envelope_steps)
    )
    steps = _interpolation(*envelopes)
    blocks = [coarse] * reference.stack + [fine] * (2 * reference.stack) + [steps] * reference.stack
    matrix = torch.block_diag(*(torch.from_numpy(block) for block in blocks)).float()
    return matrix, matrix.sum(dim=0) > 0


def _interpolation(own: Positions, wanted: Positions) -> Positions:
    """Weights `[own, wanted]` of linear interpolation from positions `own`; 0 beyond the last position's spacing."""
    weights = np.stack([np.interp(wanted, own, one) for one in np.eye(len(own))])
    spacing = own[-1] - own[-2] if len(own) > 1 else np.inf
    within: Positions = weights * (wanted <= own[-1] + spacing)
    return within
