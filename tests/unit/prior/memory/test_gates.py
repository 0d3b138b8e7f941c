"""Weight of the polarisation loss, and early failure where gates collapse."""

import itertools

import pytest
import torch

from distill.errors import DistillError
from distill.params import MemoryConfig, default_values
from distill.prior.memory.gates import (
    GateFigures,
    Gates,
    gate_metrics,
    polarisation_weight,
    stop_if_gates_collapse,
)

MEMORY = default_values()["prior"]["memory"]


def figures(std: float, polarised: float = 0.0) -> list[GateFigures]:
    return [GateFigures(0.5, 0.001, 0.0, 1.0, 0.0, 0.0), GateFigures(0.5, std, 0.0, 1.0, polarised / 2, polarised / 2)]


def line(step: int, std: float) -> dict[str, float]:
    return {"step": step, **gate_metrics(figures(std))}


def test_the_weight_is_constant_and_then_decays_to_a_hundredth() -> None:
    memory = MemoryConfig(**{**MEMORY, "polarisation": 2.0, "polarisation_warmup": 0.1})
    weights = [polarisation_weight(step, 1000, memory) for step in range(1001)]
    assert weights[:101] == [2.0] * 101
    assert all(later < sooner for sooner, later in itertools.pairwise(weights[100:]))
    assert weights[550] == pytest.approx(0.2)
    assert weights[1000] == pytest.approx(0.02)
    assert polarisation_weight(5, 10, MemoryConfig(**{**MEMORY, "polarisation_warmup": 1.0})) == MEMORY["polarisation"]


def test_collapsed_gates_stop_training_after_a_hundred_steps() -> None:
    stop_if_gates_collapse(50, 1000, figures(0.005), [])
    with pytest.raises(
        DistillError, match=r"step 100: expected gates .* deviation of at least 0.01, found 0.0050; the mem"
    ):
        stop_if_gates_collapse(100, 1000, figures(0.005), [])
    with pytest.raises(DistillError, match=r"set prior\.architecture: frame, or prior\.memory\.fast_fail: false"):
        stop_if_gates_collapse(10, 100, figures(0.005), [])  # a tenth as long


def test_gates_that_neither_vary_nor_polarise_stop_it_after_five_hundred() -> None:
    log = [line(50, 0.4), line(100, 0.1), line(150, 0.4)]
    stop_if_gates_collapse(450, 1000, figures(0.1), log)
    with pytest.raises(DistillError, match=r"found a variance of 0.0144 after 0.0100 and 0% of them polarised"):
        stop_if_gates_collapse(500, 1000, figures(0.12), log)
    stop_if_gates_collapse(500, 1000, figures(0.123), log)  # half as much again


def test_gates_that_polarised_early_pass() -> None:
    """Their variance was near its bound at the first check: it cannot grow by half."""
    stop_if_gates_collapse(500, 1000, figures(0.45, polarised=0.8), [line(100, 0.45)])


def test_without_a_first_check_the_second_passes() -> None:
    stop_if_gates_collapse(500, 1000, figures(0.1), [{"step": 100, "loss": 1.0}])


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
