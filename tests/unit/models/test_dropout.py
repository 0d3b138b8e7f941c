"""Dropout by bytes of randomness is dropout."""

import pytest
import torch

from distill.models.dropout import Dropout


@pytest.mark.parametrize("probability", [0.01, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_are_kept_as_often_and_as_independently_as_asked(probability: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    dropped = Dropout(probability).train()(torch.ones(999, 1001, dtype=dtype)) == 0
    assert float(dropped.float().mean()) == pytest.approx(probability, abs=0.004)
    both = float((dropped[1:] & dropped[:-1]).float().mean()), float((dropped[:, 1:] & dropped[:, :-1]).float().mean())
    assert both == pytest.approx((probability**2, probability**2), abs=0.008)


def test_the_mean_stays_and_gradients_go_where_values_do() -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 1000, requires_grad=True)
    y = Dropout(0.3).train()(x)
    assert float(y.detach().mean()) == pytest.approx(1, abs=0.01)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize(("probability", "training"), [(0.0, True), (0.5, False)])
def test_otherwise_nothing_happens(probability: float, training: bool) -> None:
    x = torch.ones(3)
    assert Dropout(probability).train(training)(x) is x


def test_the_same_seed_drops_the_same() -> None:
    drop, found = Dropout(0.5).train(), []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(drop(torch.ones(77)))
    assert torch.equal(*found)
