"""Detection of loss spikes: the perplexity of a fixed probe against its moving average."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MIN_THRESHOLD = 0.05
EMA_WEIGHT = 0.5  # of the newest value: a fixed probe is not noisy, and a slow mean would lag behind the training
WARM_UP = 2  # values before anything counts as a spike
RECENT = 100  # deltas that decide the threshold
QUANTILE = 0.99


@dataclass(frozen=True)
class Reading:
    """A perplexity, its relative distance `delta` from the moving average, and the `threshold` of a spike."""

    perplexity: float
    delta: float
    threshold: float
    is_spike: bool


@dataclass
class SpikeDetector:
    """Detector of spikes: perplexities that are not finite, or too far above their moving average.

    Too far is more than 5 %, and more than the 99th percentile of recent deltas plus one standard deviation. A spike
    changes neither the average nor the threshold.
    """

    ema: float | None = None
    seen: int = 0
    deltas: list[float] = field(default_factory=list)

    def observe(self, perplexity: float) -> Reading:
        """Classify a perplexity, and update the average where it is no spike."""
        threshold = self.threshold
        if not math.isfinite(perplexity):
            return Reading(perplexity, math.inf, threshold, True)
        delta = 0.0 if self.ema is None else (perplexity - self.ema) / self.ema
        if self.seen >= WARM_UP and delta > threshold:
            return Reading(perplexity, delta, threshold, True)
        if self.ema is not None:
            self.deltas = [*self.deltas, delta][-RECENT:]
        self.ema = perplexity if self.ema is None else self.ema + EMA_WEIGHT * (perplexity - self.ema)
        self.seen += 1
        return Reading(perplexity, delta, threshold, False)

    @property
    def threshold(self) -> float:
        """The largest delta that is no spike."""
        if len(self.deltas) < 2:
            return MIN_THRESHOLD
        ordered = sorted(self.deltas)
        quantile = ordered[min(len(ordered) - 1, int(QUANTILE * len(ordered)))]
        return max(MIN_THRESHOLD, quantile + statistics.pstdev(ordered))

    @classmethod
    def restored(cls, values: Mapping[str, Any]) -> "SpikeDetector":
        """Restore a detector from its `vars()`."""
        return cls(**values)
