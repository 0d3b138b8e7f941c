"""Causal and sliding-window self-attention, by the fastest kernel for the device and precision."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

CHUNK = 128  # queries at a time: skips the masked half of a long sequence's scores


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Context that disables autocast; free if autocast is off."""
    return (
        torch.autocast(device, enabled=False)
        if torch.is_autocast_enabled(device)
        else nullcontext()
    )


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention: queries, keys and values `[B, H, T, D / H]` to `[B, H, T, D / H]`."""
    # On CPUs torch's fused attention is slower in bf16 than in fp32; its backward takes three times as long as matmuls.
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        return window_attention(query, key, value, query.shape[2])
    return scaled_dot_product_attention(query, key, value, is_causal=True)


def window_attention(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """Sliding-window attention: queries `[B, H, T, D / H]` to outputs of the same shape.

    A position attends to itself and the `window` - 1 positions before it. Keys and values `[B, H, P + T, D / H]` may
    start with P earlier positions. Time and memory grow with T * window.
    """
    if query.shape[2] == 1:
        return scaled_dot_product_attention(query, key[:, :, -window:], value[:, :, -window:])
    return _Chunked.apply(query, key, value, window)  # type: ignore[no-any-return, no-untyped-call]


class _Chunked(torch.autograd.Function):
    """Window attention in chunks of queries, as batched matrix products."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
        ctx.shapes, ctx.window = (query.shape, key.shape), window
        query, key, value = (part.flatten(0, 1) for part in (query, key, value))
        output, weights = torch.empty_like(query), []
        for chunk, span, mask in _chunks(query, key, window):
            scores = torch.baddbmm(
                mask, query[:, chunk], key[:, span].mT, alpha=query.shape[2] ** -0.5
            )
            weights.append(torch.softmax(scores, -1))
            output[:, chunk] = torch.bmm(weights[-1], value[:, span])
        ctx.save_for_backward(query, key, value, *weights)
        return output.view(ctx.shapes[0])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *weights = ctx.saved_tensors
        grad_output = grad_outputs[0].reshape(query.shape)
        grad_query, grad_key, grad_value = (
            torch.empty_like(query),
            torch.zeros_like(key),
            torch.zeros_like(value),
        )
        chunks = list(_chunks(query, key, ctx.window))
        for (chunk, span, _), weight in reversed(list(zip(chunks, weights, strict=True))):
            grad = grad_output[:, chunk]
            grad_weight = torch.bmm(grad, value[:, span].mT)
            grad_score = torch._softmax_backward_data(grad_weight, weight, -1, weight.dtype)
            grad_query[:, chunk] = torch.bmm(grad_score, key[:, span])
            grad_key[:, span] += torch.bmm(grad_score.mT, query[:, chunk])
            grad_value[:, span] += torch.bmm(weight.mT, grad)
        scale, (shape, key_shape) = query.shape[2] ** -0.5, ctx.shapes
        return (
            grad_query.mul_(scale).view(shape),
            grad_key.mul_(scale).view(key_shape),
            grad_value.view(key_shape),
            None,
        )


def _chunks(query: Tensor, key: Tensor, window: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Slices of queries, slices of the keys they attend to, and the additive mask between them."""
    count, offset = query.shape[1], key.shape[1] - query.shape[1]
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        first, last = max(0, offset + start - window + 1), offset + stop
        diagonal = offset + start - first  # index of the first query among the keys
        blocked = torch.full(
            (stop - start, last - first), -torch.inf, dtype=query.dtype, device=query.device
        )
        mask = blocked.triu(diagonal + 1)
        if last - first > window:
            mask += blocked.tril(diagonal - window)
        yield slice(start, stop), slice(first, last), mask
