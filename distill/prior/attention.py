"""Causal attention of a sequence to itself, as fast as this device and precision allow."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 128  # queries at a time: half of a long sequence's scores are never computed


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Queries, keys and values `[B, H, T, D / H]` to `[B, H, T, D / H]`; position `t` attends to positions up to `t`.

    torch's fused attention for CPUs takes longer in bf16 than in fp32, and its backward pass three times as long as
    matrix products take.
    """
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        return _Chunked.apply(query, key, value, query.shape[2])  # type: ignore[no-any-return, no-untyped-call]
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)


def window_attention(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """Queries `[B, H, T, D / H]` to as much; a position attends to `window` positions, itself the last of them.

    Keys and values `[B, H, P + T, D / H]` may begin with those of P positions before. Time and memory grow with T * window.
    """
    return _Chunked.apply(query, key, value, window)  # type: ignore[no-any-return, no-untyped-call]


class _Chunked(torch.autograd.Function):
    """Some queries at a time against the keys that they attend to, in batched matrix products."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
        ctx.shapes, ctx.window = (query.shape, key.shape), window
        query, key, value = (part.reshape(-1, *part.shape[2:]) for part in (query, key, value))
        mixed, weights = torch.empty_like(query), []
        for chunk, seen, mask in _chunks(query, key, window):
            scores = torch.baddbmm(mask, query[:, chunk], key[:, seen].mT, alpha=query.shape[2] ** -0.5)
            weights.append(torch.softmax(scores, -1))
            mixed[:, chunk] = torch.bmm(weights[-1], value[:, seen])
        ctx.save_for_backward(query, key, value, *weights)
        return mixed.view(ctx.shapes[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *weights = ctx.saved_tensors
        gradient = gradient.reshape(query.shape)
        to_query, to_key, to_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        chunks = [(chunk, seen) for chunk, seen, _ in _chunks(query, key, ctx.window)]
        for (chunk, seen), weight in reversed(list(zip(chunks, weights, strict=True))):
            part = gradient[:, chunk]
            to_weight = torch.bmm(part, value[:, seen].mT)
            to_score = torch._softmax_backward_data(to_weight, weight, -1, weight.dtype)
            to_query[:, chunk] = torch.bmm(to_score, key[:, seen])
            to_key[:, seen] += torch.bmm(to_score.mT, query[:, chunk])
            to_value[:, seen] += torch.bmm(weight.mT, part)
        scale, (shape, seen_shape) = query.shape[2] ** -0.5, ctx.shapes
        return to_query.mul_(scale).view(shape), to_key.mul_(scale).view(seen_shape), to_value.view(seen_shape), None


def _chunks(query: Tensor, key: Tensor, window: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Queries that are taken together, the keys that any of them attends to, and -inf where one of them does not."""
    count, earlier = query.shape[1], key.shape[1] - query.shape[1]
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        first, last = max(0, earlier + start - window + 1), earlier + stop
        place = earlier + start - first  # of the first query among the keys
        never = torch.full((stop - start, last - first), -torch.inf, dtype=query.dtype, device=query.device)
        mask = never.triu(place + 1)
        if last - first > window:
            mask += never.tril(place - window)
        yield slice(start, stop), slice(first, last), mask
