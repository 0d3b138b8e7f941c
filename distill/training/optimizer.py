"""Optimiser step: AdamW, gradient clipping, the learning rate's schedule and the moving average of the weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from distill.storage.weights import under
from distill.training.checkpoints import Tensors, optimizer_tensors, restore_optimizer
from distill.training.task import TrainerSettings

MIN_RATE_SHARE = 0.05  # the cosine schedule ends at this share of the learning rate


def learning_rate_at(step: int, total_steps: int, settings: TrainerSettings, time_share: float = 0.0) -> float:
    """Learning rate of a step, counted from 0: linear warm-up, then a cosine down to 5 % of the peak.

    The cosine follows the share of the steps, or `time_share`, that of the budget, where that is larger.
    """
    warmup = min(settings.warmup_steps, max(1, total_steps // 10))
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    progress = max((step - warmup) / max(1, total_steps - warmup), time_share)
    share = MIN_RATE_SHARE + (1 - MIN_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * share


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

    def load(self, values: Tensors) -> None:
        """Copy the averages from `values`."""
        for name, value in self.values.items():
            value.copy_(values[name])

    def swap(self) -> None:
        """Exchange the network's parameters and the averages."""
        for name, parameter in self.parameters.items():
            parameter.data, self.values[name] = self.values[name], parameter.data


class OptimizerStep:
    """AdamW for a network on the fabric's device. `wrapped` is Fabric's wrapper, which computes losses."""

    def __init__(self, model: nn.Module, settings: TrainerSettings, fabric: Fabric) -> None:
        self.model, self.settings, self.fabric = model, settings, fabric
        optimizer = torch.optim.AdamW(
            _parameter_groups(model, settings), lr=settings.learning_rate, betas=settings.betas, fused=True
        )
        self.wrapped, self.optimizer = fabric.setup(model, optimizer)
        self.average = WeightAverage(model, settings.average) if settings.average else None

    def backward(self, objective: Tensor) -> float:
        """Compute and clip the gradients of the objective. Returns their norm before clipping."""
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(objective)
        most = self.settings.gradient_clip
        norm = self.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=most, error_if_nonfinite=False)
        return float(norm) if norm is not None else 0.0

    def step(self, rate: float, steps: int) -> None:
        """Update the weights with learning rate `rate`; `steps`, from 1, are those that the average is over."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_share"]
        self.optimizer.step()
        if self.average is not None:
            self.average.add(steps)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context in which the network has its averaged weights, where there are any."""
        if self.average is not None:
            self.average.swap()
        try:
            yield
        finally:
            if self.average is not None:
                self.average.swap()

    def weights(self) -> Tensors:
        """Copy of the network's tensors, not averaged, on the CPU."""
        return {key: value.detach().cpu().clone() for key, value in self.model.state_dict().items()}

    def tensors(self) -> Tensors:
        """State that the next step depends on: weights, averages, moments; not copied."""
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{key}": value for key, value in self.average.values.items()}
        return tensors | optimizer_tensors(self.optimizer)

    def load_state(self, tensors: Tensors) -> None:
        """Load the state that `tensors` returned."""
        self.model.load_state_dict(under("model.", tensors))
        if self.average is not None:
            self.average.load(under("average.", tensors))
        restore_optimizer(self.optimizer, tensors)

    def restart(self, weights: Tensors) -> None:
        """Load `weights` and reset the moments and the average."""
        self.model.load_state_dict(weights)
        if self.average is not None:
            self.average.load({name: value.detach() for name, value in self.average.parameters.items()})
        self.optimizer.state.clear()


def _parameter_groups(model: nn.Module, settings: TrainerSettings) -> list[dict[str, Any]]:
    """Parameter groups: weight decay for matrices and kernels alone, `rate_shares` for some parts."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, value in model.named_parameters():
        share = next((share for part, share in settings.rate_shares.items() if name.startswith(part)), 1.0)
        groups.setdefault((share, settings.weight_decay if value.ndim > 1 else 0.0), []).append(value)
    return [{"params": values, "weight_decay": decay, "rate_share": share} for (share, decay), values in groups.items()]
