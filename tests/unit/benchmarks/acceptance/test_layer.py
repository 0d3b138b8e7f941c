"""Measurements of a memory's layers, and that they detect faults."""

from collections.abc import Callable
from dataclasses import fields

import pytest
import torch

from benchmarks.acceptance.layer import boundary_error, norm_growth, shard_gradients
from benchmarks.acceptance.probes import Findings
from distill.prior.memory.block import BlockState, LongMemory

BEGIN = LongMemory.begin_shard


def test_the_norm_keeps_projected_queries_as_long() -> None:
    assert 1 / 3 < norm_growth(0) < 3
    assert norm_growth(0, with_norm=False) > 10


def forget_the_norm(memory: LongMemory, state: BlockState) -> BlockState:
    return BEGIN(memory, state)._replace(norm=state.norm)


def let_gradients_through(memory: LongMemory, state: BlockState) -> BlockState:
    return BEGIN(memory, state)._replace(values=state.values, recent=state.recent, tail=state.tail)


def carry_nothing(memory: LongMemory, state: BlockState) -> BlockState:
    return BEGIN(memory, state)._replace(values=torch.zeros_like(state.values))


def learn_nothing(memory: LongMemory, state: BlockState) -> BlockState:
    after = BEGIN(memory, state)
    return after._replace(matrix=after.matrix.detach(), norm=after.norm.detach())


@pytest.mark.parametrize(
    ("begin_shard", "error", "stops"),
    [
        (BEGIN, False, True),
        (forget_the_norm, True, True),
        (let_gradients_through, False, False),
        (carry_nothing, False, False),
        (learn_nothing, False, False),
    ],
)
def test_shards_begin_anew_and_stop_gradients(
    begin_shard: Callable[[LongMemory, BlockState], BlockState],
    error: bool,
    stops: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LongMemory, "begin_shard", begin_shard)
    assert (boundary_error(0) > 1e-4) == error
    if not error:
        assert all(figure.passed for figure in shard_gradients(0)) == stops


def findings(**changes: float) -> Findings:
    needles = dict.fromkeys(("mechanism", "in_situ", "top1", "ranked"), 0.9)
    names = (part.name for part in fields(Findings))
    return Findings(**{**dict.fromkeys(names, 0.0), **needles, "chance": 0.1, **changes})


def test_probes_pass_where_needles_are_retrieved_and_controls_are_at_chance() -> None:
    def missed(**changes: float) -> list[str]:
        return [figure.name for figure in findings(**changes).figures if not figure.passed]

    assert missed() == missed(top1_ablated=0.15) == []
    for name, value in {"mechanism": 0.7, "top1": 0.7, "in_situ_absent": 0.3, "ranked_absent": 0.3}.items():
        assert missed(**{name: value}) == [name]
    for name, value in {"top1_ablated": 0.16, "ranked_ablated": 0.07}.items():
        assert missed(**{name: value}) == [f"{name} above chance"]
