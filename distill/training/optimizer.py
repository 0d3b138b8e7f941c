"""Optimiser step: AdamW, gradient clipping and the moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from distill.storage.weights import under
from distill.training.checkpoints import Tensors, optimizer_tensors, restore_optimizer
from distill.training.task import TrainerSettings
from distill.training.weight_average import WeightAverage


def backward(
    objective: Tensor, wrapped: nn.Module, optimizer: torch.optim.Optimizer, fabric: Fabric, gradient_clip: float
) -> float:
    """Compute gradients, clipped to a norm. Returns their norm before. `fabric` has set up network and optimiser."""
    optimizer.zero_grad(set_to_none=True)
    fabric.backward(objective)
    norm = fabric.clip_gradients(wrapped, optimizer, max_norm=gradient_clip, error_if_nonfinite=False)
    return float(norm) if norm is not None else 0.0


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
        return backward(objective, self.wrapped, self.optimizer, self.fabric, self.settings.gradient_clip)

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
        if self.average is None:
            yield
        else:
            with self.average.in_place():
                yield

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
