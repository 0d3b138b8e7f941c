"""What the gates of memories are like."""

from typing import NamedTuple

import torch
from torch import Tensor

CLOSED, OPEN = 0.1, 0.9  # gates below and above are polarised


class GateFigures(NamedTuple):
    """The gates of a layer: what `Gates` comes to. `closed` and `open` are shares."""

    mean: float
    std: float
    min: float
    max: float
    closed: float
    open: float

    @property
    def variance(self) -> float:
        """Of gates, at most .25."""
        return self.std**2

    @property
    def polarised(self) -> float:
        """The share that is closed or open."""
        return self.closed + self.open


class Gates(NamedTuple):
    """Sums over gates, and their extremes, each `[layers]`, so that parts of a sequence can be put together."""

    number: Tensor
    total: Tensor
    squares: Tensor
    least: Tensor
    most: Tensor
    closed: Tensor
    open: Tensor
    undecided: Tensor  # sum of 1 - |2 g - 1|, with gradient

    @classmethod
    def of(cls, gates: Tensor) -> "Gates":
        """Of `[layers, B, T, D]`."""
        flat = gates.float().flatten(1)
        detached = flat.detach()
        return cls(
            torch.full_like(detached[:, 0], flat.shape[1]),
            detached.sum(dim=1),
            detached.square().sum(dim=1),
            detached.amin(dim=1),
            detached.amax(dim=1),
            (detached < CLOSED).sum(dim=1).float(),
            (detached > OPEN).sum(dim=1).float(),
            (1 - (2 * flat - 1).abs()).sum(dim=1),
        )

    def merge(self, other: "Gates") -> "Gates":
        """Of both."""
        sums = Gates(*(one + two for one, two in zip(self, other, strict=True)))
        return sums._replace(least=torch.minimum(self.least, other.least), most=torch.maximum(self.most, other.most))

    def polarisation(self) -> Tensor:
        """How far gates are from 0 and 1, from 0 for all that are either to 1 for all that are .5; the mean over layers."""
        return (self.undecided / self.number).mean()

    def figures(self) -> list[GateFigures]:
        """Layer by layer."""
        mean = self.total / self.number
        std = (self.squares / self.number - mean.square()).clamp_min(0).sqrt()
        shares = (self.closed / self.number, self.open / self.number)
        rows = torch.stack([mean, std, self.least, self.most, *shares], dim=1).tolist()
        return [GateFigures(*row) for row in rows]
