"""What the layers of a memory do by themselves: speed and sameness of chunk sizes, norms, gradients."""

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
    MemorySize,
    MemoryStack,
    PersistentMemory,
    QKProjection,
    ValueMemory,
    shards,
)

CHUNKS = (8, 16, 32, 64, 128, 256)
SHARD = 2048
HEADS, VALUE_SIZE = 4, 64
PERSISTENT_SIZE = 64
PASSES = 3  # of a product: forward, and one for each of its factors' gradients


@dataclass(frozen=True)
class Kind:
    """A memory of 4 heads with values of 64 numbers: what its keys are."""

    name: str
    key_size: int
    degree: int


PLAIN, FEATURES = Kind("keys of 64", 64, 1), Kind("features of keys of 32", 32, DEGREE)


@dataclass(frozen=True)
class ChunkSpeed:
    """Forward and backward through a memory chunk by chunk: tokens a second, as a share of a matrix product of the same FLOPs; how
    far what is read is from what the smallest chunks read, as a share of the largest."""

    kind: str
    chunk: int
    tokens_per_second: float
    product_share: float
    difference: float


def chunk_speeds(kind: Kind, length: int, rounds: int, chunks: tuple[int, ...] = CHUNKS) -> list[ChunkSpeed]:
    """All chunk sizes in turn, medians of `rounds`."""
    parts = _inputs(kind, length)
    first = _read(kind, parts, chunks[0]).detach()
    scale = float(first.abs().max())
    differences = [float((_read(kind, parts, chunk).detach() - first).abs().max()) / scale for chunk in chunks]
    seconds: dict[int, list[float]] = {chunk: [] for chunk in chunks}
    shares: dict[int, list[float]] = {chunk: [] for chunk in chunks}
    for _ in range(rounds):
        for chunk in chunks:
            began = time.perf_counter()
            _read(kind, parts, chunk).sum().backward()
            taken = time.perf_counter() - began
            seconds[chunk].append(taken)
            shares[chunk].append(_product_seconds(flops(kind, length, chunk)) / taken)
    median = statistics.median
    return [
        ChunkSpeed(kind.name, chunk, length / median(seconds[chunk]), median(shares[chunk]), difference)
        for chunk, difference in zip(chunks, differences, strict=True)
    ]


def flops(kind: Kind, length: int, chunk: int) -> float:
    """Of the matrix products of `associate`, forward and backward."""
    size = feature_size(kind.key_size, kind.degree)
    a_token = 2 * 2 * size * VALUE_SIZE + 2 * chunk * (kind.key_size + VALUE_SIZE)
    return float(PASSES * HEADS * length * a_token)


def norm_growth(seed: int, with_norm: bool = True) -> float:
    """By how much projected queries are longer after 1 key than after a whole shard, before any norm. Without what persistent keys
    give to the norm a query is divided by almost nothing in the beginning."""
    memory = _persistent(seed)
    projection = QKProjection(memory)
    if not with_norm:
        projection.norm_sum = torch.zeros_like(projection.norm_sum)
    query, key = _unit(seed + 1, 1, HEADS, SHARD, PERSISTENT_SIZE), _unit(seed + 2, 1, HEADS, SHARD, PERSISTENT_SIZE)
    projected = projection.run(query, key, 64).detach().norm(dim=3).mean(dim=(0, 1))
    return float(projected[0] / projected[-1])


def boundary_error(seed: int, count: int = 4) -> float:
    """How far both sums are from those of the persistent keys where shards begin, at most."""
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
    """Of a loss in the second of three shards: the largest gradient at positions of the other shards, the smallest at its own and at
    persistent keys; and the largest number that a value memory carries into the next shard."""

    outside: float
    inside: float
    persistent: float
    carried: float

    @property
    def stop_at_boundaries(self) -> bool:
        """Nothing comes through, and there is something that could."""
        return self.outside == 0 and min(self.inside, self.persistent, self.carried) > 0


def shard_gradients(seed: int) -> ShardGradients:
    """Through two whole blocks, windows and memories."""
    width, length = 32, 128
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stack = MemoryStack(width, 2, HEADS, 0.0, MemorySize(8, length, 32, 8))
    x = _unit(seed + 1, 1, 3 * length, width).requires_grad_()

    heard = stack(x)[:, length : 2 * length]
    (heard * _unit(seed + 2, *heard.shape)).sum().backward()
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
    """What is read of a memory that carries on, shard by shard."""
    query, key, value = parts
    sums, read = torch.zeros(1, HEADS, feature_size(kind.key_size, kind.degree), VALUE_SIZE), []
    for part in shards(0, query.shape[2], SHARD):
        asked, by, written = (given[:, :, part] for given in (query, key, value))
        found, sums = associate(asked, by, written, sums.detach(), chunk, kind.degree)
        read.append(found)
    return torch.cat(read, dim=2)


def _product_seconds(count: float) -> float:
    """How long a product of square matrices takes that has so many FLOPs, from one of 1024."""
    size = 1024
    one = torch.ones(size, size)
    began = time.perf_counter()
    one @ one
    return (time.perf_counter() - began) * count / (2 * size**3)


def _persistent(seed: int) -> PersistentMemory:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PersistentMemory(PERSISTENT_SIZE, num_heads=HEADS)


def _unit(seed: int, *shape: int) -> Tensor:
    return nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)
