"""Bilateral averages: what wavers is smoothed, what jumps stays, and gaps count as what is beyond the ends."""

import pytest
import torch
from torch import Tensor

from distill.codec.steady import LEAST, steady


def course(seed: int, steps: int = 60, values: int = 4) -> Tensor:
    return torch.randn(1, steps, values, generator=torch.Generator().manual_seed(seed))


def slow(values: Tensor, reach: int, spread: float) -> Tensor:
    """The definition, step by step."""
    found, steps = values.clone(), values.shape[1]
    for t in range(steps):
        beside = range(max(0, t - reach), min(steps, t + reach + 1))
        near = torch.tensor([1 - ((j - t) / (reach + 1)) ** 2 for j in beside])
        other = values[:, beside.start : beside.stop]
        alike = (-((other - values[:, t : t + 1]) ** 2) / 2 / spread**2).clamp_min(LEAST).exp()
        weights = near[:, None] * alike
        found[:, t] = (weights * other).sum(dim=1) / weights.sum(dim=1)
    return found


@pytest.mark.parametrize(("reach", "spread"), [(4, 0.3), (8, 0.15), (16, 0.4)])
def test_averages_are_those_of_the_definition(reach: int, spread: float) -> None:
    values = course(0)
    torch.testing.assert_close(steady(values, reach, spread), slow(values, reach, spread), rtol=0, atol=1e-5)


def test_steady_courses_lose_their_flutter_and_jumps_stay() -> None:
    flutter = 0.05 * course(0)
    jump = torch.where(torch.arange(60) < 30, -4.0, -1.0)[None, :, None]
    found = steady(jump + flutter, 4, 0.3)
    assert float((found - jump).std()) < 0.5 * float(flutter.std())
    assert float((found - jump).abs().max()) < 0.15
    torch.testing.assert_close(steady(jump + 0 * flutter, 4, 0.3), jump + 0 * flutter, rtol=0, atol=1e-5)


def test_gaps_count_as_what_is_beyond_the_ends() -> None:
    first, second = 0.1 * course(1, 20), 0.1 * course(2, 25)
    gap = torch.full((1, 8, 4), 0.05)
    inside = torch.cat([torch.ones(20), torch.zeros(8), torch.ones(25)])
    found = steady(torch.cat([first, gap, second], dim=1), 8, 0.3, inside)
    torch.testing.assert_close(found[:, :20], steady(first, 8, 0.3))
    torch.testing.assert_close(found[:, 28:], steady(second, 8, 0.3))


def test_the_gradient_is_that_of_averages() -> None:
    values = torch.zeros(1, 9, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(steady(values, 2, 0.3).sum(), values)
    assert float(gradient.sum()) == pytest.approx(9, abs=1e-4)
    assert float(gradient[0, 4]) == pytest.approx(1, abs=1e-4)
