"""What differs between trainings: the task, its settings, and the record of its result."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from torch import Tensor, nn

from distill.training.events import Epoch, Step, WatchMetrics

B = TypeVar("B")


class Task(ABC, Generic[B]):
    """A network with its data and losses, as `Trainer` trains it. `B` is a batch, already on its device.

    `held_out_losses` are those of parts of the held-out sound at the last `validate`: they tell whether the best epoch
    is better than the initial weights by more than chance. Where they are empty any lower "val_loss" is better.
    """

    model: nn.Module
    steps_per_epoch: int  # batches, the same in every epoch
    figure = "perplexity"  # that `probe` measures
    held_out_losses: Sequence[float] = ()

    @abstractmethod
    def batches(self, epoch: int, skip: int) -> Iterable[B]:
        """Batches of an epoch from index `skip` on; a function of the epoch alone.

        With several processes each gets its share of every batch.
        """

    @abstractmethod
    def losses(self, model: nn.Module, batch: B) -> dict[str, Tensor]:
        """Scalar losses of one batch; their means over all processes are the batch's.

        "objective" is minimised and not reported; without it "train_loss" is minimised.
        """

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Metrics on held-out recordings, "val_loss" among them, which decides which epoch is best.

        Called in eval mode, without gradients, as are `probe` and `inspect`.
        """

    def probe(self) -> float | None:
        """Figure of a fixed batch of training data, for the spike detector; None where there is none."""
        return None

    def inspect(self, step: int, earlier: Sequence[Mapping[str, float]]) -> dict[str, float]:  # noqa: ARG002
        """More metrics after `step` batches; `earlier` are those inspected before, each with its "step".

        Raises DistillError to end training.
        """
        return {}

    def events(self, report: Step | Epoch | WatchMetrics) -> Iterable[object]:  # noqa: ARG002
        """Events of this task that follow from a report of the trainer, for its observers."""
        return ()


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
    rate_shares: Mapping[str, float] = field(default_factory=dict)  # prefix of parameters: factor of the learning rate
    validate_initial: bool = False  # validate the initial weights, too: they may be the best
    average: float = 0.0  # decay of the weights' moving average, which is validated and kept; 0: the weights themselves
    drops: int = 0  # how often the rate is lowered, from the best weights on, before patience ends training
    budget_seconds: float = 0.0  # that training may take, over all interruptions; 0: any


@dataclass
class TrainingResult:
    """Result of a training.

    `best_tensors` and `last_tensors` are state dicts: of the best epoch, and not averaged at the end. Epochs count from
    0; a `best_epoch` of -1 means the initial weights, whose metrics are `start_metrics`, empty where they were not
    measured. `history` has a row an epoch.
    """

    best_tensors: dict[str, Tensor]
    last_tensors: dict[str, Tensor]
    best_epoch: int
    best_loss: float
    best_metrics: dict[str, float]
    history: list[dict[str, float]]
    start_metrics: dict[str, float] = field(default_factory=dict)
    cancelled: bool = False  # asked to stop
    kept_initial: bool = False  # the best epoch was better than the initial weights by no more than chance
    was_still_falling: bool = False  # held-out loss fell to the end, and the number of epochs or the budget ended it
    spent_minutes: float = 0.0  # the budget that ended it, 0 where none did
    rollbacks: int = 0
    diverged: bool = False  # ended after the last rollback
    rollback_reason: str = ""  # of the last one, and where it was
    skipped_steps: int = 0  # whose losses were not finite
    skip_reason: str = ""  # of the last one, and where it was
    other_processes: str = ""  # where it continued with more or fewer processes than before, and with how many

    @property
    def remarks(self) -> list[str]:
        """Messages for the user about the course of the training, a sentence each."""
        epochs = len(self.history)
        remarks = []
        if self.cancelled:
            remarks.append(f"stopped as asked after {epochs} epochs; the best weights so far are kept")
        if self.kept_initial:
            remarks.append("training gained no more than chance on held-out recordings; the initial weights are kept")
        if self.spent_minutes:
            more = "held-out loss still fell: more minutes may be better"
            advice = more if self.was_still_falling else "the best weights so far are kept"
            remarks.append(f"the budget of {self.spent_minutes:g} minutes ended training in epoch {epochs}; {advice}")
        elif self.was_still_falling:
            remarks.append(
                f"training ended at its last epoch, {epochs}, while held-out loss still fell: more epochs may be better"
            )
        if self.diverged:
            remarks.append(
                "warning: training diverged again after three rollbacks and ended with the best weights before; "
                f"lower the learning rate ({self.rollback_reason})"
            )
        elif self.rollbacks:
            remarks.append(
                f"warning: training was rolled back {self.rollbacks} times; lower the learning rate "
                f"(the last time {self.rollback_reason})"
            )
        if self.other_processes:
            remarks.append(
                "training continued with another number of processes: rounding and dropout differ from those of one "
                f"number alone ({self.other_processes})"
            )
        if self.skipped_steps:
            remarks.append(
                f"{self.skipped_steps} steps whose loss or gradient was not finite were skipped "
                f"(the last one {self.skip_reason})"
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
