"""Associative memory: sums of outer products of keys and values, written and read chunk by chunk."""

from functools import cache

import torch
from torch import Tensor, nn

TAPS = (0.1, 0.2, 0.4, 1.0)  # initial weights of the last positions in a key or query, the newest last


def features(x: Tensor, degree: int) -> Tensor:
    """Polynomial feature map: `features(x) . features(y) = (x . y) ** degree`.

    Vectors `[..., d]` to `x` itself for degree 1 and to its `d (d + 1) / 2` monomials for degree 2 (Behrouz et al.
    2025, Atlas, section 3.1, without lower degrees).
    """
    if degree == 1:
        return x
    size = x.shape[-1]
    scaled, doubled = x * 2**0.5, torch.cat([x, x], dim=-1)
    products = [scaled * doubled[..., shift : shift + size] for shift in range(1, (size + 1) // 2)]
    halves = [scaled[..., : size // 2] * x[..., size // 2 :]] if size % 2 == 0 else []
    return torch.cat([x * x, *products, *halves], dim=-1)


@cache
def feature_pairs(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of both factors and the weight of each monomial of `features` of degree 2, in their order."""
    with torch.inference_mode(False):  # training may use them after sampling did
        first = torch.arange(size * (size + 1) // 2, device=device) % size
        second = (first + torch.arange(len(first), device=device) // size) % size
        return first, second, torch.where(first == second, 1.0, 2**0.5)


def feature_size(key_size: int, degree: int) -> int:
    """Number of features of keys of this size."""
    return key_size if degree == 1 else key_size * (key_size + 1) // 2


def associate(
    query: Tensor, key: Tensor, value: Tensor, start: Tensor | None, chunk_size: int, degree: int
) -> tuple[Tensor, Tensor]:
    """Write and read a memory at every position: `S_t = S_(t - 1) + phi(k_t) v_t'`, `o_t = phi(q_t)' S_t`.

    Queries and keys `[..., T, d]`, values `[..., T, e]`, and the memory before them `[..., features, e]`, None for an
    empty one. Returns the values read `[..., T, e]` and the memory after them. The chunkwise form of linear attention
    (Yang et al. 2024, GLA, section 4) has no loop over positions; `chunk_size` changes the result by rounding only.
    """
    if query.shape[-2] == 1:
        return _at_one_position(query, key, value, start, degree)
    run = chunk_by_chunk if query.device.type == "cpu" else chunks_in_parallel
    return run(query, key, value, start, max(1, chunk_size), degree)


def _at_one_position(
    query: Tensor, key: Tensor, value: Tensor, start: Tensor | None, degree: int
) -> tuple[Tensor, Tensor]:
    """`associate` as it is defined, for T = 1. In inference `start` changes in place: a copy would take most time."""
    both = torch.cat([query, key], dim=-2)
    if degree == 1:
        mapped = both
    else:
        first, second, weights = feature_pairs(both.shape[-1], both.device)
        mapped = both[..., first] * (both[..., second] * weights)
    shape, column = key.shape[:-2], mapped[..., 1:, :].flatten(0, -3).mT
    written = value.flatten(0, -3)
    if start is None:
        memory = torch.bmm(column, written)
    else:
        memory = start.to(value.dtype).flatten(0, -3)
        add = memory.baddbmm_ if torch.is_inference_mode_enabled() else memory.baddbmm
        memory = add(column, written)
    read = torch.bmm(mapped[..., :1, :].flatten(0, -3), memory)
    return read.unflatten(0, shape), memory.unflatten(0, shape)


def chunk_by_chunk(
    query: Tensor, key: Tensor, value: Tensor, start: Tensor | None, chunk_size: int, degree: int
) -> tuple[Tensor, Tensor]:
    """`associate` with a loop over chunks, whose memories stay in a CPU's cache."""
    memory = None if start is None else start.to(value.dtype)  # bf16 where it was computed under autocast
    parts = (query, key, value, features(query, degree), features(key, degree))
    read = []
    for q, k, v, q_features, k_features in zip(*(part.split(chunk_size, dim=-2) for part in parts), strict=True):
        found = _read_within(q, k, v, degree)
        read.append(found if memory is None else found + q_features @ memory)
        written = k_features.mT @ v
        memory = written if memory is None else memory + written
    assert memory is not None
    return torch.cat(read, dim=-2), memory


def chunks_in_parallel(
    query: Tensor, key: Tensor, value: Tensor, start: Tensor | None, chunk_size: int, degree: int
) -> tuple[Tensor, Tensor]:
    """`associate` with all chunks in parallel, for few launches on a GPU."""
    length = query.shape[-2]
    chunk_size = min(chunk_size, length)
    padding = -length % chunk_size
    query, key, value = (_into_chunks(part, padding, chunk_size) for part in (query, key, value))
    chunk_sums = features(key, degree).mT @ value  # [..., N, features, e]
    read = _read_within(query, key, value, degree)
    last = chunk_sums[..., -1, :, :]
    if start is not None or chunk_sums.shape[-3] > 1:
        first = torch.zeros_like(last) if start is None else start
        before = torch.cat([first[..., None, :, :], chunk_sums[..., :-1, :, :]], dim=-3).cumsum(dim=-3)
        read, last = read + features(query, degree) @ before, before[..., -1, :, :] + last
    return read.flatten(-3, -2)[..., :length, :], last


def _read_within(query: Tensor, key: Tensor, value: Tensor, degree: int) -> Tensor:
    """What each position of a chunk reads of those up to it in the same chunk."""
    scores = query @ key.mT
    return (scores if degree == 1 else scores.square()).tril() @ value


def sum_of_taps(inputs: Tensor, taps: Tensor) -> Tensor:
    """Depthwise causal convolution: `[B, taps - 1 + T, D]` to `[B, T, D]`."""
    length = inputs.shape[1] - len(taps) + 1
    return torch.stack([inputs[:, tap : tap + length] * weight for tap, weight in enumerate(taps)]).sum(dim=0)


def _into_chunks(x: Tensor, padding: int, chunk_size: int) -> Tensor:
    """Reshape `[..., T, d]` to `[..., chunks, chunk_size, d]`, padded with zeros, which add nothing to a memory."""
    if padding:
        x = nn.functional.pad(x, (0, 0, 0, padding))
    return x.reshape(*x.shape[:-2], -1, chunk_size, x.shape[-1])
