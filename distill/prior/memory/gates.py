"""Gates of memories: statistics, the weight of the polarisation loss, and early failure where gates collapse."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from distill.errors import DistillError
from distill.params import MemoryConfig

CLOSED, OPEN = 0.1, 0.9  # gates below and above are polarised
FINAL_SHARE = 0.01  # of the initial polarisation weight
MIN_STD = 0.01
MIN_GROWTH = 1.5  # of the gates' variance from the first check to the second
MIN_POLARISED = 0.2
FIRST_CHECK, SECOND_CHECK, FULL_LENGTH = 100, 500, 1000  # steps; shorter trainings check earlier in proportion


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


def polarisation_weight(step: int, total_steps: int, memory: MemoryConfig) -> float:
    """Weight of the polarisation loss: constant through the warm-up, then decaying exponentially to a hundredth."""
    progress = step / max(1, total_steps)
    if progress <= memory.polarisation_warmup:
        return memory.polarisation
    decay_progress = (progress - memory.polarisation_warmup) / (1 - memory.polarisation_warmup)
    return float(memory.polarisation * FINAL_SHARE ** min(1.0, decay_progress))


def gate_metrics(figures: Sequence[GateFigures]) -> dict[str, float]:
    """Gate statistics under their metric names."""
    return {
        f"gates/layer_{layer}/{name}": value
        for layer, figure in enumerate(figures)
        for name, value in figure._asdict().items()
    }


def stop_if_gates_collapse(
    step: int, total_steps: int, figures: Sequence[GateFigures], earlier: Sequence[Mapping[str, float]]
) -> None:
    """Fast-fail: raises DistillError where the gates have collapsed. The layer with the widest gates counts.

    `figures` are those after `step` steps, `earlier` has the metrics that were inspected before.
    Gates have collapsed where their standard deviation is below `MIN_STD` after 100 steps; or where, after 500, their
    variance has not grown by half since then and few are polarised. Gates that polarised early cannot vary ever more:
    the variance of values between 0 and 1 is at most a quarter.
    """
    scale = min(1.0, total_steps / FULL_LENGTH)
    widest = max(figures, key=lambda figure: figure.std)
    advice = (
        "the memory is not used: set prior.architecture: frame, or prior.memory.fast_fail: false to continue training"
    )
    if step >= FIRST_CHECK * scale and widest.std < MIN_STD:
        raise DistillError(
            f"training stopped at step {step}: expected gates of the memory that differ, with a standard "
            f"deviation of at least {MIN_STD}, found {widest.std:.4f}; {advice}"
        )
    if step < SECOND_CHECK * scale:
        return
    first = next((variance_of(line) for line in earlier if has_gates_after(line, FIRST_CHECK * scale)), None)
    polarised = max(figure.polarised for figure in figures)
    if first is not None and widest.variance < MIN_GROWTH * first and polarised < MIN_POLARISED:
        raise DistillError(
            f"training stopped at step {step}: expected gates of the memory that open and close, found a variance of "
            f"{widest.variance:.4f} after {first:.4f} and {polarised:.0%} of them polarised; {advice}"
        )


def has_gates_after(line: Mapping[str, float], step: float) -> bool:
    """Whether these metrics have gate statistics, of `step` or later."""
    return line["step"] >= step and "gates/layer_0/std" in line


def variance_of(line: Mapping[str, float]) -> float:
    """Variance of the gates of the layer with the widest gates."""
    return max(float(value) ** 2 for name, value in line.items() if name.startswith("gates/") and name.endswith("/std"))
