"""Parts that differ between trainings: the task and its settings."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from torch import Tensor, nn

from distill.training.events import Epoch, Step, WatchMetrics

B = TypeVar("B")


class Task(ABC, Generic[B]):
    """A network with its data and losses, for `Trainer`. `B` is the type of a batch, already on its device.

    `validate` may set `held_out_losses` to the losses of parts of the held-out sound. The trainer uses them to test
    whether the best epoch is better than the initial weights by more than chance. Without them any lower "val_loss"
    is.
    """

    model: nn.Module
    steps_per_epoch: int  # number of batches, the same in every epoch
    figure = "perplexity"  # name of the metric that `probe` returns
    held_out_losses: Sequence[float] = ()

    @abstractmethod
    def batches(self, epoch: int, skip: int) -> Iterable[B]:
        """Batches of an epoch from index `skip` on. They depend on the epoch alone.

        With several processes each gets a part of every batch.
        """

    @abstractmethod
    def losses(self, model: nn.Module, batch: B) -> dict[str, Tensor]:
        """Scalar losses of this process's part of a batch; the trainer averages them over all processes.

        "objective" is minimised and not reported; without it "train_loss" is minimised.
        """

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Metrics on held-out recordings; the epoch with the lowest "val_loss" is best.

        `validate`, `probe` and `inspect` are called in eval mode and without gradients.
        """

    def probe(self) -> float | None:
        """Measure `figure` on a fixed batch of training data, for the spike detector; None if the task has no probe."""
        return None

    def inspect(self, step: int, earlier: Sequence[Mapping[str, float]]) -> dict[str, float]:  # noqa: ARG002
        """More metrics after `step` batches; `earlier` are the results of earlier calls, each with its "step".

        Raises DistillError to end training.
        """
        return {}

    def events(self, report: Step | Epoch | WatchMetrics) -> Iterable[object]:  # noqa: ARG002
        """Events that this task derives from a report of the trainer, for the observers."""
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
    patience: int  # epochs in a row without a notable gain after which training ends; 0: no limit
    seed: int
    learning_rate_factors: Mapping[str, float] = field(default_factory=dict)  # by name prefix
    validate_initial: bool = False  # the initial weights may be the best, too
    average: float = 0.0  # decay of the moving average that is validated and kept; 0: no average
    average_power: int = (
        3  # early in training a step has a weight of its number to the power of this minus 1
    )
    # Training ends after the first epoch if that lowers the initial held-out loss by less than this fraction; 0: never.
    least_gain: float = 0.0
    budget_seconds: float = 0.0  # time limit, over all interruptions; 0: none


def budget_seconds(minutes: float | Literal["auto"], total_steps: int) -> float:
    """Time limit in seconds, 0 for none. `auto` is 480 minutes above 200,000 steps, which take days, else none."""
    if minutes == "auto":
        minutes = 480.0 * (total_steps > 200_000)
    return 60.0 * minutes
