"""Exponential moving average of a network's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a network's parameters (Polyak and Juditsky 1992).

    Early in training its decay is lower, so that the last third of the steps weighs most.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = dict(model.named_parameters())
        self.values = {name: value.detach().clone() for name, value in self.parameters.items()}

    @torch.no_grad()
    def add(self, steps: int) -> None:
        """Update the average with the parameters after `steps` steps."""
        decay = min(self.decay, (1 + steps) / (4 + steps))
        torch._foreach_lerp_(list(self.values.values()), list(self.parameters.values()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Context in which the network has the averages for parameters."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Copy the averages from `values`."""
        for name, value in self.values.items():
            value.copy_(values[name])

    def _swap(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.data, self.values[name] = self.values[name], parameter.data
