"""State of a training run: what a checkpoint holds beside the tensors, and the snapshot that a rollback returns to."""

from dataclasses import dataclass, field
from typing import Any

from distill.training.checkpoints import Tensors
from distill.training.metrics_log import Line


@dataclass
class TrainerState:
    """State of a run, as checkpoints hold it beside the tensors."""

    step: int = 0  # batches since the start of training
    lost_steps: int = 0  # of them undone by rollbacks or skipped: the schedule is that far behind
    bad_steps: int = 0  # skipped in a row
    skipped_steps: int = 0
    probed_step: int = 0  # of the last probe
    best_epoch: int = -1
    best_loss: float | None = None
    best_losses: list[float] = field(default_factory=list)  # of parts of the held-out sound
    drops: int = 0
    dropped_after: int = -1  # the epoch before the last drop of the learning rate
    rollbacks: int = 0
    diverged: bool = False
    out_of_time: bool = False
    seconds: float = 0.0  # spent, for the budget
    counted_steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)
    start_losses: list[float] = field(default_factory=list)  # the same of the initial weights
    history: list[dict[str, float]] = field(default_factory=list)
    spike_detector: dict[str, Any] = field(default_factory=dict)
    log: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Snapshot:
    """Copies of weights and moments after `schedule_step` steps of the schedule."""

    schedule_step: int
    tensors: Tensors
