"""The decoder's noise: white, a function of codes and position, nothing in gaps."""

import numpy as np
import pytest
import torch

from distill.codec.model import FrameNoise, gaussian_table
from distill.codec.spectral import InverseSTFT, spectrogram_config_for

CONFIG = spectrogram_config_for(16_000)


@pytest.fixture(scope="module")
def codes() -> torch.Tensor:
    return torch.randint(64, (2, 200, 4), generator=torch.Generator().manual_seed(0))


def test_a_windows_transform_has_a_mean_square_of_one(codes: torch.Tensor) -> None:
    noise, inverse = FrameNoise(CONFIG)(codes), InverseSTFT(CONFIG)
    spectrum = inverse.transform(inverse.frames(noise))[:, 4:-4].abs().square().mean(dim=(0, 1))
    assert float(spectrum.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(spectrum.std()) < 0.15


def test_the_same_codes_at_the_same_place_have_the_same_noise(codes: torch.Tensor) -> None:
    noise = FrameNoise(CONFIG)
    whole, part = noise(codes), noise(codes[:, 50:60], torch.arange(50, 60))
    assert torch.equal(whole[:, 50 * noise.step : 60 * noise.step], part)
    assert not torch.equal(noise(codes[:, 50:60]), part)  # another place
    assert not torch.equal(noise(codes, draw=1), whole)


def test_gaps_are_silent(codes: torch.Tensor) -> None:
    noise = FrameNoise(CONFIG)
    positions = torch.tensor([0, 1, -1, -1, 0])
    made = noise(codes[:, :5], positions).reshape(2, 5, noise.step)
    assert [bool(made[:, frame].any()) for frame in range(5)] == [True, True, False, False, True]


def test_the_table_is_gaussian() -> None:
    table = gaussian_table().astype(np.float64)
    assert abs(table.mean()) < 0.01
    assert table.std() == pytest.approx(1.0, abs=0.01)
    assert np.mean(table**4) == pytest.approx(3.0, abs=0.1)
    assert abs(np.corrcoef(table[1:], table[:-1])[0, 1]) < 0.01
