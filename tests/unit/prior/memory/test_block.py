"""Blocks with a memory: resets and gradients at shard boundaries, equality with the recurrence, constant state."""

import itertools

import pytest
import torch
from torch import Tensor

from distill.prior.memory.block import (
    AtlasMAGBlock,
    MemorySize,
    MemoryStack,
    PersistentMemory,
    QKProjection,
    ValueMemory,
    shards,
)

SHARD, WINDOW, WIDTH = 32, 5, 16
SIZE = MemorySize(window=WINDOW, shard_length=SHARD, chunk_size=8, key_size=4)


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return torch.nn.functional.normalize(drawn, dim=-1)


def persistent(key_size: int = 8, heads: int = 2) -> PersistentMemory:
    torch.manual_seed(0)
    return PersistentMemory(key_size, num_heads=heads).double()


def test_persistent_sums_are_those_of_the_keys() -> None:
    memory = persistent()
    expected = sum(torch.einsum("hi,hj->hij", key, key) for key in memory.keys.unbind(1))
    torch.testing.assert_close(memory.m_persistent, expected)
    torch.testing.assert_close(memory.norm_persistent, memory.keys.norm(dim=2).square().sum(dim=1))
    torch.testing.assert_close(memory.norm_persistent, memory.m_persistent.diagonal(dim1=1, dim2=2).sum(dim=1))
    assert memory.keys.shape == (2, 64, 8)


def test_shards_begin_with_the_persistent_sums() -> None:
    memory = persistent()
    projection = QKProjection(memory)
    for shard in range(3):
        torch.testing.assert_close(projection.M_t[0], memory.m_persistent)
        torch.testing.assert_close(projection.norm_sum[0], memory.norm_persistent)
        projection.run(unit(1, 2, SHARD, 8, seed=shard), unit(1, 2, SHARD, 8, seed=9 + shard), 8)
        assert float((projection.norm_sum[0] - memory.norm_persistent).min().detach()) > SHARD - 1
        projection.reset_at_shard_boundary()


def test_projection_equals_update_and_project_position_by_position() -> None:
    memory = persistent()
    together, alone = QKProjection(memory), QKProjection(memory)
    query, key = unit(1, 2, 20, 8, seed=1), unit(1, 2, 20, 8, seed=2)
    rows = []
    for position in range(20):
        alone.update(key[:, :, position])
        rows.append(alone.project(query[:, :, position]))
    torch.testing.assert_close(together.run(query, key, 8), torch.stack(rows, dim=2))
    torch.testing.assert_close(together.M_t, alone.M_t)
    torch.testing.assert_close(together.norm_sum, alone.norm_sum)


def test_nothing_is_divided_by_zero() -> None:
    memory = persistent()
    projection = QKProjection(memory, torch.zeros(1, 2, 8, 8).double(), torch.zeros(1, 2).double())
    assert projection.project(unit(1, 2, 8)).abs().max() == 0


def test_value_memory_equals_update_and_read_position_by_position() -> None:
    start = torch.zeros(1, 2, 36, 3, dtype=torch.float64)
    together, alone = ValueMemory(start, 1), ValueMemory(start, 1)
    query, key, value = unit(1, 2, 20, 8, seed=1), unit(1, 2, 20, 8, seed=2), unit(1, 2, 20, 3, seed=3)
    rows = []
    for position in range(20):
        alone.update(key[:, :, position], value[:, :, position])
        rows.append(alone.read(query[:, :, position]))
    torch.testing.assert_close(together.run(query, key, value, 8), torch.stack(rows, dim=2))
    torch.testing.assert_close(together.sums, alone.sums)


def in_shards(keys: list[Tensor], values: list[Tensor], memory: PersistentMemory) -> list[Tensor]:
    """Outputs of both memories shard by shard; of two heads the first is carried."""
    projection, value_memory = QKProjection(memory), ValueMemory(torch.zeros(1, 2, 36, 3, dtype=torch.float64), 1)
    read = []
    for number, (key, value) in enumerate(zip(keys, values, strict=True)):
        if number:
            projection.reset_at_shard_boundary()
            value_memory.reset_at_shard_boundary()
            assert not value_memory.sums.requires_grad
        query = unit(1, 2, SHARD, 8, seed=50)
        read.append(torch.cat([projection.run(query, key, 8), value_memory.run(query, key, value, 8)], dim=3))
    return read


def test_no_gradient_crosses_a_shard_boundary() -> None:
    memory = persistent()
    keys = [unit(1, 2, SHARD, 8, seed=number).requires_grad_() for number in range(3)]
    values = [unit(1, 2, SHARD, 3, seed=10 + number).requires_grad_() for number in range(3)]
    in_shards(keys, values, memory)[1].square().sum().backward()
    for parts in (keys, values):
        assert parts[0].grad is None or not parts[0].grad.any()
        assert parts[2].grad is None or not parts[2].grad.any()
        assert parts[1].grad is not None
        assert (parts[1].grad != 0).any(dim=3).all()
    assert memory.keys.grad is not None  # what a shard begins with is learnt
    assert (memory.keys.grad != 0).all()


