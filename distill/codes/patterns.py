"""How codes `[B, F, Q]` are laid out for a prior: index logic apart from the networks that use it."""

import torch
from torch import Tensor


def flatten_codes(codes: Tensor) -> Tensor:
    """`[B, S, Q]` to `[B, S * Q]`: frame after frame, coarse level first."""
    return codes.reshape(codes.shape[0], -1)


def unflatten_codes(tokens: Tensor, num_quantizers: int) -> Tensor:
    """`[B, S * Q, ...]` back to `[B, S, Q, ...]`. Raises ValueError when the length is no whole number of frames."""
    if tokens.shape[1] % num_quantizers:
        raise ValueError(f"expected a multiple of {num_quantizers} tokens, found {tokens.shape[1]}")
    return tokens.reshape(tokens.shape[0], -1, num_quantizers, *tokens.shape[2:])


def flatten_window(inputs: Tensor, targets: Tensor) -> Tensor:
    """The tokens `[B, T * Q]` that come one place before each code of `targets` `[B, T, Q]`, the frames after `inputs`.

    The first is the last code of the first input; codes that are ignored become 0.
    """
    return torch.cat([inputs[:, 0, -1:], flatten_codes(targets)[:, :-1]], dim=1).clamp_min(0)


def delay_codes(codes: Tensor, fill: int) -> Tensor:
    """`[B, F, Q]` to `[B, F + Q - 1, Q]`: level q comes q places later; what that leaves free is `fill`."""
    batch, frames, levels = codes.shape
    delayed = codes.new_full((batch, frames + levels - 1, levels), fill)
    for level in range(levels):
        delayed[:, level : level + frames, level] = codes[..., level]
    return delayed


def undelay(delayed: Tensor) -> Tensor:
    """`[B, F + Q - 1, Q, ...]` back to `[B, F, Q, ...]`. Raises ValueError when it has fewer places than levels."""
    levels = delayed.shape[2]
    frames = delayed.shape[1] - levels + 1
    if frames < 1:
        raise ValueError(f"expected at least {levels} places, found {delayed.shape[1]}")
    return torch.stack([delayed[:, level : level + frames, level] for level in range(levels)], dim=2)
