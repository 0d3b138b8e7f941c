"""Statistics of the gates of memories."""

from typing import NamedTuple

import torch
from torch import Tensor

CLOSED, OPEN = 0.1, 0.9  # gates below and above are polarised


class GateFigures(NamedTuple):
    """Statistics of the gates of a layer; `closed` and `open` are shares."""

    mean: float
    std: float
    min: float
    max: float
    closed: float
    open: float

    @property
    def variance(self) -> float:
        """Variance of the gates, at most .25."""
        return self.std**2

    @property
    def polarised(self) -> float:
        """Share of gates that are closed or open."""
        return self.closed + self.open


class Gates(NamedTuple):
    """Sums over gates and their extremes, each `[layers]`, which merge over parts of a sequence."""

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
        """Sums and extremes of gates `[layers, B, T, D]`."""
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
        """Merge with the gates of another part."""
        sums = Gates(*(one + two for one, two in zip(self, other, strict=True)))
        return sums._replace(least=torch.minimum(self.least, other.least), most=torch.maximum(self.most, other.most))

    def polarisation(self) -> Tensor:
        """Polarisation loss, the mean of `1 - |2 g - 1|`: 0 for gates at 0 or 1, 1 for gates at .5."""
        return (self.undecided / self.number).mean()

    def figures(self) -> list[GateFigures]:
        """Statistics of each layer."""
        mean = self.total / self.number
        std = (self.squares / self.number - mean.square()).clamp_min(0).sqrt()
        shares = (self.closed / self.number, self.open / self.number)
        rows = torch.stack([mean, std, self.least, self.most, *shares], dim=1).tolist()
        return [GateFigures(*row) for row in rows]
