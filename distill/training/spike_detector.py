"""Detection of loss spikes: the loss or perplexity of a fixed batch against its moving average, and when to look."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ProbeFigure = Literal["perplexity", "recon_loss"]

EARLY_PROBES = frozenset({1, 2, 3, 4, 8, 16, 32})  # steps; a training of any length is watched from its beginning
WATCH_STEPS = 50  # between the later probes
MIN_THRESHOLD = 0.05
EARLY_ALLOWANCE = 7.5  # over the number of steps: what figures may rise by when training has just begun
EMA_WEIGHT = 0.5  # of the newest value: a fixed probe is not noisy, and a slow mean would lag behind the training
WARM_UP = 2  # values before anything counts as a spike
RECENT = 100  # deltas that decide the threshold
QUANTILE = 0.99


LOGGED = {"perplexity": "ppl", "recon_loss": "recon"}  # short names of figures in the metrics log


def early_threshold(step: int) -> float:
    """The least that counts as a spike after `step` steps: wide at first, `MIN_THRESHOLD` from step 150 on."""
    return max(MIN_THRESHOLD, EARLY_ALLOWANCE / step)


def is_probe_due(step: int) -> bool:
    """Whether training is probed after `step` steps. A training of four steps or more has at least four probes."""
    return step in EARLY_PROBES or step % WATCH_STEPS == 0


@dataclass(frozen=True)
class Reading:
    """A figure, its relative distance `delta` from the moving average, and the `threshold` of a spike."""

    value: float
    delta: float
    threshold: float
    is_spike: bool

    def line(self, figure: ProbeFigure) -> dict[str, float]:
        """The reading of `figure` as entries of the metrics log."""
        short = LOGGED[figure]
        return {figure: self.value, f"{short}_delta": self.delta, f"{short}_threshold": self.threshold}


@dataclass
class SpikeDetector:
    """Detector of spikes: figures that are not finite, or too far above their moving average.

    Too far is more than 5 %, and more than the 99th percentile of recent deltas plus one standard deviation. A spike
    changes neither the average nor the threshold.
    """

    ema: float | None = None
    seen: int = 0
    deltas: list[float] = field(default_factory=list)

    def observe(self, value: float, least: float = MIN_THRESHOLD) -> Reading:
        """Classify a figure, and update the average where it is no spike. The threshold is at least `least`."""
        threshold = max(least, self.threshold)
        if not math.isfinite(value):
            return Reading(value, math.inf, threshold, True)
        delta = (value - self.ema) / self.ema if self.ema else 0.0  # nothing is relative to an average of 0
        if self.seen >= WARM_UP and delta > threshold:
            return Reading(value, delta, threshold, True)
        if self.ema is not None:
            self.deltas = [*self.deltas, delta][-RECENT:]
        self.ema = value if self.ema is None else self.ema + EMA_WEIGHT * (value - self.ema)
        self.seen += 1
        return Reading(value, delta, threshold, False)

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
