"""Measurements of a memory's layers, and that they detect faults."""

import pytest
import torch
from torch import Tensor

from benchmarks.acceptance import layer
from benchmarks.acceptance.layer import (
    FEATURES,
    PLAIN,
    boundary_error,
    chunk_speeds,
    norm_growth,
    shard_gradients,
)
from distill.prior.memory.block import QKProjection, ValueMemory


@pytest.mark.parametrize("kind", [PLAIN, FEATURES])
def test_chunk_sizes_read_the_same_and_speeds_are_measured(kind: layer.Kind) -> None:
    speeds = chunk_speeds(kind, 300, 2, (8, 64))
    assert [speed.chunk for speed in speeds] == [8, 64]
    assert speeds[0].difference == 0 < speeds[1].difference < 1e-4
    assert all(speed.tokens_per_second > 0 for speed in speeds)


def test_the_norm_keeps_projected_queries_as_long() -> None:
    assert 1 / 3 < norm_growth(0) < 3
    assert norm_growth(0, with_norm=False) > 10


def test_shards_begin_with_both_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    assert boundary_error(0) < 1e-4

    def forget_the_norm(projection: QKProjection) -> None:
        projection.M_t = projection.persistent.m_persistent.expand_as(projection.M_t)

    monkeypatch.setattr(QKProjection, "reset_at_shard_boundary", forget_the_norm)
    assert boundary_error(0) > 100


def test_gradients_stop_at_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shard_gradients(0).stop_at_boundaries

    def let_through(memory: ValueMemory) -> None:
        del memory

    monkeypatch.setattr(ValueMemory, "reset_at_shard_boundary", let_through)
    found = shard_gradients(0)
    assert found.outside > 0
    assert not found.stop_at_boundaries


def test_a_memory_that_carries_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(memory: ValueMemory) -> None:
        memory.sums = torch.zeros_like(memory.sums)

    monkeypatch.setattr(ValueMemory, "reset_at_shard_boundary", forget)
    assert shard_gradients(0).carried == 0
    assert not shard_gradients(0).stop_at_boundaries


def test_a_projection_that_learns_nothing_at_the_boundary_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    run = QKProjection.run

    def without_persistent_gradient(projection: QKProjection, *given: Tensor) -> Tensor:
        projection.M_t, projection.norm_sum = projection.M_t.detach(), projection.norm_sum.detach()
        return run(projection, *given)

    monkeypatch.setattr(QKProjection, "run", without_persistent_gradient)
    assert shard_gradients(0).persistent == 0
