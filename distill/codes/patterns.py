"""Codebook patterns: layouts of codes `[B, F, Q]` for a prior, apart from the networks that use them."""

import torch
from torch import Tensor


def flatten_codes(codes: Tensor) -> Tensor:
    """Flattening pattern: `[B, F, Q]` to `[B, F * Q]`, frame by frame, coarse level first."""
    return codes.reshape(codes.shape[0], -1)


def unflatten_codes(tokens: Tensor, num_quantizers: int) -> Tensor:
    """Inverse of `flatten_codes`: `[B, F * Q, ...]` to `[B, F, Q, ...]`.

    Raises ValueError when the length is no whole number of frames.
    """
    if tokens.shape[1] % num_quantizers:
        raise ValueError(f"expected a multiple of {num_quantizers} tokens, found {tokens.shape[1]}")
    return tokens.reshape(tokens.shape[0], -1, num_quantizers, *tokens.shape[2:])


def flatten_window(inputs: Tensor, targets: Tensor) -> Tensor:
    """Flattened input tokens `[B, T * Q]`: those one position before each code of `targets` `[B, T, Q]`.

    Targets are the frames after `inputs` `[B, T, Q]`. The first token is the last code of the first input; IGNORED
    becomes 0.
    """
    return torch.cat([inputs[:, 0, -1:], flatten_codes(targets)[:, :-1]], dim=1).clamp_min(0)


def delay_codes(codes: Tensor, fill: int) -> Tensor:
    """Delay pattern (Copet et al. 2023): `[B, F, Q]` to `[B, F + Q - 1, Q]`, level q later by q, padded with `fill`."""
    batch, frames, levels = codes.shape
    delayed = codes.new_full((batch, frames + levels - 1, levels), fill)
    for level in range(levels):
        delayed[:, level : level + frames, level] = codes[..., level]
    return delayed


def undelay(delayed: Tensor) -> Tensor:
    """Inverse of `delay_codes`: `[B, F + Q - 1, Q, ...]` to `[B, F, Q, ...]`.

    Raises ValueError when there are fewer positions than levels.
    """
    levels = delayed.shape[2]
    frames = delayed.shape[1] - levels + 1
    if frames < 1:
        raise ValueError(f"expected at least {levels} positions, found {delayed.shape[1]}")
    return torch.stack([delayed[:, level : level + frames, level] for level in range(levels)], dim=2)
