"""What the processes of one training agree on. A training with one process agrees with itself at no cost."""

import signal
from collections.abc import Mapping
from typing import Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor

from distill.training.interruption import Interruption

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop(Protocol):
    """What asks training to end now with its best weights: a `threading.Event`, or a file that appears."""

    def is_set(self) -> bool:
        """Whether to end."""


class Distributed:
    """Between processes: means of the losses, and whether to stop. Every process calls the same methods in the same order."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.is_first = fabric.global_rank == 0
        self.signal: int | None = None  # that one of the processes was sent
        self.cancelled = False

    def look(self, interruption: Interruption | None, cancel: Stop | None) -> None:
        """Note in `signal` and `cancelled` what any of the processes was asked."""
        asked = interruption.signal if interruption is not None else None
        flags = [float(asked == number) for number in SIGNALS] + [float(cancel is not None and cancel.is_set())]
        *signals, cancelled = self.sum(torch.tensor(flags)).tolist()
        self.signal = next((number for number, sent in zip(SIGNALS, signals, strict=True) if sent), None)
        self.cancelled = cancelled > 0

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Means of `values` over all processes."""
        if self.fabric.world_size == 1:
            return dict(values)
        sums = self.sum(torch.tensor(list(values.values()), dtype=torch.float64)) / self.fabric.world_size
        return dict(zip(values, sums.tolist(), strict=True))

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, on the CPU."""
        if self.fabric.world_size == 1:
            return values
        summed = self.fabric.all_reduce(values.to(self.fabric.device), reduce_op="sum")
        assert isinstance(summed, Tensor)
        return summed.cpu()

    def first(self, values: Mapping[str, float]) -> dict[str, float]:
        """What the first process has: figures that decide how training goes on must be the same everywhere."""
        if self.fabric.world_size == 1:
            return dict(values)
        shared = torch.tensor(list(values.values()), dtype=torch.float64, device=self.fabric.device)
        torch.distributed.broadcast(shared, src=0)
        return dict(zip(values, shared.tolist(), strict=True))
