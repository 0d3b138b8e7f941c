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
    """Learning rate of a step, counted from 0: linear warm-up, then a cosine down to 5 % of the peak.

    The cosine follows the larger of two shares: of the steps, and `time_share`, of the budget.
    """
    warmup = min(settings.warmup_steps, max(1, total_steps // 10))
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    progress = max((step - warmup) / max(1, total_steps - warmup), time_share)
    last = 0.05
    share = last + (1 - last) * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * share


class OptimizerStep:
    """AdamW for a network on the fabric's device, and where settings ask an average of its parameters by name.

    `wrapped` is Fabric's wrapper, which computes losses. The average is exponential (Polyak and Juditsky 1992); early in
    training its decay is lower, as polynomial averages have it (Shamir and Zhang 2013, arXiv 1212.1824): with a power of 3
    the last third of the steps weighs most, with 1 all steps and the initial weights weigh the same.
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
        """Compute and clip the gradients of the objective. Returns their norm before clipping."""
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(objective)
        most = self.settings.gradient_clip
        norm = self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=most, error_if_nonfinite=False
        )
        return float(norm or 0.0)

    @torch.no_grad()
    def step(self, rate: float, steps: int) -> None:
        """Update the weights with learning rate `rate`; `steps`, from 1, are those that the average is over."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_share"]
        self.optimizer.step()
        if self.average:
            decay = min(
                self.settings.average, (1 + steps) / (1 + steps + self.settings.average_power)
            )
            torch._foreach_lerp_(
                list(self.average.values()), list(self.model.parameters()), 1 - decay
            )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context in which the network has its averaged weights, if any."""
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
        """Copy of the network's tensors, not averaged, on the CPU."""
        return {key: value.detach().cpu().clone() for key, value in self.model.state_dict().items()}

    def tensors(self) -> Tensors:
        """State that the next step depends on: weights, averages, moments; not copied."""
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
        """Load the state that `tensors` returned."""
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
    """Parameter groups: weight decay for matrices and kernels alone, `rate_shares` for some parts."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, value in model.named_parameters():
        share = next(
            (share for part, share in settings.rate_shares.items() if name.startswith(part)), 1.0
        )
        groups.setdefault((share, settings.weight_decay if value.ndim > 1 else 0.0), []).append(
            value
        )
    return [
        {"params": values, "weight_decay": decay, "rate_share": share}
        for (share, decay), values in groups.items()
    ]
