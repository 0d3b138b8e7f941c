"""Interface of the training loop: tasks, settings, steps, epochs, results."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from torch import Tensor, nn

from distill.training.metrics_log import Line
from distill.training.spike_detector import ProbeFigure

OTHER_PROCESSES = "other number of processes"  # event of a training that continued with more or fewer than before
MIN_RATE_SHARE = 0.05  # the cosine schedule ends at this share of the learning rate

B = TypeVar("B")


class Task(Protocol[B]):
    """A network with its data and losses, as `Trainer` trains it. `B` is a batch, already on its device."""

    @property
    def model(self) -> nn.Module:
        """The network to train."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches, the same in every epoch."""

    def batches(self, epoch: int, skip: int) -> Iterable[B]:
        """Batches of an epoch from index `skip` on; a function of the epoch alone.

        With several processes each gets its share of every batch.
        """

    def losses(self, model: nn.Module, batch: B) -> dict[str, Tensor]:
        """Scalar losses of one batch; their means over all processes are the batch's.

        "objective" is minimised and not reported; without it "train_loss" is minimised.
        """

    def probe(self) -> float | None:
        """Figure of a fixed batch of training data, for the spike detector; None where there is none.

        `TrainerSettings.probe_figure` names it. Called in eval mode, without gradients.
        """

    def inspect(self, step: int, log: Sequence[Line]) -> dict[str, float]:
        """More metrics after `step` batches, for the metrics log, whose lines so far are `log`.

        Called in eval mode, without gradients. Raises DistillError to end training.
        """

    def validate(self) -> dict[str, float]:
        """Metrics on held-out recordings, "val_loss" among them, which decides which epoch is best.

        Called in eval mode, without gradients.
        """

    @property
    def held_out_losses(self) -> Sequence[float]:
        """Losses of parts of the held-out sound at the last `validate`; empty where any lower "val_loss" is better.

        They tell whether the best epoch is better than the initial weights by more than chance.
        """


@dataclass(frozen=True)
class TrainerSettings:
    """Settings of the training loop."""

    epochs: int
    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    gradient_clip: float
    warmup_steps: int
    patience: int
    seed: int
    rate_shares: Mapping[str, float] = field(default_factory=dict)  # prefix of parameters: share of the learning rate
    validate_initial: bool = False  # validate the initial weights, too: they may be the best
    average: float = 0.0  # decay of the weights' moving average, which is validated and kept; 0: the weights themselves
    drops: int = 0  # how often the rate is lowered, from the best weights on, before patience ends training
    probe_figure: ProbeFigure = "perplexity"  # what `Task.probe` measures
    budget_seconds: float = 0.0  # that training may take, over all interruptions; 0: any


@dataclass(frozen=True)
class Step:
    """Report of an optimiser step."""

    epoch: int
    step: int
    total_steps: int
    learning_rate: float
    step_time_s: float
    losses: Mapping[str, float]


@dataclass(frozen=True)
class Epoch:
    """Report of an epoch. `metrics` are means of the step losses, and the metrics of `Task.validate`."""

    epoch: int
    metrics: Mapping[str, float]
    learning_rate: float
    epoch_time_s: float
    elapsed_seconds: float
    best_loss: float
    is_best: bool


@dataclass
class TrainingResult:
    """Result of a training run.

    `best_tensors` and `last_tensors` are state dicts: of the best epoch, and not averaged at the end. Epochs count from
    0; a `best_epoch` of -1 means the initial weights. `cancelled` says that training was asked to stop, `diverged` that
    it ended after the last rollback. `start_metrics` are those of the initial weights, empty where they were not measured.
    `was_still_falling` says that held-out loss fell to the end and the number of epochs or the budget ended it.
    `spent_minutes` is the budget that ended it, 0 where none did. `skipped_steps` had losses that were not finite.
    `kept_initial` says that the best epoch was better than the initial weights by no more than chance.
    """

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
    start_metrics: dict[str, float] = field(default_factory=dict)
    was_still_falling: bool = False
    spent_minutes: float = 0.0
    skipped_steps: int = 0
    kept_initial: bool = False

    @property
    def remarks(self) -> list[str]:
        """Messages for the user about the course of the training, a sentence each."""
        remarks = []
        if self.cancelled:
            remarks.append(f"stopped as asked after {len(self.history)} epochs; the best weights so far are kept")
        if self.kept_initial:
            remarks.append("training gained no more than chance on held-out recordings; the initial weights are kept")
        if self.spent_minutes:
            advice = (
                "held-out loss still fell: more minutes may be better"
                if self.was_still_falling
                else "the best weights so far are kept"
            )
            remarks.append(
                f"the budget of {self.spent_minutes:g} minutes ended training in epoch {len(self.history)}; {advice}"
            )
        elif self.was_still_falling:
            remarks.append(
                f"training ended at its last epoch, {len(self.history)}, while held-out loss still fell: more epochs may "
                "be better"
            )
        if self.diverged:
            remarks.append(
                "warning: training diverged again after three rollbacks and ended with the best weights before; "
                "lower the learning rate (metrics.jsonl has the reasons)"
            )
        elif self.rollbacks:
            remarks.append(
                f"warning: training was rolled back {self.rollbacks} times (metrics.jsonl has the reasons); "
                "lower the learning rate"
            )
        if any(line.get("event") == OTHER_PROCESSES for line in self.log):
            remarks.append(
                "training continued with another number of processes: rounding and dropout differ from those of one "
                "number alone (metrics.jsonl has the step)"
            )
        if self.skipped_steps:
            remarks.append(
                f"{self.skipped_steps} steps whose loss or gradient was not finite were skipped (metrics.jsonl has them)"
            )
        return remarks

    @property
    def counts(self) -> dict[str, float]:
        """Course of the training, as metrics that compare runs."""
        return {
            "best_epoch": self.best_epoch,
            "epochs_trained": len(self.history),
            "rollbacks": self.rollbacks,
            "skipped_steps": self.skipped_steps,
            "stopped_as_asked": float(self.cancelled),
            "diverged": float(self.diverged),
            "out_of_time": float(self.spent_minutes > 0),
            "was_still_falling": float(self.was_still_falling),
        }


def is_better(losses: Sequence[float], start: Sequence[float]) -> bool:
    """Whether the mean of `losses` is below that of `start`, losses of the same parts, by more than its standard error.

    A single part has no error.
    """
    gains = [before - now for before, now in zip(start, losses, strict=True)]
    mean = math.fsum(gains) / len(gains)
    squares = math.fsum((gain - mean) ** 2 for gain in gains)
    return mean > math.sqrt(squares / max(1, len(gains) - 1) / len(gains))


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
