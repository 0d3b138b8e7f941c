"""What ends a training before its last epoch: held-out loss that falls no more, and a budget of time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

FALLING = 0.005  # of the held-out loss, by which the last tenth of the epochs must have lowered it to be falling still
AUTO_STEPS = 200_000  # of all epochs: more than a day at half a second each
AUTO_MINUTES = 480.0


@dataclass
class Patience:
    """The best epoch so far, and how often the learning rate was lowered where none was better for long.

    Where `patience` epochs in a row bring nothing better, training goes on from the best weights with a lower rate,
    `max_drops` times, and then ends. A patience of 0 never ends. Epochs count from 0; -1 stands for the initial weights.
    """

    patience: int
    max_drops: int = 0
    best_epoch: int = -1
    best_loss: float | None = None
    best_losses: list[float] = field(default_factory=list)  # of parts of the held-out sound
    start_losses: list[float] = field(default_factory=list)  # the same of the initial weights
    drops: int = 0
    dropped_after: int = -1  # the epoch before the last drop of the learning rate

    def is_best(self, loss: float) -> bool:
        """Whether a held-out loss is lower than all before."""
        return self.best_loss is None or loss < self.best_loss

    def keep(self, epoch: int, loss: float, losses: Sequence[float]) -> None:
        """Record the best epoch so far; `losses` are those of parts of the held-out sound."""
        self.best_epoch, self.best_loss, self.best_losses = epoch, loss, list(losses)
        if epoch < 0:
            self.start_losses = list(losses)

    def is_out(self, epochs: int) -> bool:
        """Whether the last of `epochs` epochs was one too many without a better one."""
        return 0 < self.patience < epochs - max(self.best_epoch, self.dropped_after)

    def drop(self, epochs: int) -> bool:
        """Count a drop of the learning rate after `epochs` epochs; False where there were as many as may be."""
        if self.drops == self.max_drops:
            return False
        self.drops, self.dropped_after = self.drops + 1, epochs - 1
        return True

    def gain_is_chance(self) -> bool:
        """Whether the best epoch is better than the initial weights, but by no more than chance.

        Rounding, which differs between processors, would choose between them.
        """
        return self.best_epoch >= 0 and bool(self.start_losses) and not is_better(self.best_losses, self.start_losses)


def is_better(losses: Sequence[float], start: Sequence[float]) -> bool:
    """Whether the mean of `losses` is below that of `start`, losses of the same parts, by more than its standard error.

    A single part has no error.
    """
    gains = [before - now for before, now in zip(start, losses, strict=True)]
    mean = math.fsum(gains) / len(gains)
    squares = math.fsum((gain - mean) ** 2 for gain in gains)
    return mean > math.sqrt(squares / max(1, len(gains) - 1) / len(gains))


def is_falling(losses: Sequence[float]) -> bool:
    """Whether the last tenth of the epochs lowered held-out loss by more than `FALLING`."""
    last = len(losses) // 10
    return last > 0 and min(losses) < (1 - FALLING) * min(losses[:-last])


def budget_seconds(minutes: float | Literal["auto"], total_steps: int) -> float:
    """Seconds of a budget of `minutes`; 0 is none. `auto` is none but for trainings of days: above `AUTO_STEPS`."""
    if minutes == "auto":
        minutes = AUTO_MINUTES if total_steps > AUTO_STEPS else 0.0
    return 60.0 * minutes


class Budget:
    """Time that a training may take, in seconds; 0 is no bound. `clock` gives seconds that never fall."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.seconds, self._clock = seconds, clock
        self.start(0.0)

    def start(self, spent: float) -> None:
        """Begin to count, after `spent` seconds before an interruption."""
        self._began = self._clock() - spent

    @property
    def spent(self) -> float:
        """Seconds spent so far."""
        return self._clock() - self._began

    @property
    def share(self) -> float:
        """Proportion of the budget that is spent, from 0 to 1; 0 without a bound."""
        return min(1.0, self.spent / self.seconds) if self.seconds else 0.0
