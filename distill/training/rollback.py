"""Rollback: snapshots of a training, loss spikes, and the return to the last snapshot where it goes wrong."""

import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from distill.storage.weights import under
from distill.training.checkpoints import Tensors
from distill.training.events import RollbackEvent

MAX_ROLLBACKS = 3
MAX_BAD_STEPS = 3  # in a row, not finite: fewer are skipped, so many are rolled back
EARLY_PROBES = frozenset({1, 2, 3, 4, 8, 16, 32})  # steps; a training of any length is watched from its beginning
WATCH_STEPS = 50  # between the later probes
MIN_THRESHOLD = 0.05
EARLY_ALLOWANCE = 7.5  # over the number of steps: what figures may rise by when training has just begun
EMA_WEIGHT = 0.5  # of the newest value: a fixed probe is not noisy, and a slow mean would lag behind the training
WARM_UP = 2  # values before anything counts as a spike
RECENT = 100  # deltas that decide the threshold
QUANTILE = 0.99


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


@dataclass
class SpikeDetector:
    """Detector of spikes: figures that are not finite, or too far above their moving average.

    Too far is more than 5 %, and more than the 99th percentile of recent deltas plus one standard deviation. A spike
    changes neither the average nor the threshold. Nothing is far above an average of 0, as that of silence is.
    """

    ema: float | None = None
    seen: int = 0
    deltas: list[float] = field(default_factory=list)

    def observe(self, value: float, least: float = MIN_THRESHOLD) -> Reading:
        """Classify a figure, and update the average where it is no spike. The threshold is at least `least`."""
        threshold = max(least, self.threshold)
        if not math.isfinite(value):
            return Reading(value, math.inf, threshold, True)
        delta = (value - self.ema) / self.ema if self.ema else 0.0
        if self.seen >= WARM_UP and delta > threshold:
            return Reading(value, delta, threshold, True)
        if self.ema:
            self.deltas = [*self.deltas, delta][-RECENT:]
            self.ema += EMA_WEIGHT * (value - self.ema)
        else:
            self.ema = value
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


class Holder(Protocol):
    """What a rollback restores: `OptimizerStep`."""

    def tensors(self) -> Tensors:
        """State that the next step depends on; not copied."""

    def load_state(self, tensors: Tensors) -> None:
        """Load the state that `tensors` returned."""


@dataclass
class RollbackState:
    """What a checkpoint holds of a rollback beside the snapshot."""

    snapshot_step: int = 0  # of the schedule, when the snapshot was taken
    lost_steps: int = 0  # undone by rollbacks or skipped: the schedule is that far behind
    bad_steps: int = 0  # skipped in a row
    skipped_steps: int = 0
    skip_reason: str = ""
    rollbacks: int = 0
    diverged: bool = False
    reason: str = ""  # of the last rollback
    detector: SpikeDetector = field(default_factory=SpikeDetector)


class Rollback:
    """Undoes steps of a training. Those that are undone or skipped are lost to the schedule, and so are their data."""

    def __init__(self, holder: Holder) -> None:
        self.holder, self.state = holder, RollbackState()
        self.take(0)

    def schedule_step(self, step: int) -> int:
        """Steps of the schedule that are done after `step` batches."""
        return step - self.state.lost_steps

    def take(self, step: int) -> None:
        """Take the snapshot to return to."""
        self.state.snapshot_step = self.schedule_step(step)
        self._snapshot = {key: value.detach().clone() for key, value in self.holder.tensors().items()}

    def restart(self, step: int) -> None:
        """Take a snapshot of earlier weights, which know the training data less well: their figure is no spike."""
        self.state.detector = SpikeDetector()
        self.take(step)

    def observe(self, value: float, step: int) -> Reading:
        """Classify a figure of the training data."""
        return self.state.detector.observe(value, early_threshold(step))

    def skip(self, step: int, reason: str, is_spoilt: bool) -> str | None:
        """Leave out a step that is not finite; returns why to go back where it is no accident.

        That is so with many in a row, or where it has spoilt a buffer of the network.
        """
        state = self.state
        state.bad_steps += 1
        if state.bad_steps == MAX_BAD_STEPS or is_spoilt:
            return f"{reason}, {state.bad_steps} steps in a row" if state.bad_steps > 1 else reason
        state.skipped_steps += 1
        state.lost_steps += 1
        state.skip_reason = f"at step {step}: {reason}"
        return None

    def go_back(self, step: int, reason: str) -> RollbackEvent:
        """Return to the snapshot; training continues with the data that comes next, or has diverged the last time."""
        state = self.state
        lost = self.schedule_step(step) - state.snapshot_step
        state.diverged = state.rollbacks == MAX_ROLLBACKS
        state.rollbacks += not state.diverged
        state.bad_steps, state.reason = 0, f"at step {step}: {reason}"
        self.holder.load_state(self._snapshot)
        if not state.diverged:
            state.lost_steps = step - state.snapshot_step
        return RollbackEvent(step, lost, state.rollbacks, state.diverged, reason)

    def tensors(self, step: int) -> Tensors:
        """The snapshot for a checkpoint after `step` batches; none where it equals the state itself."""
        if self.state.snapshot_step == self.schedule_step(step):
            return {}
        return {f"snapshot.{key}": value for key, value in self._snapshot.items()}

    def values(self) -> dict[str, Any]:
        """The rest of the state, for a checkpoint."""
        return asdict(self.state)

    def restore(self, step: int, values: dict[str, Any], tensors: Tensors) -> None:
        """Restore what a checkpoint after `step` batches has; `holder` has its state already."""
        self.state = RollbackState(**{**values, "detector": SpikeDetector(**values["detector"])})
        earlier = under("snapshot.", tensors)
        if earlier:
            self._snapshot = earlier
        else:
            self.take(step)
