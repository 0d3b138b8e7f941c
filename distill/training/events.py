"""Events of training. Fields are fixed: they are the metric names in MLflow."""

from dataclasses import dataclass

LOW_UTILIZATION = 0.30  # share of codewords in use below which a level is warned of

CodebookHealth = dict[str, dict[str, float]]
"""`{"level_0": {"utilization": 0…1, "perplexity": 1…V, "dead_codes": 0…V}, …}`, on held-out recordings."""


@dataclass(frozen=True)
class VQStepMetrics:
    """An optimiser step of the codec. `codebook_health` is that of the last complete epoch, {} before.

    `step` counts from 1 over the whole training, `total_steps` is that of all epochs.
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


@dataclass(frozen=True)
class VQEpochMetrics:
    """An epoch of the codec. `overfitting_gap` is held-out minus training reconstruction loss."""

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
    """An optimiser step of the prior.

    `step` counts from 1 within the epoch, which has `total_steps`. The last two count over the whole training.
    """

    epoch: int
    step: int
    total_steps: int
    train_loss: float
    learning_rate: float
    step_time_s: float
    overall_step: int
    overall_total_steps: int


@dataclass(frozen=True)
class PriorMemoryMetrics:
    """Statistics of the memory's gates, every 50 steps, and results of the memory probes, every 1000 steps and else {}.

    `step` counts from 1 over the whole training. `gates` is `{"layer_0": {"mean", "std", "min", "max", "closed", "open"}, …}`; the last two are the shares of gates
    below 0.1 and above 0.9.
    """

    step: int
    gates: dict[str, dict[str, float]]
    probe: dict[str, float]


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
class PriorTrainingCompleteEvent:
    """The end of prior training. The weights kept are those of `best_perplexity`."""

    final_train_loss: float
    final_val_loss: float
    final_perplexity: float
    best_perplexity: float
    epochs_trained: int
    was_memorizing: bool
