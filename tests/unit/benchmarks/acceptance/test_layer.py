"""Measurements of a memory's layers, and that they detect faults."""

import math
from collections.abc import Callable

import pytest
import torch

from benchmarks.acceptance.layer import boundary_error, norm_growth, shard_gradients
from benchmarks.acceptance.probes import Findings, figures_of, what_remembers, worst
from distill.prior.memory.block import BlockState, LongMemory
from distill.prior.memory.probe import ABLATIONS, FIGURES

BEGIN, KINDS = LongMemory.begin_shard, (*ABLATIONS, "_absent")


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
    found = {f"{name}{kind}": 0.9 * (kind in ("", "_blocks_ablated")) for name in FIGURES for kind in KINDS}
    mechanism = {"mechanism": 0.9, "mechanism_absent": 0.0, "mechanism_shuffled": 0.0}
    return {**found, **mechanism, "chance": 0.1, **changes}


def test_probes_pass_where_needles_are_retrieved_and_controls_are_at_chance() -> None:
    def missed(**changes: float) -> list[str]:
        return [figure.name for figure in figures_of(findings(**changes)) if not figure.passed]

    assert missed() == missed(top1_ablated=0.15) == missed(top1_retrieval_ablated=0.9) == []
    needles = {"mechanism": 0.7, "top1": 0.7, "ranked_blocks_ablated": 0.7}
    for name, value in {**needles, "in_situ_absent": 0.3, "ranked_absent": 0.3}.items():
        assert missed(**{name: value}) == [name]
    for name, value in {"top1_ablated": 0.16, "ranked_ablated": 0.07}.items():
        assert missed(**{name: value}) == [f"{name} above chance"]
    assert missed(ranked_retrieval_ablated=math.nan) == ["ranked_retrieval_ablated"]


def test_of_several_seeds_the_worst_counts_and_the_mean_of_what_is_at_chance() -> None:
    low, high = findings(), findings(**dict.fromkeys(findings(), 1.0))
    found = worst([low, high])
    assert [found[f"ranked{kind}"] for kind in ("", "_blocks_ablated", "_retrieval_ablated")] == [0.9, 0.9, 0.0]
    assert [found[f"ranked{kind}"] for kind in ("_absent", "_ablated")] == [1.0, 0.5]
    assert found["mechanism_shuffled"] == 1.0


@pytest.mark.parametrize(
    ("blocks", "retrieval", "remembers"),
    [(0.0, 0.9, "retrieval"), (0.9, 0.9, "retrieval and the memories of the blocks"), (0.0, 0.1, "neither")],
)
def test_a_sentence_says_what_remembers(blocks: float, retrieval: float, remembers: str) -> None:
    said = what_remembers(findings(ranked_retrieval_ablated=blocks, ranked_blocks_ablated=retrieval))
    assert f"retrieval alone {retrieval:.0%}, the memories of the blocks alone {blocks:.0%}" in said
    assert said.endswith(f": what remembers is {remembers}")
