"""Averages over time where a course is steady: what wavers from step to step is smoothed, and what jumps stays.

Shapes: B batch, T steps, C values of a step.
"""

import torch
from torch import Tensor, nn

LEAST = -30.0  # exponent of a weight: smaller numbers are subnormal, with which processors are slow


def steady(values: Tensor, reach: int, spread: float, inside: Tensor | None = None) -> Tensor:
    """Averages `[B, T, C]` of values `[B, T, C]` over `reach` steps to each side, of those that differ little.

    The filter is bilateral (Tomasi and Manduchi 1998, "Bilateral filtering for gray and color images"): weights fall with
    the distance in time and, as a normal distribution whose deviation is `spread`, with the difference. Steps where `inside`
    `[T]` is 0, in gaps between sounds, and those beyond the ends have none.
    """
    steps = values.shape[1]
    padded = nn.functional.pad(values, (0, 0, reach, reach))
    is_sound = values.new_ones(steps) if inside is None else inside
    is_sound = nn.functional.pad(is_sound, (reach, reach))[:, None]
    moved, total = torch.zeros_like(values), torch.zeros_like(values)
    for place in range(2 * reach + 1):
        near = slice(place, place + steps)
        difference = padded[:, near] - values
        closeness = 1 - ((place - reach) / (reach + 1)) ** 2
        exponent = difference.detach().square() * (-0.5 / spread**2)
        weight = exponent.clamp_min(LEAST).exp() * (is_sound[near] * closeness)
        moved, total = torch.addcmul(moved, weight, difference), total + weight
    return values + moved / total.clamp_min(1e-6)
