"""Averages over time of steady values: small fluctuations are smoothed, jumps remain.

Shapes: B batch, T steps, C values of a step.
"""

import torch
from torch import Tensor, nn

LEAST = -30.0  # smallest exponent of a weight, to avoid subnormal numbers, which are slow


def steady(values: Tensor, reach: int, spread: float, inside: Tensor | None = None) -> Tensor:
    """Average values `[B, T, C]` over `reach` steps to each side, with low weights for values that differ.

    The filter is bilateral (Tomasi and Manduchi 1998, "Bilateral filtering for gray and color images"). Weights fall
    with the distance in time, and with the difference as a Gaussian of standard deviation `spread`. They are 0 beyond
    the ends and between sounds: `inside` `[T]` is 0 in gaps between sounds.
    """
    steps, later = values.shape[1], (0, 0, 0, reach)
    sounds = torch.zeros_like(values[0, :, 0]) if inside is None else inside
    # [T], a number for each sound and gap
    sounds = nn.functional.pad((sounds.diff() != 0).cumsum(0), (1, 0))
    sounds = nn.functional.pad(sounds, (0, reach), value=-1)
    padded = nn.functional.pad(values, later)
    moved = total = torch.zeros_like(padded)
    for apart in range(1, reach + 1):
        closeness = (1 - (apart / (reach + 1)) ** 2) * (
            sounds[apart : apart + steps] == sounds[:steps]
        )[:, None]
        difference = padded[:, apart : apart + steps] - values
        exponent = difference.detach().square() * (-0.5 / spread**2)
        # Symmetric between the earlier and the later step.
        weight = exponent.clamp_min(LEAST).exp() * closeness
        move, earlier = weight * difference, (0, 0, apart, reach - apart)
        moved = moved + nn.functional.pad(move, later) - nn.functional.pad(move, earlier)
        total = total + nn.functional.pad(weight, later) + nn.functional.pad(weight, earlier)
    return values + (moved / (total + 1))[:, :steps]
