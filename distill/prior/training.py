"""Training of a prior on coded recordings; the weights with the lowest held-out loss are kept."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

import torch
from lightning_fabric import Fabric

from distill.codes.store import Codes, CodesConfig, frame_counts
from distill.novelty.memorization import Alike, Memorization, alike_recordings, find_memorization
from distill.params import PRETRAINED_SIZES, PriorConfig
from distill.prior.architectures import ARCHITECTURES
from distill.prior.base import Prior, build_prior
from distill.prior.count_folds import FoldTables, fold_numbers
from distill.prior.data import PriorData
from distill.prior.frame.network import FramePrior
from distill.prior.memory.retrieval import SCORE_PARAMETERS
from distill.prior.memory.task import memory_metrics
from distill.prior.pretrained import load_pretrained_prior
from distill.prior.shape import PriorShape
from distill.prior.task import smoothing_of
from distill.seeds import Stream, derive_seed
from distill.status import Progress
from distill.training.budget import budget_seconds
from distill.training.checkpoints import CheckpointStore
from distill.training.distributed import Stop
from distill.training.events import (
    PriorEpochMetrics,
    PriorMemoryMetrics,
    PriorStepMetrics,
    PriorTrainingCompleteEvent,
    RollbackEvent,
    WatchMetrics,
)
from distill.training.interruption import Interruption
from distill.training.task import Epoch, Step, TrainerSettings, TrainingResult
from distill.training.trainer import Trainer

BETAS = (0.9, 0.95)
MIXTURE_RATE = (
    10.0  # factor of the learning rate of scores and weights: they have far to go, and are too few to memorise
)
RATE_DROPS = 2  # from pretrained weights: how soon they are unlearnt depends on the recordings
PRETRAINED_MIXTURE_RATE = 3.0  # the same where they were pretrained
RETRIEVAL_SCORES = tuple(f"retrieval.{name}" for name in SCORE_PARAMETERS)
LABEL_RATE = 10.0  # factor of the learning rate of label embeddings: few windows train each
PRETRAINED_LABEL_RATE = 60.0  # its other rates are lower

PriorEvent = (
    PriorStepMetrics
    | PriorMemoryMetrics
    | PriorEpochMetrics
    | PriorTrainingCompleteEvent
    | WatchMetrics
    | RollbackEvent
)
Callback = Callable[[PriorEvent], None]
Calibrate = Callable[[FramePrior, Sequence[Codes], int, Progress], list[float]]
"""Calibration of a prior for training recordings `[F, Q]`, from a seed; returns distances that go down."""
OnMetrics = Callable[[Mapping[str, float], int], None]


@dataclass(frozen=True, eq=False)
class PriorTraining:
    """A trained prior (best weights, on the CPU, in eval mode) and the history of its training.

    `calibration` are the distances that calibration returned, empty where the prior is not calibrated.
    """

    model: Prior
    shape: PriorShape
    result: TrainingResult
    complete: PriorTrainingCompleteEvent
    memorization: Memorization
    calibration: Sequence[float]


def prior_to_train(data: PriorData, config: PriorConfig, seed: int) -> tuple[PriorShape, Prior]:
    """Build a prior with its initial weights: pretrained ones where they fit and are wanted."""
    kind = ARCHITECTURES[config.architecture].shape
    shape = kind.of(config, data.codes, data.codewords.shape[2], data.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, Stream.PRIOR_WEIGHTS))
        model = build_prior(shape, data.codewords, config.dropout, config.history_dropout if data.labels else 0.0)
    model.smoothing.copy_(smoothing_of(config, data.codes.num_quantizers))
    model.longest.fill_(int(frame_counts(data.unaugmented).max()))
    if isinstance(model, FramePrior):
        if starts_pretrained(config, data.codes):
            load_pretrained_prior(model, data.unaugmented, data.train_labels)
        if can_be_calibrated(model, data.codes):
            model.copy_no_loudness()
        if model.count_experts is not None:
            folds = fold_numbers(data.train_groups, seed)
            size, levels = data.codes.codebook_size, data.codes.num_quantizers
            tables = FoldTables.of(data.train, folds, size, levels, data.train_labels, len(data.labels))
            model.count_experts.set_tables(tables.whole)
            model.count_experts.set_folds(tables.without)
    return shape, model


def starts_pretrained(config: PriorConfig, codes: CodesConfig) -> bool:
    """Whether a prior begins with pretrained weights: if they fit, and can read the codes."""
    return config.fits_pretrained and codes.shared_coordinates


def can_be_calibrated(model: Prior, codes: CodesConfig) -> TypeGuard[FramePrior]:
    """Whether a prior is of the kind that is calibrated: of frames whose first level is the loudness."""
    return ARCHITECTURES[model.shape.architecture].is_calibrated and codes.shared_coordinates


def why_not_pretrained(config: PriorConfig, codes: CodesConfig) -> str:
    """Sentence for a prior that cannot begin with pretrained weights though it may; "" for others."""
    takes_them = "pretrained" in ARCHITECTURES[config.architecture].settings
    if not config.pretrained or not takes_them or starts_pretrained(config, codes):
        return ""
    sizes = ", ".join(f"{name} {value}" for name, value in PRETRAINED_SIZES._asdict().items())
    return (
        f"prior.pretrained: the prior begins from nothing, as pretrained weights need {sizes}, geometry, count_experts "
        "and a codec with the overlapping quantizer; set prior.pretrained: false to be told no more"
    )


def trainer_settings(config: PriorConfig, seed: int, steps_per_epoch: int, pretrained: bool = False) -> TrainerSettings:
    """Settings of the trainer. Weights that are `pretrained` take part in the choice of the best epoch."""
    mixture_rate = PRETRAINED_MIXTURE_RATE if pretrained else MIXTURE_RATE
    return TrainerSettings(
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=BETAS,
        gradient_clip=config.gradient_clip,
        warmup_steps=config.warmup_steps,
        patience=config.patience,
        seed=seed,
        rate_shares={
            "pointer_mixture.": mixture_rate,
            "count_experts.": mixture_rate,
            "label": PRETRAINED_LABEL_RATE if pretrained else LABEL_RATE,
            **dict.fromkeys(RETRIEVAL_SCORES, MIXTURE_RATE),
        },
        validate_initial=pretrained,
        drops=RATE_DROPS if pretrained else 0,
        average=config.weight_averaging,
        budget_seconds=budget_seconds(config.budget_minutes, config.epochs * steps_per_epoch),
    )


def fit_prior(
    data: PriorData,
    config: PriorConfig,
    seed: int,
    fabric: Fabric,
    store: CheckpointStore | None = None,
    callback: Callback | None = None,
    on_metrics: OnMetrics | None = None,
    interruption: Interruption | None = None,
    cancel_event: Stop | None = None,
    calibrate: Calibrate | None = None,
    progress: Progress | None = None,
) -> PriorTraining:
    """Train a prior on coded recordings. With `calibrate` it is calibrated in the end, if it is of that kind.

    Raises Interrupted after saving when `interruption` asks, DistillError when training diverges. Setting
    `cancel_event` ends training within a step and keeps the best weights so far.
    """
    shape, model = prior_to_train(data, config, seed)
    task = ARCHITECTURES[config.architecture].task(model, data, config, seed, fabric)
    reporter = _EventReporter(config, data, task.steps_per_epoch, callback, on_metrics)
    settings = trainer_settings(config, seed, task.steps_per_epoch, starts_pretrained(config, data.codes))
    reports = (reporter.step, reporter.epoch, interruption, cancel_event, reporter.watch)
    result = Trainer(task, settings, fabric, store, *reports).run()
    distances: list[float] = []
    if calibrate is not None and can_be_calibrated(model, data.codes):
        distances = calibrate(model.eval(), data.unaugmented, seed, _interruptible(progress, interruption))
        shape, metrics = model.shape, task.validate()
        result = replace(result, best_metrics={**result.best_metrics, **metrics}, best_loss=metrics["val_loss"])
    last = result.history[-1] if result.history else result.start_metrics
    memorization = reporter.check(math.exp(result.best_loss))
    complete = PriorTrainingCompleteEvent(
        final_train_loss=last.get("train_loss", math.nan),
        final_val_loss=last["val_loss"],
        final_perplexity=last["val_perplexity"],
        best_perplexity=math.exp(result.best_loss),
        epochs_trained=len(result.history),
        was_memorizing=memorization.was_memorizing,
    )
    if callback is not None:
        callback(complete)
    return PriorTraining(model.cpu().eval(), shape, result, complete, memorization, distances)


def _interruptible(progress: Progress | None, interruption: Interruption | None) -> Progress:
    """`progress` that raises Interrupted when `interruption` asks; checkpoints hold the whole training by then."""

    def show(done: int, total: int, text: str) -> None:
        if interruption is not None and interruption.signal is not None:
            saved = "training is saved, the calibration is not; run the same command to continue"
            Interruption.raise_interrupted(interruption.signal, saved)
        if progress is not None:
            progress(done, total, text)

    return show


class _EventReporter:
    """Translates steps and epochs of the trainer into the prior's events."""

    def __init__(
        self,
        config: PriorConfig,
        data: PriorData,
        steps_per_epoch: int,
        callback: Callback | None,
        on_metrics: OnMetrics | None,
    ) -> None:
        self.config, self.data, self.steps_per_epoch = config, data, steps_per_epoch
        self.alike: Alike | None = None  # computed on first use
        self.callback, self.on_metrics = callback, on_metrics

    def check(self, perplexity: float) -> Memorization:
        threshold = self.config.memorization_perplexity
        if perplexity < threshold and self.alike is None:
            self.alike = alike_recordings(self.data.unaugmented, self.data.held_out)
        alike = self.alike if perplexity < threshold else None
        return find_memorization(perplexity, self.data.codes.codebook_size, self.data.recordings, threshold, alike)

    def step(self, step: Step) -> None:
        if self.callback is not None:
            self.callback(
                PriorStepMetrics(
                    epoch=step.epoch,
                    step=step.step - step.epoch * self.steps_per_epoch,
                    total_steps=self.steps_per_epoch,
                    train_loss=step.losses["train_loss"],
                    learning_rate=step.learning_rate,
                    step_time_s=step.step_time_s,
                    overall_step=step.step,
                    overall_total_steps=step.total_steps,
                )
            )

    def watch(self, event: WatchMetrics | RollbackEvent) -> None:
        if self.callback is not None:
            self.callback(event)
        if isinstance(event, WatchMetrics) and event.inspected:
            if self.on_metrics is not None:
                self.on_metrics(event.inspected, event.step)
            if self.callback is not None:
                self.callback(memory_metrics(event.step, event.inspected))

    def epoch(self, epoch: Epoch) -> None:
        if self.on_metrics is not None:
            times = {"learning_rate": epoch.learning_rate, "epoch_time_s": epoch.epoch_time_s}
            best = {"best_perplexity": math.exp(epoch.best_loss)}
            self.on_metrics({**epoch.metrics, **times, **best}, epoch.epoch)
        if self.callback is None:
            return
        perplexity = epoch.metrics["val_perplexity"]
        check = self.check(perplexity)
        self.callback(
            PriorEpochMetrics(
                epoch=epoch.epoch,
                total_epochs=self.config.epochs,
                train_loss=epoch.metrics["train_loss"],
                val_loss=epoch.metrics["val_loss"],
                val_perplexity=perplexity,
                best_perplexity=math.exp(epoch.best_loss),
                is_memorizing=check.was_memorizing,
                memorization_message=check.message,
                epoch_time_s=epoch.epoch_time_s,
                learning_rate=epoch.learning_rate,
            )
        )
