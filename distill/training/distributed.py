"""Communication between the processes of one training. With one process it costs nothing."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from distill.training.interruption import SIGNALS, Interruption

if TYPE_CHECKING:
    from lightning_fabric import Fabric  # what only reads codes need not wait for its import


class Share(NamedTuple):
    """Share of one process of several: every `of`-th item from item `number` on; by default all items."""

    number: int = 0
    of: int = 1

    @classmethod
    def of_process(cls, fabric: "Fabric") -> Self:
        """The share of this process."""
        return cls(fabric.global_rank, fabric.world_size)

    @property
    def items(self) -> slice:
        """Slice of a sequence that takes the items of this share."""
        return slice(self.number, None, self.of)


WHOLE = Share()


class Stop(Protocol):
    """A request to end training with its best weights: a `threading.Event`, or a file that appears."""

    def is_set(self) -> bool:
        """Whether training should end."""


class Distributed:
    """Reductions over processes. Every process calls the same methods in the same order.

    `signal` and `cancelled` are the requests to stop that the last `poll` found.
    """

    def __init__(self, fabric: "Fabric") -> None:
        self.fabric = fabric
        self.is_first = fabric.global_rank == 0
        self.signal: int | None = None  # received by one of the processes
        self.cancelled = False

    def poll(self, interruption: Interruption | None, cancel: Stop | None) -> None:
        """Set `signal` and `cancelled` where any of the processes was asked to stop."""
        received = interruption.signal if interruption is not None else None
        flags = [float(received == number) for number in SIGNALS] + [float(cancel is not None and cancel.is_set())]
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

    def any(self, value: bool) -> bool:
        """Whether a value is true on any of the processes."""
        return bool(self.sum(torch.tensor(float(value))) > 0)

    def decide(self, value: bool) -> bool:
        """The value of the first process."""
        return bool(self.from_first({"value": float(value)})["value"])

    def from_first(self, values: Mapping[str, float]) -> dict[str, float]:
        """Broadcast the values of the first process: all processes must decide on the same values."""
        if self.fabric.world_size == 1:
            return dict(values)
        shared = torch.tensor(list(values.values()), dtype=torch.float64, device=self.fabric.device)
        torch.distributed.broadcast(shared, src=0)
        return dict(zip(values, shared.tolist(), strict=True))
