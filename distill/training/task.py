"""What the training loop and the things it trains say to each other: tasks, settings, steps, epochs, results."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from torch import Tensor, nn

from distill.training.metrics_log import Line

MIN_RATE_SHARE = 0.05  # the cosine schedule ends at this share of the learning rate

B = TypeVar("B")


class Task(Protocol[B]):
    """What the loop needs to know about the thing it trains. `B` is a batch, already on the right device."""

    @property
    def model(self) -> nn.Module:
        """The network to train."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch: the same in every epoch."""

    def batches(self, epoch: int, skip: int) -> Iterable[B]:
        """The batches of an epoch, in an order that is a function of the epoch alone, from batch number `skip` on.

        With several processes each gets its share of every batch.
        """

    def losses(self, model: nn.Module, batch: B) -> dict[str, Tensor]:
        """Scalars of one batch, whose means over all processes are the batch's. "objective" is minimised and shown to
        nobody; where there is none, it is "train_loss"."""

    def probe(self) -> float | None:
        """Perplexity of a fixed batch of training data, in eval mode and without gradients; None for no such watch."""

    def inspect(self, step: int, log: Sequence[Line]) -> dict[str, float]:
        """Whatever else there is to know after `step` batches, in eval mode and without gradients; `log` are the lines so far.

        Raises DistillError where to train on makes no sense.
        """

    def validate(self) -> dict[str, float]:
        """Scalars on held-out recordings, in eval mode and without gradients; "val_loss" decides which epoch is best."""


@dataclass(frozen=True)
class TrainerSettings:
    """Numbers of the loop that codec and prior share."""

    epochs: int
    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    gradient_clip: float
    warmup_steps: int
    patience: int
    seed: int
    rate_shares: Mapping[str, float] = field(
        default_factory=dict
    )  # parameters named so learn at this share of the rate
    start_counts: bool = False  # the weights before the first step may turn out to be the best
    average: float = 0.0  # decay of the weights' moving average, which is judged and kept; 0: the weights themselves
    drops: int = 0  # how often training goes back to its best weights and on with a lower rate before patience ends it


@dataclass(frozen=True)
class Step:
    """One optimiser step, for whoever watches."""

    epoch: int
    step: int
    total_steps: int
    learning_rate: float
    step_time_s: float
    losses: Mapping[str, float]
    inspected: Mapping[str, float] = field(default_factory=dict)  # what `Task.inspect` found, after some of the steps


@dataclass(frozen=True)
class Epoch:
    """One epoch, for whoever watches. `metrics` are means of the step losses and what `validate` returned."""

    epoch: int
    metrics: Mapping[str, float]
    learning_rate: float
    epoch_time_s: float
    elapsed_seconds: float
    best_loss: float
    is_best: bool


@dataclass
class TrainingResult:
    """What a run leaves behind. `best_tensors` and `last_tensors` are the model's state dict of the best epoch and,
    not averaged, at the end. Epochs count from 0; a `best_epoch` of -1 is the start, before the first step.
    `best_metrics` are those of the best epoch. `cancelled` says that it was asked to stop, `diverged` that rolling back
    did not help."""

    best_tensors: dict[str, Tensor]
    last_tensors: dict[str, Tensor]
    best_epoch: int
    best_loss: float
    best_metrics: dict[str, float]
    history: list[dict[str, float]]
    rollbacks: int = 0
    cancelled: bool = False
    diverged: bool = False
    log: list[Line] = field(default_factory=list)

    @property
    def remarks(self) -> list[str]:
        """What a person should know of how it went, a sentence each."""
        told = []
        if self.cancelled:
            told.append(f"stopped as asked after {len(self.history)} epochs; the best weights so far are kept")
        if self.diverged:
            told.append(
                "warning: training diverged again after three rollbacks and ended with the best weights before; lower the "
                "learning rate (metrics.jsonl says what happened)"
            )
        elif self.rollbacks:
            told.append(
                f"warning: training was rolled back {self.rollbacks} times (metrics.jsonl says why); lower the learning rate"
            )
        return told

    @property
    def counts(self) -> dict[str, float]:
        """How it went, as figures that compare runs."""
        return {
            "best_epoch": self.best_epoch,
            "epochs_trained": len(self.history),
            "rollbacks": self.rollbacks,
            "stopped_as_asked": float(self.cancelled),
            "diverged": float(self.diverged),
        }


def learning_rate_at(step: int, total_steps: int, settings: TrainerSettings) -> float:
    """Linear warm-up, then a cosine down to 5 % of the peak."""
    warmup = min(settings.warmup_steps, max(1, total_steps // 10))
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total_steps - warmup)
    share = MIN_RATE_SHARE + (1 - MIN_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * share
