"""When a training is probed, and which figures of its probes are spikes, that it is rolled back for."""

import math
import statistics
from dataclasses import dataclass, field

from distill.training.events import WatchMetrics

MAX_ROLLBACKS = 3
MAX_BAD_STEPS = 3  # NaN or infinite steps in a row that cause a rollback; fewer are skipped
EARLY_PROBES = frozenset(
    {1, 2, 3, 4, 8, 16, 32}
)  # steps; a training of any length is watched from its beginning
EARLY_ALLOWANCE = (
    7.5  # over the number of steps: what figures may rise by when training has just begun
)
WATCH_STEPS = 50  # between the later probes


def is_probe_due(step: int) -> bool:
    """Whether training is probed after `step` steps. A training of four steps or more has at least four probes."""
    return step in EARLY_PROBES or step % WATCH_STEPS == 0


@dataclass
class SpikeDetector:
    """Detector of spikes: figures that are not finite, or too far above their moving average.

    Too far is more than 5 %, more than the 99th percentile of the last 100 rises plus one standard deviation, and more than
    `EARLY_ALLOWANCE` over the number of steps. The first two values are no spikes. A fall is a rise of 0, however far it goes: it must not allow more. A spike changes neither the
    average nor the threshold. Nothing is far above an average of 0, which silence has.
    """

    average: float | None = None
    seen: int = 0
    changes: list[float] = field(default_factory=list)

    def observe(self, step: int, figure: str, value: float) -> WatchMetrics:
        """Classify the value of a figure after `step` steps, and update the average where it is no spike."""
        threshold = max(EARLY_ALLOWANCE / step, self.threshold)
        if not math.isfinite(value):
            return WatchMetrics(step, figure, value, math.inf, threshold, True, {})
        change = (value - self.average) / self.average if self.average else 0.0
        is_spike = self.seen >= 2 and change > threshold
        if not is_spike:
            if self.average:
                self.changes = [*self.changes, change][-100:]
                self.average += 0.5 * (
                    value - self.average
                )  # a fixed probe is not noisy, and a slow mean would lag
            else:
                self.average = value
            self.seen += 1
        return WatchMetrics(step, figure, value, change, threshold, is_spike, {})

    @property
    def threshold(self) -> float:
        """The largest change that is no spike, late in a training."""
        least = 0.05
        if len(self.changes) < 2:
            return least
        ordered = sorted(max(0.0, change) for change in self.changes)
        quantile = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        return max(least, quantile + statistics.pstdev(ordered))
