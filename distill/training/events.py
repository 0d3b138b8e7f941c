"""Events of training. Fields of public events are fixed: they are the metric names in MLflow. Their `epoch` is from
0.

`Start`, `Step` and `Epoch` are the trainer's own, the same for every task; a task adds events of its own to the last
two.
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

LOW_UTILIZATION = 0.30  # share of codewords in use below which a level is warned of

CodebookHealth = dict[str, dict[str, float]]
"""`{"level_0": {"utilization": 0…1, "perplexity": 1…V, "dead_codes": 0…V}, …}`, on held-out recordings."""
HEALTH = ("utilization", "perplexity", "dead_codes")


def health_from_metrics(metrics: Mapping[str, float]) -> CodebookHealth:
    """Codebook health from metrics `codebook/level_<level>/<name>`, in the order of the levels."""
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
    """Key to sort names such as `level_10`, which files have in the order of their letters."""
    return int(name.removeprefix("level_"))


@dataclass(frozen=True)
class Start:
    """The initial weights: their metrics of `Task.validate`, before the first step."""

    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Step:
    """An optimiser step. `step` counts from 1 over the whole training."""

    epoch: int
    step: int
    total_steps: int
    learning_rate: float
    step_time_s: float
    losses: Mapping[str, float]

    def public(self, steps_per_epoch: int) -> dict[str, Any]:
        """Fields that the public events of steps share; their `step` counts from 1 in the epoch."""
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
    """An epoch. `metrics` are means of the step losses, and the metrics of `Task.validate`."""

    epoch: int
    metrics: Mapping[str, float]
    learning_rate: float
    epoch_time_s: float
    elapsed_seconds: float
    best_loss: float

    @property
    def all_metrics(self) -> dict[str, float]:
        """The metrics with the time and the learning rate of the epoch."""
        return {
            **self.metrics,
            "learning_rate": self.learning_rate,
            "epoch_time_s": self.epoch_time_s,
        }


@dataclass(frozen=True)
class VQStepMetrics:
    """An optimiser step of the codec; `step` counts from 1 in the epoch, of `total_steps`, and `overall_step` in all.

    `codebook_health` describes the last complete epoch, {} before.
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

    `level_names` are what people call the levels of `codebook_health`.
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
    """An optimiser step of the prior; `step` counts from 1 in the epoch, of `total_steps`, and `overall_step` in all."""

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
    """Gates of the memory at every probe of a training, and `probe`, what a probe of the memory found; else {}.

    `gates` is `{"layer_0": {"mean", "std", "min", "max", "closed", "open"}, …}`, with the shares below 0.1 and above
    0.9. The last one, after all `step` steps, is of the weights that are kept and has no gates.
    """

    step: int
    gates: dict[str, dict[str, float]]
    probe: dict[str, float]


@dataclass(frozen=True)
class PriorTrainingCompleteEvent:
    """The end of prior training. The kept weights have `best_perplexity`."""

    final_train_loss: float
    final_val_loss: float
    final_perplexity: float
    best_perplexity: float
    epochs_trained: int
    was_memorizing: bool


@dataclass(frozen=True)
class WatchMetrics:
    """A probe of a training: a metric of a fixed batch of training data, and what a task `inspected` in addition.

    It is the "perplexity" of a prior, the "recon_loss" of a codec. `change` is relative to its moving average.
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
    """A rollback: training undoes its last `lost_steps` steps. The one that `is_last` ends it with its best weights."""

    step: int
    lost_steps: int
    rollbacks: int
    is_last: bool
    reason: str

    @property
    def message(self) -> str:
        """Warning for the user."""
        what = f"goes back {self.lost_steps} steps, rollback {self.rollbacks}"
        if self.is_last:
            what = f"ends with its best weights, after {self.rollbacks} rollbacks"
        return f"warning: step {self.step}: training {what}: {self.reason}"


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """Result of a training, and its last event.

    `best_tensors` and `last_tensors` are state dicts: of the best epoch, and not averaged at the end. Here, as in all
    that is stored, epochs count from 1; a `best_epoch` of 0 means the initial weights, whose metrics are
    `start_metrics`, empty where they were not measured. `history` has a row an epoch, `rows` one more for the initial
    weights, and which row is kept. `counts` are metrics of its course, `remarks` sentences for the user.
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
        """Metrics by epoch, from the initial weights, epoch 0, where they were measured; `is_kept` is 1 for the weights kept."""
        start = [{**self.start_metrics, "epoch": 0}] if self.start_metrics else []
        return [
            {**row, "is_kept": int(row["epoch"] == self.best_epoch)}
            for row in (*start, *self.history)
        ]

    @property
    def further_remarks(self) -> list[str]:
        """The remarks that `summary` does not say."""
        return [remark for remark in self.remarks if remark not in self.summary]

    @property
    def summary(self) -> str:
        """Kept weights, their losses, and the losses at the end."""
        best, text = self.best_metrics, kept_weights(self.best_epoch, len(self.history))
        if self.best_epoch:
            text += f", loss {best['train_loss']:.3f}"
        text += f", held out {best['val_loss']:.3f}"
        for last in self.history[-1:]:
            text += f"; at the end {last['train_loss']:.3f} and {last['val_loss']:.3f}"
        return text


def kept_weights(best_epoch: int, epochs: int) -> str:
    """Sentence on the weights that a training kept: of its best epoch, or the initial weights for epoch 0."""
    if best_epoch:
        return f"best epoch {best_epoch} of {epochs}"
    better = f"no epoch of {epochs} was better on held-out recordings by enough"
    return f"{better}, so the weights from before training are kept"


Watched = WatchMetrics | RollbackEvent
VQEvent = VQStepMetrics | VQEpochMetrics | Watched
PriorEvent = (
    PriorStepMetrics | PriorEpochMetrics | PriorMemoryMetrics | PriorTrainingCompleteEvent | Watched
)
