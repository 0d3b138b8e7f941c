"""Statistics of gates, whole and merged from parts."""

import pytest
import torch

from distill.prior.memory.gates import Gates


def test_statistics_equal_those_of_the_gates() -> None:
    torch.manual_seed(0)
    gates = torch.rand(2, 3, 20, 4)
    gates[1] = gates[1] * 0.05 + 0.93
    first, second = Gates.of(gates).figures()
    assert first.mean == pytest.approx(float(gates[0].mean()), abs=1e-5)
    assert first.std == pytest.approx(float(gates[0].std(unbiased=False)), abs=1e-5)
    assert (first.min, first.max) == pytest.approx((float(gates[0].min()), float(gates[0].max())))
    assert first.closed == pytest.approx(float((gates[0] < 0.1).float().mean()))
    assert first.open == pytest.approx(float((gates[0] > 0.9).float().mean()))
    assert second.polarised == 1.0
    assert second.variance == pytest.approx(second.std**2)


def test_merged_parts_equal_the_whole() -> None:
    gates = torch.rand(2, 3, 20, 4)
    parts = Gates.of(gates[:, :, :7]).merge(Gates.of(gates[:, :, 7:]))
    for found, expected in zip(parts, Gates.of(gates), strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(parts.polarisation(), (1 - (2 * gates - 1).abs()).mean())


def test_polarisation_moves_gates_apart() -> None:
    logits = torch.tensor([-1.0, 1.0]).view(1, 1, 2, 1).requires_grad_()
    Gates.of(logits.sigmoid()).polarisation().backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0, 0] > 0 > logits.grad[0, 0, 1, 0]
    assert float(Gates.of(torch.tensor([0.0, 1.0]).view(1, 1, 2, 1)).polarisation()) == 0
