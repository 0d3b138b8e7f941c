"""How codes `[B, F, Q]` are laid out as tokens `[B, T]`: index logic apart from the networks that use it."""

from torch import Tensor


def flatten_codes(codes: Tensor) -> Tensor:
    """`[B, S, Q]` to `[B, S * Q]`: frame after frame, coarse level first."""
    return codes.reshape(codes.shape[0], -1)


def unflatten_codes(tokens: Tensor, num_quantizers: int) -> Tensor:
    """`[B, S * Q]` back to `[B, S, Q]`. Raises ValueError when the length is no whole number of frames."""
    if tokens.shape[1] % num_quantizers:
        raise ValueError(f"expected a multiple of {num_quantizers} tokens, found {tokens.shape[1]}")
    return tokens.reshape(tokens.shape[0], -1, num_quantizers)
