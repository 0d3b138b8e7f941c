"""Events of a training, which observers get.

The fields of public events are fixed, as they are metric names in MLflow. Events count epochs from 0. The trainer
emits `Start`, `Step` and `Epoch` for every task; a task derives its own events from steps and epochs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distill.execution import STATE

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CodebookHealth",
    "PriorEpochMetrics",
    "PriorMemoryMetrics",
    "PriorStepMetrics",
    "PriorTrainingCompleteEvent",
    "RollbackEvent",
    "VQEpochMetrics",
    "VQStepMetrics",
    "WatchMetrics",
]

HOW_TO_STOP = (
    "Training never stops by itself for this. While it runs, "
    f"`touch {(STATE / 'stop').as_posix()}` ends it with the best weights so far; "
    "Ctrl-C saves, and the same command continues"
)

LOW_UTILIZATION = 0.30  # fraction of codewords in use; a level below it is warned of

CodebookHealth = dict[str, dict[str, float]]
"""`{"level_0": {"utilization": 0…1, "perplexity": 1…V, "dead_codes": 0…V}, …}`, measured on held-out recordings."""
HEALTH = ("utilization", "perplexity", "dead_codes")


def health_from_metrics(metrics: Mapping[str, float]) -> CodebookHealth:
    """Collect codebook health from metrics `codebook/level_<level>/<name>`, in the order of the levels."""
    names = [
        name.split("/")[1]
        for name in metrics
        if name.startswith("codebook/") and name.endswith(HEALTH[0])
    ]
    return {
        level: {name: metrics[f"codebook/{level}/{name}"] for name in HEALTH}
        for level in sorted(names, key=by_level)
    }


def by_level(name: str) -> int:
    """Sort key of names such as `level_10`, which files list alphabetically."""
    return int(name.removeprefix("level_"))


@dataclass(frozen=True)
class Start:
    """Metrics of the initial weights, from `Task.validate` before the first step."""

    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Step:
    """An optimiser step. `step` counts from 1 over the whole training, `total_steps` is its last."""

    epoch: int
    step: int
    total_steps: int
    learning_rate: float
    step_time_s: float
    losses: Mapping[str, float]

    def public(self, steps_per_epoch: int) -> dict[str, Any]:
        """Fields common to the public step events, whose `step` counts from 1 in the epoch."""
        return {
            "epoch": self.epoch,
            "step": self.step - self.epoch * steps_per_epoch,
            "total_steps": steps_per_epoch,
            "train_loss": self.losses["train_loss"],
            "learning_rate": self.learning_rate,
            "step_time_s": self.step_time_s,
            "overall_step": self.step,
            "overall_total_steps": self.total_steps,
        }


@dataclass(frozen=True)
class Epoch:
    """An epoch. `metrics` holds the means of its step losses and the metrics of `Task.validate`."""

    epoch: int
    metrics: Mapping[str, float]
    learning_rate: float
    epoch_time_s: float
    elapsed_seconds: float
    best_loss: float

    @property
    def all_metrics(self) -> dict[str, float]:
        """Metrics with the epoch's learning rate and duration."""
        return {
            **self.metrics,
            "learning_rate": self.learning_rate,
            "epoch_time_s": self.epoch_time_s,
        }


@dataclass(frozen=True)
class VQStepMetrics:
    """An optimiser step of the codec.

    `step` of `total_steps` counts from 1 in the epoch, `overall_step` over the whole training. `codebook_health`
    describes the last complete epoch, {} in the first.
    """

    epoch: int
    step: int
    total_steps: int
    train_loss: float
    recon_loss: float
    commit_loss: float
    commitment_weight: float
    learning_rate: float
    step_time_s: float
    codebook_health: CodebookHealth
    overall_step: int = 0
    overall_total_steps: int = 0


@dataclass(frozen=True)
class VQEpochMetrics:
    """An epoch of the codec. `overfitting_gap` is held-out minus training reconstruction loss.

    `level_names` are readable names for the levels of `codebook_health`.
    """

    epoch: int
    total_epochs: int
    train_loss: float
    val_loss: float
    val_recon_loss: float
    val_commit_loss: float
    overfitting_gap: float
    learning_rate: float
    eta_seconds: float
    elapsed_seconds: float
    codebook_health: CodebookHealth
    utilization_warnings: tuple[str, ...]
    level_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class PriorStepMetrics:
    """An optimiser step of the prior.

    `step` of `total_steps` counts from 1 in the epoch, `overall_step` over the whole training.
    """

    epoch: int
    step: int
    total_steps: int
    train_loss: float
    learning_rate: float
    step_time_s: float
    overall_step: int = 0
    overall_total_steps: int = 0


