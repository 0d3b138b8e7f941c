"""The multi-scale mel loss."""

import pytest
import torch

from distill.codec.losses import REPORT_WINDOWS, MultiScaleMelLoss


def noise(seed: int) -> torch.Tensor:
    return torch.randn(2, 8000, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_equal_sounds_have_no_distance_and_unequal_ones_do() -> None:
    loss = MultiScaleMelLoss(16_000, REPORT_WINDOWS)
    assert float(loss(noise(0), noise(0))) == 0
    assert float(loss(noise(0), noise(1))) > 0.1


def test_ten_times_the_amplitude_is_one_decade_in_every_window() -> None:
    loss = MultiScaleMelLoss(16_000, REPORT_WINDOWS)
    assert float(loss(noise(0) * 10, noise(0))) == pytest.approx(len(REPORT_WINDOWS), rel=0.01)


def test_silence_is_finite_with_a_finite_gradient() -> None:
    estimate = torch.zeros(1, 4000, requires_grad=True)
    loss = MultiScaleMelLoss(16_000, REPORT_WINDOWS)(estimate, torch.zeros(1, 4000))
    loss.backward()
    assert estimate.grad is not None
    assert estimate.grad.isfinite().all()
