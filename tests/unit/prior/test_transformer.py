"""Chunked attention against a slow version, and dropout by its statistics."""

import pytest
import torch
from torch import Tensor

from distill.prior.attention import CHUNK, causal_attention
from distill.prior.frame import HistoryDropout
from distill.prior.transformer import Dropout


def slow_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention position by position."""
    rows = []
    for t in range(query.shape[2]):
        scores = torch.einsum("bhd,bhsd->bhs", query[:, :, t], key[:, :, : t + 1]) / query.shape[3] ** 0.5
        rows.append(torch.einsum("bhs,bhsd->bhd", scores.softmax(-1), value[:, :, : t + 1]))
    return torch.stack(rows, dim=2)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.detach().double() - expected.detach().double()).norm() / expected.detach().double().norm())


@pytest.mark.parametrize("count", [1, CHUNK, CHUNK + 1, 2 * CHUNK + 9])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_values_and_gradients_are_those_of_a_slow_version(count: int, dtype: torch.dtype, error: float) -> None:
    generator = torch.Generator().manual_seed(count)
    values = torch.randn(3, 2, 3, count, 16, generator=generator).to(dtype)
    towards = torch.randn(2, 3, count, 16, generator=generator)
    exact, rounded = values.double().requires_grad_(), values.clone().requires_grad_()
    expected, found = slow_attention(*exact), causal_attention(*rounded)
    (expected * towards.double()).sum().backward()
    (found.float() * towards).sum().backward()
    assert exact.grad is not None
    assert rounded.grad is not None
    assert found.dtype == dtype
    assert relative(found, expected) < error
    assert relative(rounded.grad, exact.grad) < error


@pytest.mark.parametrize("probability", [0.01, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_are_dropped_independently_at_the_given_rate(probability: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    kept = Dropout(probability).train()(torch.ones(999, 1001, dtype=dtype)).float()
    dropped = kept == 0
    assert float(dropped.float().mean()) == pytest.approx(probability, abs=0.004)
    assert float(kept.mean()) == pytest.approx(1, abs=0.05)
    both = float((dropped[1:] & dropped[:-1]).float().mean()), float((dropped[:, 1:] & dropped[:, :-1]).float().mean())
    assert both == pytest.approx((probability**2, probability**2), abs=0.008)


@pytest.mark.parametrize("kind", [Dropout, HistoryDropout])
@pytest.mark.parametrize(("probability", "training"), [(0.0, True), (0.5, False)])
def test_dropout_is_the_identity_without_training_or_rate(kind: type, probability: float, training: bool) -> None:
    x = torch.ones(2, 5, 3, 4)
    assert kind(probability).train(training)(x) is x


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_frames_lose_their_finer_levels_but_never_the_first_frame(share: float) -> None:
    torch.manual_seed(0)
    kept = HistoryDropout(share).train()(torch.ones(400, 200, 4, 3))
    assert set(kept.unique().tolist()) == {0, 1}
    assert (kept == kept[..., :1]).all()
    assert (kept[:, 0] == 1).all()
    levels = kept[:, 1:, :, 0]
    assert (levels[:, :, 1:] <= levels[:, :, :-1]).all()
    counts = torch.bincount(levels.sum(dim=2).long().flatten(), minlength=5) / levels[:, :, 0].numel()
    assert counts[:4].tolist() == pytest.approx([share / 4] * 4, abs=0.01)
    by_window = (levels.sum(dim=2) < 4).float().mean(dim=1)
    assert float(by_window.min()) < 0.25 * share < 1.75 * share < float(by_window.max())
