"""Blocks with a memory: equality with the recurrence, boundaries of shards, causality, constant state."""

import itertools
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distill.prior.memory import block
from distill.prior.memory.block import MemoryStack, features, shards
from unit.tiny import prior_shape

SHARD, WINDOW, WIDTH, HEADS = 32, 5, 16, 4
LONG = 2 * SHARD + 9


def unit(*shape: int, seed: int = 0) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=-1)


@given(st.integers(1, 12), st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_products_of_features_are_squares_of_products(size: int, seed: int) -> None:
    x, y = unit(2, 5, size, seed=seed)
    assert features(x, 2).shape == (5, size * (size + 1) // 2)
    torch.testing.assert_close((features(x, 2) * features(y, 2)).sum(1), (x * y).sum(1) ** 2)


def slow_association(
    query: Tensor, key: Tensor, value: Tensor, memory: Tensor, _: int, degree: int
) -> tuple[Tensor, Tensor]:
    read = []
    for q, k, v in zip(query.unbind(2), key.unbind(2), value.unbind(2), strict=True):
        memory = memory + torch.einsum("bhf,bhe->bhfe", features(k, degree), v)
        read.append(torch.einsum("bhf,bhfe->bhe", features(q, degree), memory))
    return torch.stack(read, dim=2), memory


def association_parts(length: int, degree: int) -> list[Tensor]:
    sizes = ((length, 5), (length, 5), (length, 3), (5 if degree == 1 else 15, 3))
    return [unit(2, 2, *size, seed=length + number) for number, size in enumerate(sizes)]


@pytest.mark.parametrize("run", [block.chunk_by_chunk, block.chunks_in_parallel])
@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("length", [1, 7, 64, 66])
def test_chunks_equal_position_by_position(run: Callable[..., tuple[Tensor, Tensor]], length: int, degree: int) -> None:
    for chunk_size in (1, 8, 64):
        results = []
        for form in (run, slow_association):
            parts = [part.requires_grad_() for part in association_parts(length, degree)]
            read, memory = form(*parts, chunk_size, degree)
            ((read * unit(2, 2, length, 3, seed=1)).sum() + memory.square().sum()).backward()
            results.append([read, memory, *(part.grad for part in parts)])
        torch.testing.assert_close(*results)


def test_projection_equals_the_recurrence() -> None:
    query, key = unit(1, 2, 20, 8, seed=1), unit(1, 2, 20, 8, seed=2)
    start = unit(1, 2, 8, 8, seed=3)
    matrix, norm = start @ start.mT, torch.rand(1, 2, dtype=torch.float64)
    found = block.project(query, key, (matrix, norm), 8)
    rows = []
    for q, k in zip(query.unbind(2), key.unbind(2), strict=True):
        matrix, norm = matrix + k[..., :, None] * k[..., None, :], norm + k.square().sum(dim=-1)
        rows.append((matrix @ q[..., None])[..., 0] / norm[..., None])
    torch.testing.assert_close(found, (torch.stack(rows, dim=2), matrix, norm))


def stack() -> MemoryStack:
    sizes = {"hidden_size": WIDTH, "num_heads": HEADS, "num_layers": 2, "context_frames": WINDOW, "shard_length": SHARD}
    shape = prior_shape("memory", **sizes, chunk_size=8, key_size=4)
    torch.manual_seed(0)
    made = MemoryStack(shape).eval().double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.5)
    return made


def memories(model: MemoryStack) -> list[block.LongMemory]:
    return [layer.memory for layer in model.blocks if isinstance(layer, block.AtlasMAGBlock)]


def sequence(batch: int = 1, length: int = LONG) -> Tensor:
    return torch.randn(batch, length, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def run(model: MemoryStack, x: Tensor, cuts: Sequence[int] = ()) -> tuple[Tensor, list[block.BlockState]]:
    """Outputs of a sequence that comes in parts, and the states after it."""
    states, outputs = model.initial_state(len(x)), []
    for first, stop in itertools.pairwise([0, *cuts, x.shape[1]]):
        for part in shards(first, stop - first, SHARD):
            position = first + part.start
            output, states = model(x[:, position : first + part.stop], states, position)
            outputs.append(output)
    return torch.cat(outputs, dim=1), states


@pytest.mark.parametrize("cut", [1, SHARD - 1, SHARD, SHARD + 1, 2 * SHARD])
def test_a_sequence_in_parts_equals_the_whole(cut: int) -> None:
    torch.testing.assert_close(run(stack(), sequence(), [cut])[0], run(stack(), sequence())[0])


@torch.inference_mode()
def test_position_by_position_equals_the_whole_and_the_state_does_not_grow() -> None:
    model, x = stack(), sequence(3)
    expected, states = run(model, x)[0], model.initial_state(3)
    sizes = []
    for position in range(LONG):
        if position == SHARD + 7:
            states, x, expected = [state.rows(torch.tensor([2, 0])) for state in states], x[[2, 0]], expected[[2, 0]]
        output, states = model(x[:, position : position + 1], states, position)
        torch.testing.assert_close(output, expected[:, position : position + 1])
        sizes.append(sum(part[0].numel() for state in states for part in state))
    assert len(set(sizes[WINDOW:])) == 1


def test_shards_begin_with_the_persistent_sums_and_what_is_carried() -> None:
    model = stack()
    for memory, state in zip(memories(model), run(model, sequence())[1], strict=True):
        after, keys = memory.begin_shard(state), memory.persistent.keys
        torch.testing.assert_close(after.matrix[0], torch.einsum("hni,hnj->hij", keys, keys))
        torch.testing.assert_close(after.norm[0], keys.norm(dim=2).square().sum(dim=1))
        assert torch.equal(after.values[:, :2], state.values[:, :2])
        assert state.values[:, 2:].abs().max() > 0 == after.values[:, 2:].abs().max()
        assert not any(part.requires_grad for part in (after.values, after.recent, after.tail))


def test_no_gradient_crosses_a_shard_boundary() -> None:
    model, x = stack(), sequence(length=3 * SHARD).requires_grad_()
    run(model, x)[0][:, SHARD : 2 * SHARD].square().sum().backward()
    assert x.grad is not None
    assert torch.equal((x.grad != 0).any(dim=2)[0].nonzero()[:, 0], torch.arange(SHARD, 2 * SHARD))
    for memory in memories(model):
        assert memory.persistent.keys.grad is not None  # what a shard begins with is learnt
        assert (memory.persistent.keys.grad != 0).all()


def test_later_positions_have_no_influence_and_distant_ones_have() -> None:
    model, x, position = stack(), sequence(), SHARD + 3
    changed, beyond = x.clone(), position + model.reach
    changed[:, position] = changed[:, position].flip(-1)  # a constant would be lost in the norms
    before, after = run(model, x)[0], run(model, changed)[0]
    assert torch.equal(before[:, :position], after[:, :position])
    assert (before[:, beyond:] != after[:, beyond:]).any()
    for memory in memories(model):
        memory.ablated = True
    before, after = run(model, x)[0], run(model, changed)[0]
    assert torch.equal(before[:, beyond:], after[:, beyond:])
    assert (before[:, position : position + 2] != after[:, position : position + 2]).any()
