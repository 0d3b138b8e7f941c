"""Parts in which trainings differ: the task, its settings, and the record of its result."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from torch import Tensor, nn

from distill.training.events import Epoch, Step, WatchMetrics

B = TypeVar("B")


class Task(ABC, Generic[B]):
    """A network with its data and losses, as `Trainer` trains it. `B` is a batch, already on its device.

    `held_out_losses` belong to parts of the held-out sound at the last `validate`: they tell whether the best epoch
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
        """Figure of a fixed batch of training data, for the spike detector; None where a task has no probe."""
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
    patience: int  # epochs in a row without a notable gain, after which training ends; 0: any
    seed: int
    learning_rate_factors: Mapping[str, float] = field(
        default_factory=dict
    )  # prefix of parameters: factor of the learning rate
    validate_initial: bool = False  # validate the initial weights, too: they may be the best
    average: float = 0.0  # decay of the weights' moving average, which is validated and kept; 0: the weights themselves
    average_power: int = (
        3  # early in training a step has a weight of its number to the power of this minus 1
    )
    least_gain: float = 0.0  # share of the initial held-out loss that the first epoch gains, or it is the last; 0: any
    budget_seconds: float = 0.0  # that training may take, over all interruptions; 0: any


def budget_seconds(minutes: float | Literal["auto"], total_steps: int) -> float:
    """Seconds of a budget of `minutes`; 0 is no bound. `auto` is 480 above 200,000 steps, days at half a second each."""
    if minutes == "auto":
        minutes = 480.0 * (total_steps > 200_000)
    return 60.0 * minutes
