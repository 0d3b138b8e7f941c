"""Measurements of a memory's layers: speed and agreement of chunk sizes, norms, gradients."""

import statistics
import time
from typing import cast

import torch
from torch import Tensor, nn

from benchmarks.acceptance.point import Figure
from distill.params import default_values
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
from distill.progress import Progress

SHARD, HEADS, VALUE_SIZE, PERSISTENT_SIZE = 2048, 4, 64, 64


def chunk_figures(length: int, rounds: int, progress: Progress) -> list[Figure]:
    """Agreement of all chunk sizes, and speed of the chosen one beside the best, of two kinds of keys."""
    chosen = int(default_values()["prior"]["memory"]["chunk_size"])
    differences, figures = [], []
    for number, (name, key_size, degree) in enumerate(
        (("keys of 64", 64, 1), ("features of keys of 32", 32, DEGREE))
    ):
        progress(number, 2, "chunk sizes")
        seconds, difference = _chunk_seconds(key_size, degree, length, rounds)
        differences.append(difference)
        speed = min(seconds.values()) / seconds[chosen]
        figures.append(Figure(f"speed with {name}, beside the best", speed, ">=", 0.7))
    return [
        Figure("relative difference of chunks of 8 to 256", max(differences), "<=", 1e-4),
        *figures,
    ]


def _chunk_seconds(
    key_size: int, degree: int, length: int, rounds: int
) -> tuple[dict[int, float], float]:
    """Median seconds of forward and backward by chunk size, interleaved, and the largest relative difference of outputs."""
    sizes, chunks = (key_size, key_size, VALUE_SIZE), (8, 16, 32, 64, 128, 256)
    parts = [
        _unit(seed, 1, HEADS, length, size).requires_grad_() for seed, size in enumerate(sizes)
    ]
    first = _read(degree, parts, chunks[0]).detach()
    differences = [
        float((_read(degree, parts, chunk).detach() - first).abs().max()) for chunk in chunks
    ]
    seconds: dict[int, list[float]] = {chunk: [] for chunk in chunks}
    for _ in range(rounds):
        for chunk in chunks:
            began = time.perf_counter()
            _read(degree, parts, chunk).sum().backward()
            seconds[chunk].append(time.perf_counter() - began)
    medians = {chunk: statistics.median(times) for chunk, times in seconds.items()}
    return medians, max(differences) / float(first.abs().max())


def _read(degree: int, parts: list[Tensor], chunk: int) -> Tensor:
    """Outputs of a memory whose state is carried from shard to shard."""
    query, key, value = parts
    sums, outputs = features(key[:, :, :1], degree).mT @ torch.zeros_like(value[:, :, :1]), []
    for part in shards(0, query.shape[2], SHARD):
        queries, keys, values = (tensor[:, :, part] for tensor in (query, key, value))
        output, sums = associate(queries, keys, values, sums.detach(), chunk, degree)
        outputs.append(output)
    return torch.cat(outputs, dim=2)


def norm_growth(seed: int, with_norm: bool = True) -> float:
    """Ratio of the norms of projected queries after 1 key and after a whole shard: without the norm it is large."""
    memory = _memory(seed)
    state = memory.begin_shard(memory.initial_state(1))
    query, key = (
        _unit(seed + 1, 1, HEADS, SHARD, PERSISTENT_SIZE),
        _unit(seed + 2, 1, HEADS, SHARD, PERSISTENT_SIZE),
    )
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
        for actual, expected in zip((state.matrix[0], state.norm[0]), sums, strict=True):
            worst = max(worst, float((actual.detach() - expected).abs().max()))
        state = memory(_unit(seed + 3 + shard, 1, SHARD, HEADS * VALUE_SIZE), state)
    return worst


def shard_gradients(seed: int) -> tuple[Figure, ...]:
    """Gradients of a loss in the second of three shards, through two blocks with windows and memories.

    None is to cross a shard boundary, while state does.
    """
    length = 128
    shape = _shape(
        num_layers=2,
        hidden_size=32,
        context_frames=8,
        shard_length=length,
        chunk_size=32,
        key_size=8,
    )
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
    carried = [
        memory.begin_shard(state).values for memory, state in zip(memories, states, strict=True)
    ]
    persistent = min(0.0 if grad is None else float(grad.norm(dim=-1).min()) for grad in gradients)
    return (
        Figure("gradient at other shards", float(norms[[0, 2]].max()), "=", 0),
        Figure("least in the shard", float(norms[1].min()), ">", 0),
        Figure("least at persistent keys", persistent, ">", 0),
        Figure(
            "state carried on",
            max(float(values.detach().abs().max()) for values in carried),
            ">",
            0,
        ),
    )


def _memory(seed: int) -> LongMemory:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LongMemory(_shape(hidden_size=HEADS * VALUE_SIZE, key_size=PERSISTENT_SIZE))


def _shape(**sizes: int) -> MemoryShape:
    memory = {
        "num_layers": 1,
        "num_heads": HEADS,
        "context_frames": 8,
        "shard_length": SHARD,
        "chunk_size": 64,
    }
    codes = {"codebook_sizes": (8,), "span_frames": SHARD, "depth_layers": 1, "codeword_size": 1}
    return MemoryShape.model_validate(
        {**memory, **codes, "labels": [], "count_experts": False, **sizes}
    )


def _unit(seed: int, *shape: int) -> Tensor:
    return nn.functional.normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1
    )