def test_only_carried_heads_reach_the_next_shard() -> None:
    memory = persistent()
    keys, values = ([unit(1, 2, SHARD, size, seed=size + number) for number in range(2)] for size in (8, 3))
    before = in_shards(keys, values, memory)[1].detach()
    after = in_shards(keys, [values[0] + 1, values[1]], memory)[1].detach()
    assert (before[:, 0, :, 8:] != after[:, 0, :, 8:]).all()
    assert torch.equal(before[:, 1], after[:, 1])
    assert torch.equal(before[:, 0, :, :8], after[:, 0, :, :8])


def stack(size: MemorySize = SIZE, dtype: torch.dtype = torch.float64) -> MemoryStack:
    torch.manual_seed(0)
    made = MemoryStack(WIDTH, 2, 4, 0.0, size).eval().to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.5)
    return made


def run(model: MemoryStack, x: Tensor, cuts: tuple[int, ...] = ()) -> Tensor:
    state, parts = model.initial_state(len(x)), []
    edges = [0, *cuts, x.shape[1]]
    for first, stop in itertools.pairwise(edges):
        for part in shards(first, stop - first, model.size.shard_length):
            y, state, gates = model.run(x[:, first + part.start : first + part.stop], state)
            assert gates.shape == (2, len(x), part.stop - part.start, WIDTH)
            assert bool(((gates >= 0) & (gates <= 1)).all())
            parts.append(y)
    return torch.cat(parts, dim=1)


LONG = 2 * SHARD + 9


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_chunk_size_changes_nothing(dtype: torch.dtype, tolerance: float) -> None:
    x = torch.randn(2, LONG, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    expected = run(stack(SIZE._replace(chunk_size=1), dtype), x).detach()
    for chunk in (8, 16, 32, 64, 128, 256):
        found = run(stack(SIZE._replace(chunk_size=chunk), dtype), x).detach()
        assert float((found - expected).abs().max()) < tolerance


@pytest.mark.parametrize("cut", [1, SHARD - 1, SHARD, SHARD + 1, 2 * SHARD])
def test_a_sequence_in_parts_equals_the_whole(cut: int) -> None:
    x = torch.randn(1, LONG, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = stack()
    torch.testing.assert_close(run(model, x, (cut,)), run(model, x))


@torch.no_grad()
def test_position_by_position_equals_the_whole_and_the_state_does_not_grow() -> None:
    x = torch.randn(2, LONG, WIDTH, generator=torch.Generator().manual_seed(1))
    model = stack(dtype=torch.float32)
    expected, state, sizes = run(model, x), model.initial_state(2), []
    for position in range(LONG):
        found, state, _ = model.run(x[:, position : position + 1], state)
        assert float((found - expected[:, position : position + 1]).abs().max()) < 1e-4
        sizes.append(state.bytes)
    assert len(set(sizes[WINDOW:])) == 1
    assert state.rows(torch.tensor([1])).bytes == sizes[-1] // 2


def test_later_positions_have_no_influence_and_distant_ones_have() -> None:
    x = torch.randn(1, LONG, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = stack()
    changed = x.clone()
    position = SHARD + 3
    changed[:, position] = changed[:, position].flip(-1)  # a constant would be lost in the norms
    before, after = run(model, x), run(model, changed)
    assert torch.equal(before[:, :position], after[:, :position])
    assert (before[:, position + model.reach :] != after[:, position + model.reach :]).any()
    for block in model.blocks:
        assert isinstance(block, AtlasMAGBlock)
        block.memory.ablated = True
    before, after = run(model, x), run(model, changed)
    assert torch.equal(before[:, position + model.reach :], after[:, position + model.reach :])
    assert (before[:, position : position + 2] != after[:, position : position + 2]).any()


def test_shard_boundaries_do_not_depend_on_cuts() -> None:
    assert shards(0, 0, 4) == []
    assert shards(0, 10, 4) == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert shards(3, 6, 4) == [slice(0, 1), slice(1, 5), slice(5, 6)]
    assert shards(4, 4, 4) == [slice(0, 4)]


def test_rows_of_a_state_continue_alone() -> None:
    model = stack()
    x = torch.randn(3, 12, WIDTH, dtype=torch.float64)
    state = model.run(x[:, :7], model.initial_state(3))[1]
    rows = torch.tensor([2, 0])
    alone = state.rows(rows)
    torch.testing.assert_close(model.run(x[rows, 7:], alone)[0], model.run(x[:, 7:], state)[0][rows])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="hidden_size 10 is no multiple of num_heads 4"):
        MemoryStack(10, 1, 4, 0.0, SIZE)
