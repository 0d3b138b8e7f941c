"""Chunked attention against a slow version."""

import pytest
import torch
from torch import Tensor

from distill.prior.attention import CHUNK, causal_attention


def slow_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention position by position."""
    rows = []
    for t in range(query.shape[2]):
        scores = torch.einsum("bhd,bhsd->bhs", query[:, :, t], key[:, :, : t + 1]) / query.shape[3] ** 0.5
        rows.append(torch.einsum("bhs,bhsd->bhd", scores.softmax(-1), value[:, :, : t + 1]))
    return torch.stack(rows, dim=2)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.detach().double() - expected.detach().double()).norm() / expected.detach().double().norm())


@pytest.mark.parametrize("count", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 9])
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


def test_later_positions_have_no_influence() -> None:
    count = 2 * CHUNK + 9
    values = torch.randn(3, 1, 2, count, 8, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    changed = values.clone()
    position = CHUNK + 5
    changed[:, :, :, position:] += 1
    before, after = causal_attention(*values), causal_attention(*changed)
    assert torch.equal(before[:, :, :position], after[:, :, :position])
    assert not torch.equal(before[:, :, position:], after[:, :, position:])
