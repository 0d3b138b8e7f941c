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
