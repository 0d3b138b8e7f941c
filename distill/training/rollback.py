"""Schedule of the probes of a training, and the detector of spikes, for which a training is rolled back."""

import math
import statistics
from dataclasses import dataclass, field

from distill.training.events import WatchMetrics

MAX_ROLLBACKS = 3
MAX_BAD_STEPS = 3  # NaN or infinite steps in a row that cause a rollback; fewer are skipped
EARLY_PROBES = frozenset({1, 2, 3, 4, 8, 16, 32})  # steps, so that short trainings are probed
EARLY_ALLOWANCE = 7.5  # divided by the number of steps: the rise allowed early in training
WATCH_STEPS = 50  # between the later probes


def is_probe_due(step: int) -> bool:
    """Whether training is probed after `step` steps: at least four times, in a training of four steps or more."""
    return step in EARLY_PROBES or step % WATCH_STEPS == 0


@dataclass
class SpikeDetector:
    """Detector of spikes: values that are NaN or infinite, or too far above their moving average.

    A value is too far above the average if its rise exceeds each of three bounds: 5 %; the 99th percentile of the
    last 100 rises, plus their standard deviation; `EARLY_ALLOWANCE` divided by the number of steps. A fall counts as
    a rise of 0, so that large falls do not raise the bound. The first two finite values are never spikes, nor is any
    value above an average of 0, which silence has. A spike changes neither the average nor the bounds.
    """

    average: float = 0.0
    seen: int = 0  # values that were no spikes
    changes: list[float] = field(default_factory=list)  # relative to the average, the newest last

    def observe(self, step: int, figure: str, value: float) -> WatchMetrics:
        """Classify the value of a figure after `step` steps. Unless it is a spike, update the average."""
        threshold = max(EARLY_ALLOWANCE / step, self.threshold)
        if not math.isfinite(value):
            return WatchMetrics(step, figure, value, math.inf, threshold, True, {})
        change = (value - self.average) / self.average if self.average else 0.0
        is_spike = self.seen >= 2 and change > threshold
        if not is_spike:
            if self.average:
                self.changes = [*self.changes, change][-100:]
                # The probe's batch is fixed, so its values are not noisy, and a slower mean would lag.
                self.average += 0.5 * (value - self.average)
            else:
                self.average = value
            self.seen += 1
        return WatchMetrics(step, figure, value, change, threshold, is_spike, {})

    @property
    def threshold(self) -> float:
        """The largest rise that is no spike late in a training."""
        least = 0.05
        if len(self.changes) < 2:
            return least
        ordered = sorted(max(0.0, change) for change in self.changes)
        quantile = ordered[int(0.99 * len(ordered))]
        return max(least, quantile + statistics.pstdev(ordered))
