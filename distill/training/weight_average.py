"""The average of the weights on their way: steadier than where they happen to be."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of a network's parameters (Polyak and Juditsky 1992).

    It is young where training is: it weighs the last third of the steps most, at most those that `decay` remembers.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = dict(model.named_parameters())
        self.values = {name: value.detach().clone() for name, value in self.parameters.items()}

    @torch.no_grad()
    def add(self, steps: int) -> None:
        """Take in the parameters as they are after `steps` steps."""
        decay = min(self.decay, (1 + steps) / (4 + steps))
        torch._foreach_lerp_(list(self.values.values()), list(self.parameters.values()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network with the averages for parameters, until the context ends."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from these averages."""
        for name, value in self.values.items():
            value.copy_(values[name])

    def _swap(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.data, self.values[name] = self.values[name], parameter.data
