"""Causal attention of a sequence to itself, as fast as this device and precision allow."""

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
        return _Chunked.apply(query, key, value)  # type: ignore[no-any-return, no-untyped-call]
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)


class _Chunked(torch.autograd.Function):
    """Some queries at a time against the keys up to the last of them, in batched matrix products."""

    @staticmethod
    def forward(ctx: Any, *qkv: Tensor) -> Tensor:
        shape = qkv[0].shape
        query, key, value = (part.reshape(-1, *shape[2:]) for part in qkv)
        mixed, weights = torch.empty_like(query), []
        for start, stop in _chunks(shape[2]):
            mask = torch.full((stop - start, stop), -torch.inf, dtype=query.dtype).triu_(start + 1)
            scores = torch.baddbmm(mask, query[:, start:stop], key[:, :stop].mT, alpha=shape[3] ** -0.5)
            weights.append(torch.softmax(scores, -1))
            mixed[:, start:stop] = torch.bmm(weights[-1], value[:, :stop])
        ctx.shape = shape
        ctx.save_for_backward(query, key, value, *weights)
        return mixed.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        query, key, value, *weights = ctx.saved_tensors
        gradient = gradient.reshape(query.shape)
        to_query, to_key, to_value = torch.empty_like(query), torch.empty(0), torch.empty(0)
        for (start, stop), weight in reversed(list(zip(_chunks(query.shape[1]), weights, strict=True))):
            part = gradient[:, start:stop]
            to_weight = torch.bmm(part, value[:, :stop].mT)
            to_score = torch._softmax_backward_data(to_weight, weight, -1, weight.dtype)
            to_query[:, start:stop] = torch.bmm(to_score, key[:, :stop])
            of_key, of_value = torch.bmm(to_score.mT, query[:, start:stop]), torch.bmm(weight.mT, part)
            if stop == query.shape[1]:  # the last chunk, taken first, is about every key
                to_key, to_value = of_key, of_value
            else:
                to_key[:, :stop] += of_key
                to_value[:, :stop] += of_value
        scale = query.shape[2] ** -0.5
        return tuple(part.view(ctx.shape) for part in (to_query.mul_(scale), to_key.mul_(scale), to_value))


def _chunks(count: int) -> list[tuple[int, int]]:
    return [(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
