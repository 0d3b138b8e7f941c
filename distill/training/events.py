"""What training reports while it runs. Fields are fixed: metric names in MLflow are these names."""

from dataclasses import dataclass

CodebookHealth = dict[str, dict[str, float]]
"""`{"level_0": {"utilization": 0…1, "perplexity": 1…V, "dead_codes": 0…V}, …}`, on held-out recordings."""


@dataclass(frozen=True)
class VQStepMetrics:
    """One optimiser step of the codec. `codebook_health` is that of the last epoch that ended, {} before."""

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


@dataclass(frozen=True)
class VQEpochMetrics:
    """One epoch of the codec. `overfitting_gap` is held-out minus training reconstruction loss."""

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


@dataclass(frozen=True)
class PriorStepMetrics:
    """One optimiser step of the prior."""

    epoch: int
    step: int
    total_steps: int
    train_loss: float
    learning_rate: float
    step_time_s: float


@dataclass(frozen=True)
class PriorMemoryMetrics:
    """What the gates of a prior's memory are like, every 50 steps, and every thousand what probes found of the memory, else {}.

    `gates` is `{"layer_0": {"mean", "std", "min", "max", "closed", "open"}, …}`, the last two as shares below .1 and above .9.
    """

    step: int
    gates: dict[str, dict[str, float]]
    probe: dict[str, float]


@dataclass(frozen=True)
class PriorEpochMetrics:
    """One epoch of the prior. Losses are nats per token."""

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
class PriorTrainingCompleteEvent:
    """The end of prior training. The weights kept are those of `best_perplexity`."""

    final_train_loss: float
    final_val_loss: float
    final_perplexity: float
    best_perplexity: float
    epochs_trained: int
    was_memorizing: bool
