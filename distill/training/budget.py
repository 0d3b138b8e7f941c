"""Budget of a training: a bound on its time, counted over interruptions."""

from collections.abc import Callable
from typing import Literal

AUTO_STEPS = 200_000  # of all epochs: more than a day at half a second each
AUTO_MINUTES = 480.0


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
        """Share of the budget that is spent, from 0 to 1; 0 without a bound."""
        return min(1.0, self.spent / self.seconds) if self.seconds else 0.0
