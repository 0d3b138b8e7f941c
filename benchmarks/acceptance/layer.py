"""Measurements of a memory's layers: speed and agreement of chunk sizes, norms, gradients."""

import statistics
import time
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from distill.prior.memory.associative import associate, feature_size
from distill.prior.memory.block import (
    DEGREE,
    AtlasMAGBlock,
    MemoryStack,
    PersistentMemory,
    QKProjection,
    ValueMemory,
    shards,
)
from distill.prior.memory.config import MemorySize

CHUNKS = (8, 16, 32, 64, 128, 256)
SHARD = 2048
HEADS, VALUE_SIZE = 4, 64
PERSISTENT_SIZE = 64


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
    parts = _inputs(kind, length)
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


def norm_growth(seed: int, with_norm: bool = True) -> float:
    """Ratio of the norms of projected queries after 1 key and after a whole shard.

    Without the norm of the persistent keys the first queries are divided by almost 0.
    """
    memory = _persistent(seed)
    projection = QKProjection(memory)
    if not with_norm:
        projection.norm_sum = torch.zeros_like(projection.norm_sum)
    query, key = _unit(seed + 1, 1, HEADS, SHARD, PERSISTENT_SIZE), _unit(seed + 2, 1, HEADS, SHARD, PERSISTENT_SIZE)
    projected = projection.run(query, key, 64).detach().norm(dim=3).mean(dim=(0, 1))
    return float(projected[0] / projected[-1])


def boundary_error(seed: int, count: int = 4) -> float:
    """Largest difference of both sums to those of the persistent keys at the start of a shard."""
    memory = _persistent(seed)
    projection, keys, worst = QKProjection(memory), memory.keys.detach(), 0.0
    for shard in range(count):
        sums = torch.einsum("hni,hnj->hij", keys, keys), keys.square().sum(dim=(1, 2))
        for found, expected in zip((projection.M_t[0], projection.norm_sum[0]), sums, strict=True):
            worst = max(worst, float((found.detach() - expected).abs().max()))
        key = _unit(seed + 3 + shard, 1, HEADS, SHARD, PERSISTENT_SIZE)
        projection.run(key, key, 64)
        projection.reset_at_shard_boundary()
    return worst


@dataclass(frozen=True)
class ShardGradients:
    """Gradients of a loss in the second of three shards.

    The largest norm in other shards, the smallest in its own and at persistent keys; and the largest absolute value
    that a value memory carries into the next shard.
    """

    outside: float
    inside: float
    persistent: float
    carried: float

    @property
    def stop_at_boundaries(self) -> bool:
        """Whether no gradient crosses a shard boundary, while state does."""
        return self.outside == 0 and min(self.inside, self.persistent, self.carried) > 0


def shard_gradients(seed: int) -> ShardGradients:
    """Gradients through two blocks with windows and memories."""
    width, length = 32, 128
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stack = MemoryStack(width, 2, HEADS, 0.0, MemorySize(8, length, 32, 8))
    x = _unit(seed + 1, 1, 3 * length, width).requires_grad_()

    output = stack(x)[:, length : 2 * length]
    (output * _unit(seed + 2, *output.shape)).sum().backward()
    assert x.grad is not None
    norms = x.grad[0].norm(dim=1).view(3, length)
    persistent = [cast(AtlasMAGBlock, block).memory.persistent.keys.grad for block in stack.blocks]
    sums = torch.zeros(1, HEADS, feature_size(8, DEGREE), VALUE_SIZE)
    held, key = ValueMemory(sums, HEADS // 2), _unit(seed + 3, 1, HEADS, length, 8)
    held.run(key, key, _unit(seed + 4, 1, HEADS, length, VALUE_SIZE), 32)
    held.reset_at_shard_boundary()
    return ShardGradients(
        float(norms[[0, 2]].max()),
        float(norms[1].min()),
        min(0.0 if grad is None else float(grad.norm(dim=-1).min()) for grad in persistent),
        float(held.sums.abs().max()),
    )


def _inputs(kind: Kind, length: int) -> list[Tensor]:
    sizes = (kind.key_size, kind.key_size, VALUE_SIZE)
    return [_unit(seed, 1, HEADS, length, size).requires_grad_() for seed, size in enumerate(sizes)]


def _read(kind: Kind, parts: list[Tensor], chunk: int) -> Tensor:
    """Outputs of a memory whose state is carried from shard to shard."""
    query, key, value = parts
    sums, read = torch.zeros(1, HEADS, feature_size(kind.key_size, kind.degree), VALUE_SIZE), []
    for part in shards(0, query.shape[2], SHARD):
        queries, keys, values = (tensor[:, :, part] for tensor in (query, key, value))
        found, sums = associate(queries, keys, values, sums.detach(), chunk, kind.degree)
        read.append(found)
    return torch.cat(read, dim=2)


def _persistent(seed: int) -> PersistentMemory:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PersistentMemory(PERSISTENT_SIZE, num_heads=HEADS)


def _unit(seed: int, *shape: int) -> Tensor:
    return nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)
