"""Coordinates of codewords: the same sound has nearly the same ones whatever codec it is described by."""

import pytest
import torch

from distill.codec.coordinates import COORDINATES, codewords_of, loudness_coordinates, resampled_bands
from distill.codec.initialise import build_vqvae
from distill.codec.layout import SHAPE
from distill.codec.model import VQVAE
from distill.codec.spectral import spectrogram_config_for
from distill.params import get_adaptive_vqvae_config


def tone(codec: VQVAE, frequency: float, level: float) -> torch.Tensor:
    """Features `[1, 8, features]` of a tone."""
    config = codec.spectrogram
    time = torch.arange(8 * config.samples_per_frame + 2 * config.margin) / config.sample_rate
    return codec.frame_features(level * torch.sin(2 * torch.pi * frequency * time)[None])


def fitted_codec(sample_rate: int, seed: int, **changes: object) -> VQVAE:
    """A codec fitted to tones below 3 kHz, the same at every rate."""
    values = {"codebook_size": 16, "num_quantizers": 6, "hidden_size": 8, "num_layers": 1, **changes}
    codec = build_vqvae(sample_rate, get_adaptive_vqvae_config(1, **values), 0, warm=False).eval()
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(60, 2, generator=generator).tolist()
    pieces = [tone(codec, 200 + 2800 * pitch, level)[0] for pitch, level in draws]
    codec.fit_projection(torch.cat(pieces))
    codec.quantizer.fit([codec.project(piece) for piece in pieces], generator)
    return codec


def described(codec: VQVAE, frequency: float) -> torch.Tensor:
    """Coordinates of the first shape's codeword of a tone."""
    code = int(codec.quantizer.search(codec.project(tone(codec, frequency, 0.5)))[0, 4, 1])
    return codewords_of(codec)[SHAPE, code]


def test_a_sound_is_described_alike_by_codecs_of_other_rates_and_fits() -> None:
    codecs = fitted_codec(24_000, 0, codebook_size=64), fitted_codec(44_100, 1, codebook_size=64)
    first, second = (torch.stack([described(codec, hertz) for hertz in (300.0, 800.0, 2500.0)]) for codec in codecs)
    assert torch.cdist(first, second).argmin(dim=1).tolist() == [0, 1, 2]


def test_loudness_has_near_coordinates_where_it_is_near() -> None:
    loudness = torch.linspace(-5, 2, 71)
    coordinates = loudness_coordinates(loudness)
    assert coordinates.shape == (71, COORDINATES)
    assert float(coordinates.square().mean()) == pytest.approx(1, rel=0.1)
    distances = (coordinates - coordinates[35]).norm(dim=1)
    assert bool((distances[35:41].diff() > 0).all())
    assert float(distances[45:].min()) > float(distances[37])


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000])
def test_bands_are_resampled_to_those_of_the_reference(rate: int) -> None:
    config = spectrogram_config_for(rate)
    matrix, present = resampled_bands(config)
    assert matrix.shape[0] == config.features
    torch.testing.assert_close(matrix.sum(dim=0), present.float())
    assert bool(present.all()) is (rate >= 44_100)
    if rate == 44_100:
        torch.testing.assert_close(matrix, torch.eye(config.features))
