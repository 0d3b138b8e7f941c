"""Optimiser step: AdamW, gradient clipping, the learning rate's schedule and the moving average of the weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from distill.storage.weights import under
from distill.training.task import TrainerSettings

Tensors = dict[str, Tensor]


def learning_rate_at(
    step: int, total_steps: int, settings: TrainerSettings, time_share: float = 0.0
) -> float:
    """Learning rate of a step, counted from 0: linear warm-up, then a cosine decay to 5 % of the peak.

    The cosine follows the steps done or `time_share`, the fraction of the time budget spent, whichever is larger.
    """
    warmup = min(settings.warmup_steps, max(1, total_steps // 10))
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    progress = max((step - warmup) / max(1, total_steps - warmup), time_share)
    last = 0.05
    factor = last + (1 - last) * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * factor


class OptimizerStep:
    """AdamW for a network on the fabric's device, and the moving average of its parameters.

    `wrapped` is Fabric's wrapper, through which losses are computed. `average` maps parameter names to averages; it
    is empty if `settings.average` is 0. The average is exponential (Polyak and Juditsky 1992). Early in training its
    decay is lower, as in a polynomial average (Shamir and Zhang 2013, arXiv 1212.1824). With an `average_power` of 3
    the last third of the steps has 70 % of the weight; with 1 all steps have the same weight, and the initial weights
    count as two steps.
    """

    def __init__(self, model: nn.Module, settings: TrainerSettings, fabric: Fabric) -> None:
        self.model, self.settings, self.fabric = model, settings, fabric
        groups = _parameter_groups(model, settings)
        optimizer = torch.optim.AdamW(
            groups, lr=settings.learning_rate, betas=settings.betas, fused=True
        )
        self.wrapped, self.optimizer = fabric.setup(model, optimizer)
        self.average: Tensors = {}
        if settings.average:
            self.average = {
                name: value.detach().clone() for name, value in model.named_parameters()
            }

    def backward(self, objective: Tensor) -> float:
        """Compute and clip the gradients of `objective`. Returns their norm before clipping."""
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(objective)
        max_norm = self.settings.gradient_clip
        norm = self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=max_norm, error_if_nonfinite=False
        )
        assert isinstance(norm, Tensor)
        return float(norm)

    @torch.no_grad()
    def step(self, learning_rate: float, number: int) -> None:
        """Update the weights and their average. `number` is the number of this step, from 1."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["learning_rate_factor"]
        self.optimizer.step()
        if self.average:
            decay = min(
                self.settings.average, (1 + number) / (1 + number + self.settings.average_power)
            )
            torch._foreach_lerp_(
                list(self.average.values()), list(self.model.parameters()), 1 - decay
            )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights into the network; on exit restore its own. Without an average nothing changes."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        parameters = dict(self.model.named_parameters())
        for name, value in self.average.items():
            self.average[name], parameters[name].data = parameters[name].data, value

    def weights(self) -> Tensors:
        """Copy the network's state dict to the CPU; inside `averaged` it holds the averaged weights."""
        return {key: value.detach().cpu().clone() for key, value in self.model.state_dict().items()}

    def tensors(self) -> Tensors:
        """All tensors that the next step depends on: weights, averages, moments. They are not copied."""
        moments = self.optimizer.state_dict()["state"]
        return {
            **{f"model.{key}": value for key, value in self.model.state_dict().items()},
            **{f"average.{key}": value for key, value in self.average.items()},
            **{
                f"optimizer.{n}.{name}": value
                for n, values in moments.items()
                for name, value in values.items()
            },
        }

    def load_state(self, tensors: Tensors) -> None:
        """Load what `tensors` returned."""
        self.model.load_state_dict(under("model.", tensors))
        for name, value in self.average.items():
            value.copy_(tensors[f"average.{name}"])
        state: dict[int, Tensors] = {}
        for key, value in under("optimizer.", tensors).items():
            number, name = key.split(".", 1)
            state.setdefault(int(number), {})[name] = value.clone()  # the optimiser works in place
        self.optimizer.load_state_dict(
            {"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )


def _parameter_groups(model: nn.Module, settings: TrainerSettings) -> list[dict[str, Any]]:
    """Parameter groups for AdamW: only matrices and kernels decay; `learning_rate_factors` apply by name prefix."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, value in model.named_parameters():
        factors = settings.learning_rate_factors.items()
        factor = next((factor for prefix, factor in factors if name.startswith(prefix)), 1.0)
        decay = settings.weight_decay if value.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(value)
    return [
        {"params": values, "weight_decay": decay, "learning_rate_factor": factor}
        for (factor, decay), values in groups.items()
    ]
