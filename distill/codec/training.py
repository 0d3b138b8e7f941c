"""Training of the codec: initialise from the corpus, train, keep the epoch with the lowest held-out loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lightning_fabric import Fabric

from distill.audio.corpus import Corpus, CorpusEntry
from distill.codec.build import build_vqvae
from distill.codec.initialise import initialise
from distill.codec.model import VQVAE
from distill.codec.task import CodecTask, health_from_metrics, utilization_warnings
from distill.params import VQVAEConfig
from distill.split import split_groups
from distill.training.budget import budget_seconds
from distill.training.checkpoints import CheckpointStore
from distill.training.distributed import Stop
from distill.training.events import CodebookHealth, RollbackEvent, VQEpochMetrics, VQStepMetrics, WatchMetrics
from distill.training.interruption import Interruption
from distill.training.task import Epoch, Step, TrainerSettings, TrainingResult
from distill.training.trainer import Trainer

BETAS = (0.8, 0.99)
WARMUP_STEPS = 50
RATE_DROPS = 2

Callback = Callable[[VQStepMetrics | VQEpochMetrics | WatchMetrics | RollbackEvent], None]
OnMetrics = Callable[[Mapping[str, float], int], None]
OnStart = Callable[[VQVAE, Sequence[CorpusEntry]], None]


@dataclass(frozen=True)
class CodecTraining:
    """Trained codec (on the CPU, best weights, eval mode), its training result and the best epoch's codebook health."""

    model: VQVAE
    result: TrainingResult
    codebook_health: CodebookHealth
    held_out: tuple[CorpusEntry, ...]


def train_vqvae(
    corpus: Corpus,
    config: VQVAEConfig,
    val_fraction: float,
    seed: int,
    fabric: Fabric,
    store: CheckpointStore | None = None,
    callback: Callback | None = None,
    on_metrics: OnMetrics | None = None,
    interruption: Interruption | None = None,
    cancel_event: Stop | None = None,
    on_start: OnStart | None = None,
) -> CodecTraining:
    """Train a codec on the training side of the corpus.

    `on_start` gets the initialised codec, which it must not change, and the held-out recordings. Setting `cancel_event`
    ends training within a step and keeps the best weights so far. Raises Interrupted after saving when `interruption`
    asks, DistillError when training diverges.
    """
    sides = split_groups((entry.group for entry in corpus.entries), seed, val_fraction)
    train = [entry for entry in corpus.entries if sides[entry.group] == "train"]
    held_out = [entry for entry in corpus.entries if sides[entry.group] == "val"]
    model = build_vqvae(corpus.sample_rate, config, seed)
    initialise(model, corpus, train, seed)
    if on_start is not None:
        on_start(model, held_out)
    task = CodecTask(model, corpus, train, held_out, config, seed, fabric)
    reporter = _EventReporter(config, model.architecture.gain_shape, callback, on_metrics)
    settings = TrainerSettings(
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=BETAS,
        gradient_clip=config.gradient_clip,
        warmup_steps=WARMUP_STEPS,
        patience=config.patience,
        seed=seed,
        rate_shares={"encoder.": config.encoder_rate, "to_latent.": config.encoder_rate},
        validate_initial=True,
        drops=RATE_DROPS,
        probe_figure="recon_loss",
        budget_seconds=budget_seconds(config.budget_minutes, config.epochs * task.steps_per_epoch),
    )
    reports = (reporter.step, reporter.epoch, interruption, cancel_event, callback)
    result = Trainer(task, settings, fabric, store, *reports).run()
    health = health_from_metrics(result.best_metrics, config.num_quantizers)
    return CodecTraining(model.cpu().eval(), result, health, tuple(held_out))


class _EventReporter:
    """Convert steps and epochs of `Trainer` to the codec's events and metrics."""

    def __init__(
        self, config: VQVAEConfig, codes_loudness: bool, callback: Callback | None, on_metrics: OnMetrics | None
    ) -> None:
        self.config, self.callback, self.on_metrics = config, callback, on_metrics
        self.health: CodebookHealth = {}
        self.codes_loudness = codes_loudness

    def step(self, step: Step) -> None:
        if self.callback is not None:
            self.callback(
                VQStepMetrics(
                    epoch=step.epoch,
                    step=step.step,
                    total_steps=step.total_steps,
                    train_loss=step.losses["train_loss"],
                    recon_loss=step.losses["train_recon_loss"],
                    commit_loss=step.losses["train_commit_loss"],
                    commitment_weight=self.config.commitment_weight,
                    learning_rate=step.learning_rate,
                    step_time_s=step.step_time_s,
                    codebook_health=self.health,
                )
            )

    def epoch(self, epoch: Epoch) -> None:
        metrics = epoch.metrics
        self.health = health_from_metrics(metrics, self.config.num_quantizers)
        gap = metrics["val_recon_loss"] - metrics["train_recon_loss"]
        if self.on_metrics is not None:
            times = {"learning_rate": epoch.learning_rate, "epoch_time_s": epoch.epoch_time_s}
            self.on_metrics({**metrics, **times, "overfitting_gap": gap}, epoch.epoch)
        if self.callback is not None:
            left = self.config.epochs - epoch.epoch - 1
            self.callback(
                VQEpochMetrics(
                    epoch=epoch.epoch,
                    total_epochs=self.config.epochs,
                    train_loss=metrics["train_loss"],
                    val_loss=metrics["val_loss"],
                    val_recon_loss=metrics["val_recon_loss"],
                    val_commit_loss=metrics["val_commit_loss"],
                    overfitting_gap=gap,
                    learning_rate=epoch.learning_rate,
                    eta_seconds=left * epoch.epoch_time_s,
                    elapsed_seconds=epoch.elapsed_seconds,
                    codebook_health=self.health,
                    utilization_warnings=utilization_warnings(self.health, self.codes_loudness),
                )
            )
