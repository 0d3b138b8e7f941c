"""Measurements of a memory's layers: speed and agreement of chunk sizes, norms, gradients."""

import statistics
import time
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from benchmarks.acceptance.point import Figure
from distill.prior.memory.block import (
    DEGREE,
    AtlasMAGBlock,
    LongMemory,
    MemoryShape,
    MemoryStack,
    associate,
    features,
    project,
    shards,
)

CHUNKS = (8, 16, 32, 64, 128, 256)
SHARD, HEADS, VALUE_SIZE, PERSISTENT_SIZE = 2048, 4, 64, 64


@dataclass(frozen=True)
class Kind:
    """Key size and feature degree of a memory with 4 heads and values of size 64."""

    name: str
    key_size: int
    degree: int


PLAIN, FEATURES = Kind("keys of 64", 64, 1), Kind("features of keys of 32", 32, DEGREE)


@dataclass(frozen=True)
class ChunkSpeed:
    """Tokens per second of forward and backward by chunk size.

    `difference` is the largest relative difference of outputs to those of the smallest chunks.
    """

    kind: str
    chunk: int
    tokens_per_second: float
    difference: float


def chunk_speeds(kind: Kind, length: int, rounds: int, chunks: tuple[int, ...] = CHUNKS) -> list[ChunkSpeed]:
    """Median speed of each chunk size over `rounds` interleaved rounds."""
    sizes = (kind.key_size, kind.key_size, VALUE_SIZE)
    parts = [_unit(seed, 1, HEADS, length, size).requires_grad_() for seed, size in enumerate(sizes)]
    first = _read(kind, parts, chunks[0]).detach()
    scale = float(first.abs().max())
    differences = [float((_read(kind, parts, chunk).detach() - first).abs().max()) / scale for chunk in chunks]
    seconds: dict[int, list[float]] = {chunk: [] for chunk in chunks}
    for _ in range(rounds):
        for chunk in chunks:
            began = time.perf_counter()
            _read(kind, parts, chunk).sum().backward()
            seconds[chunk].append(time.perf_counter() - began)
    return [
        ChunkSpeed(kind.name, chunk, length / statistics.median(seconds[chunk]), difference)
        for chunk, difference in zip(chunks, differences, strict=True)
    ]


def _read(kind: Kind, parts: list[Tensor], chunk: int) -> Tensor:
    """Outputs of a memory whose state is carried from shard to shard."""
    query, key, value = parts
    sums, read = features(key[:, :, :1], kind.degree).mT @ torch.zeros_like(value[:, :, :1]), []
    for part in shards(0, query.shape[2], SHARD):
        queries, keys, values = (tensor[:, :, part] for tensor in (query, key, value))
        found, sums = associate(queries, keys, values, sums.detach(), chunk, kind.degree)
        read.append(found)
    return torch.cat(read, dim=2)


def norm_growth(seed: int, with_norm: bool = True) -> float:
    """Ratio of the norms of projected queries after 1 key and after a whole shard.

    Without the norm of the persistent keys the first queries are divided by almost 0.
    """
    memory = _memory(seed)
    state = memory.begin_shard(memory.initial_state(1))
    query, key = _unit(seed + 1, 1, HEADS, SHARD, PERSISTENT_SIZE), _unit(seed + 2, 1, HEADS, SHARD, PERSISTENT_SIZE)
    sums = (state.matrix, state.norm if with_norm else torch.zeros_like(state.norm))
    projected = project(query, key, sums, 64)[0].detach().norm(dim=3).mean(dim=(0, 1))
    return float(projected[0] / projected[-1])


def boundary_error(seed: int, count: int = 4) -> float:
    """Largest difference of both sums to those of the persistent keys at the start of a shard."""
    memory = _memory(seed)
    keys, state, worst = memory.persistent.keys.detach(), memory.initial_state(1), 0.0
    for shard in range(count):
        state = memory.begin_shard(state)
        sums = torch.einsum("hni,hnj->hij", keys, keys), keys.square().sum(dim=(1, 2))
        for found, expected in zip((state.matrix[0], state.norm[0]), sums, strict=True):
            worst = max(worst, float((found.detach() - expected).abs().max()))
        state = memory(_unit(seed + 3 + shard, 1, SHARD, HEADS * VALUE_SIZE), state)
    return worst


@dataclass(frozen=True)
class ShardGradients:
    """Gradients of a loss in the second of three shards.

    The largest norm in other shards, the smallest in its own and at persistent keys; and the largest absolute value
    that the memories carry into the next shard.
    """

    outside: float
    inside: float
    persistent: float
    carried: float

    @property
    def figures(self) -> tuple[Figure, ...]:
        """No gradient is to cross a shard boundary, while state does."""
        return (
            Figure("gradient at other shards", self.outside, "=", 0),
            Figure("least in the shard", self.inside, ">", 0),
            Figure("least at persistent keys", self.persistent, ">", 0),
            Figure("state carried on", self.carried, ">", 0),
        )


def shard_gradients(seed: int) -> ShardGradients:
    """Gradients through two blocks with windows and memories."""
    length = 128
    shape = _shape(num_layers=2, hidden_size=32, context_frames=8, shard_length=length, chunk_size=32, key_size=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stack = MemoryStack(shape)
    x = _unit(seed + 1, 1, 3 * length, shape.hidden_size).requires_grad_()
    states, outputs = stack.initial_state(1), []
    for part in shards(0, x.shape[1], length):
        output, states = stack(x[:, part], states, part.start)
        outputs.append(output)
    (outputs[1] * _unit(seed + 2, *outputs[1].shape)).sum().backward()
    assert x.grad is not None
    norms = x.grad[0].norm(dim=1).view(3, length)
    memories = [cast(AtlasMAGBlock, block).memory for block in stack.blocks]
    gradients = [memory.persistent.keys.grad for memory in memories]
    carried = [memory.begin_shard(state).values for memory, state in zip(memories, states, strict=True)]
    return ShardGradients(
        float(norms[[0, 2]].max()),
        float(norms[1].min()),
        min(0.0 if grad is None else float(grad.norm(dim=-1).min()) for grad in gradients),
        max(float(values.detach().abs().max()) for values in carried),
    )


def _memory(seed: int) -> LongMemory:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LongMemory(_shape(hidden_size=HEADS * VALUE_SIZE, key_size=PERSISTENT_SIZE))


def _shape(**sizes: int) -> MemoryShape:
    memory = {"num_layers": 1, "num_heads": HEADS, "context_frames": 8, "shard_length": SHARD, "chunk_size": 64}
    codes = {"codebook_sizes": (8,), "span_frames": SHARD, "depth_layers": 1, "codeword_size": 1}
    return MemoryShape.model_validate({**memory, **codes, "labels": [], "count_experts": False, **sizes})


def _unit(seed: int, *shape: int) -> Tensor:
    return nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)