@dataclass(frozen=True)
class PriorEpochMetrics:
    """An epoch of the prior. Losses are in nats per token."""

    epoch: int
    total_epochs: int
    train_loss: float
    val_loss: float
    val_perplexity: float
    best_perplexity: float
    is_memorizing: bool
    memorization_message: str
    epoch_time_s: float
    learning_rate: float


@dataclass(frozen=True)
class PriorMemoryMetrics:
    """State of the prior's memory after `step` steps.

    `gates` is `{"layer_0": {"mean", "std", "min", "max", "closed", "open"}, …}`; `closed` and `open` are the
    fractions of gates below 0.1 and above 0.9. `probe` holds the results of a memory probe, {} without one. The last
    event describes the kept weights and has no gates.
    """

    step: int
    gates: dict[str, dict[str, float]]
    probe: dict[str, float]


@dataclass(frozen=True)
class PriorTrainingCompleteEvent:
    """End of the training of a prior. `best_perplexity` belongs to the kept weights."""

    final_train_loss: float
    final_val_loss: float
    final_perplexity: float
    best_perplexity: float
    epochs_trained: int
    was_memorizing: bool


@dataclass(frozen=True)
class WatchMetrics:
    """A probe of a training: `value` of a metric on a fixed batch of training data, and more metrics in `inspected`.

    `figure` names the metric: "perplexity" of a prior, "recon_loss" of a codec. `change` is relative to its moving
    average; above `threshold` it is a spike.
    """

    step: int
    figure: str
    value: float
    change: float
    threshold: float
    is_spike: bool
    inspected: Mapping[str, float]


@dataclass(frozen=True)
class RollbackEvent:
    """A rollback, which undoes the last `lost_steps` steps. If `is_last`, training ends with its best weights."""

    step: int
    lost_steps: int
    rollbacks: int
    is_last: bool
    reason: str

    @property
    def message(self) -> str:
        """Warning to the user."""
        what = f"goes back {self.lost_steps} steps, rollback {self.rollbacks}"
        if self.is_last:
            what = f"ends with its best weights, after {self.rollbacks} rollbacks"
        return f"warning: step {self.step}: training {what}: {self.reason}"


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """Result of a training, and its last event.

    `best_tensors` is the state dict of the best epoch; `last_tensors` is the state dict after the last step, not averaged.
    Epochs count from 1 here and in all files; a `best_epoch` of 0 stands for the initial weights. `start_metrics` are
    theirs, empty if they were not validated. `history` has a row per epoch. `counts` are metrics of the training
    itself, such as the number of rollbacks, and `remarks` are sentences for the user.
    """

    best_tensors: dict[str, "Tensor"]
    last_tensors: dict[str, "Tensor"]
    best_epoch: int
    best_metrics: dict[str, float]
    history: list[dict[str, float]]
    start_metrics: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, float]]:
        """History with epoch 0, the initial weights, if they were validated; `is_kept` is 1 for the kept weights."""
        start = [{**self.start_metrics, "epoch": 0}] if self.start_metrics else []
        return [
            {**row, "is_kept": int(row["epoch"] == self.best_epoch)}
            for row in (*start, *self.history)
        ]

    @property
    def further_remarks(self) -> list[str]:
        """Remarks that `summary` does not contain."""
        return [remark for remark in self.remarks if remark not in self.summary]

    @property
    def summary(self) -> str:
        """The kept weights with their losses, and the losses of the last epoch, as one line."""
        best, text = self.best_metrics, kept_weights(self.best_epoch, len(self.history))
        if self.best_epoch:
            text += f", loss {best['train_loss']:.3f}"
        text += f", held out {best['val_loss']:.3f}"
        for last in self.history[-1:]:
            text += f"; at the end {last['train_loss']:.3f} and {last['val_loss']:.3f}"
        return text


def kept_weights(best_epoch: int, epochs: int) -> str:
    """Say which weights a training kept: its best epoch, or for epoch 0 the initial weights."""
    if best_epoch:
        return f"best epoch {best_epoch} of {epochs}"
    better = f"no epoch of {epochs} was better on held-out recordings by enough"
    return f"{better}, so the weights from before training are kept"


Watched = WatchMetrics | RollbackEvent
VQEvent = VQStepMetrics | VQEpochMetrics | Watched
PriorEvent = (
    PriorStepMetrics | PriorEpochMetrics | PriorMemoryMetrics | PriorTrainingCompleteEvent | Watched
)
