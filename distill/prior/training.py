"""Training of a prior on coded recordings; the weights with the lowest held-out loss are kept."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TypeGuard

import numpy as np
import torch
from rich.console import Console

from distill.codes.store import Codes, CodesConfig
from distill.execution import Execution
from distill.params import PRETRAINED_SIZES, Params, PriorConfig
from distill.prior.architectures import ARCHITECTURES
from distill.prior.artifact import SHAPES, PriorArtifact, build_prior, save_reference
from distill.prior.base import Prior
from distill.prior.counting_baseline import counting_bits_per_second
from distill.prior.counts import fold_tables
from distill.prior.data import PriorData, read_prior_data
from distill.prior.frame import FramePrior, FrameShape
from distill.prior.loudness_course import FEW
from distill.prior.memory.retrieval import SCORE_PARAMETERS
from distill.prior.memory.task import DISTRACTORS, PROBE_STEPS, RETRIEVED
from distill.prior.pretrained import load_pretrained_prior
from distill.prior.task import PriorTask
from distill.progress import Progress
from distill.seeds import Stream, derive_seed
from distill.split import END
from distill.storage.files import sha256_file, sha256_files
from distill.storage.weights import round_weights
from distill.text import one_line
from distill.training.checkpoints import save_artifact
from distill.training.distributed import make_fabric
from distill.training.events import (
    Epoch,
    PriorEpochMetrics,
    PriorEvent,
    PriorMemoryMetrics,
    PriorTrainingCompleteEvent,
    by_level,
)
from distill.training.interruption import raise_interrupted
from distill.training.run import Run, Trained, about_corpus, tracked_run
from distill.training.task import TrainerSettings, budget_seconds
from distill.training.tracking import ToConsole
from distill.training.trainer import Trainer

BETAS = (0.9, 0.95)
SMOOTHING_SHARES = (0.1, 0.5)  # factors of `label_smoothing` on the coarsest levels; 1 on the others
# Factors of the learning rate: of scores and weights, which have far to go and are few, and of label embeddings, as few
# windows train each.
MIXTURE_RATE, LABEL_RATE = 10.0, 10.0
PRETRAINED_MIXTURE_RATE, PRETRAINED_LABEL_RATE = 3.0, 60.0
RATE_DROPS = 2  # from pretrained weights: how soon they are unlearnt depends on the recordings

Callback = Callable[[PriorEvent], None]
Calibrate = Callable[[FramePrior, Sequence[Codes], int, Progress], list[float]]
"""Calibration of a prior for training recordings `[F, Q]`, from a seed; returns distances that go down."""


class PriorConsole(ToConsole):
    """The progress line, one warning when the prior memorises, and what probes of its memory find."""

    label, has_warned = "prior", False

    def __call__(self, event: object) -> None:
        """See `Observer`."""
        super().__call__(event)
        match event:
            case PriorEpochMetrics() if event.is_memorizing and not self.has_warned:
                self.has_warned = True
                self.progress.say(f"warning: {event.memorization_message}")
            case PriorMemoryMetrics(step, gates, probe) if probe and probe["ranked"] < RETRIEVED:
                if step >= PROBE_STEPS or not gates:  # at the end; before, it is too early to tell
                    self.progress.say(
                        f"warning: after {step} steps the memory retrieves {probe['ranked']:.0%} of motifs among "
                        f"{DISTRACTORS} distractors (ablated: {probe['ranked_ablated']:.0%})"
                    )

    def epoch_text(self, epoch: Epoch) -> str:
        """An epoch in a few words."""
        loss, perplexity = epoch.metrics["train_loss"], epoch.metrics["val_perplexity"]
        return f"loss {loss:.3f}, held-out perplexity {perplexity:.1f} (best {math.exp(epoch.best_loss):.1f})"


@dataclass(frozen=True, eq=False, kw_only=True)
class PriorTraining(Trained):
    """A trained prior (on the CPU, best weights, eval mode), and its facts, which an artefact and a model file keep.

    `calibration` are the distances that calibration returned, empty where the prior is not calibrated.
    """

    model: Prior
    facts: PriorArtifact
    calibration: Sequence[float]


def prior_to_train(data: PriorData, config: PriorConfig, seed: int) -> Prior:
    """Build a prior with its initial weights: pretrained ones where they fit and are wanted."""
    shape = SHAPES[config.architecture].of(config, data.codes, data.codewords.shape[2], data.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, Stream.PRIOR_WEIGHTS))
        model = build_prior(shape, data.codewords, config.dropout, config.history_dropout if data.labels else 0.0)
    # Finer levels are less predictable.
    shares = [*SMOOTHING_SHARES, *[1.0] * shape.num_quantizers][: shape.num_quantizers]
    model.smoothing.copy_(config.label_smoothing * torch.tensor(shares))
    model.longest.fill_(max(len(one.views[0]) for one in data.train))
    if isinstance(model, FramePrior):
        if starts_pretrained(config, data.codes):
            load_pretrained_prior(model, data.train)
        if can_be_calibrated(model, data.codes):
            model.pointer_mixture.copy_nothing(0)
        if model.count_experts is not None:
            model.count_experts.set_tables(fold_tables(data.train, data.codes.codebook_sizes, len(data.labels)))
    return model


def starts_pretrained(config: PriorConfig, codes: CodesConfig) -> bool:
    """Whether a prior begins with pretrained weights: if they fit, and can read the codes."""
    return config.fits_pretrained and codes.shared_coordinates


def can_be_calibrated(model: Prior, codes: CodesConfig) -> TypeGuard[FramePrior]:
    """Whether a prior is of the kind that is calibrated: of frames whose first level is the loudness."""
    return isinstance(model.shape, FrameShape) and codes.shared_coordinates


def why_not_pretrained(config: PriorConfig, codes: CodesConfig) -> str:
    """Sentence for a prior that cannot begin with pretrained weights though it may; "" for others."""
    takes_them = "pretrained" in ARCHITECTURES[config.architecture].settings
    if not config.pretrained or not takes_them or starts_pretrained(config, codes):
        return ""
    sizes = ", ".join(f"{name} {value}" for name, value in PRETRAINED_SIZES.items())
    return (
        f"prior.pretrained: the prior begins from nothing, as pretrained weights need {sizes}, count_experts and "
        "a codec with the overlapping quantizer; set prior.pretrained: false to be told no more"
    )


def trainer_settings(config: PriorConfig, seed: int, steps_per_epoch: int, pretrained: bool = False) -> TrainerSettings:
    """Settings of the trainer. Weights that are `pretrained` take part in the choice of the best epoch."""
    same = {"epochs", "learning_rate", "weight_decay", "gradient_clip", "warmup_steps", "patience"}
    mixture_rate = PRETRAINED_MIXTURE_RATE if pretrained else MIXTURE_RATE
    return TrainerSettings(
        **config.model_dump(include=same),
        betas=BETAS,
        seed=seed,
        rate_shares={
            "pointer_mixture.": mixture_rate,
            "count_experts.": mixture_rate,
            "label": PRETRAINED_LABEL_RATE if pretrained else LABEL_RATE,
            **{f"retrieval.{name}": MIXTURE_RATE for name in SCORE_PARAMETERS},
        },
        validate_initial=pretrained,
        drops=RATE_DROPS if pretrained else 0,
        average=config.weight_averaging,
        budget_seconds=budget_seconds(config.budget_minutes, config.epochs * steps_per_epoch),
    )


def fit_prior(
    data: PriorData, config: PriorConfig, seed: int, run: Run, calibrate: Calibrate | None = None
) -> PriorTraining:
    """Train a prior on coded recordings.

    With `calibrate` it is calibrated in the end, if it is of that kind; from few recordings it gets their courses.

    Raises Interrupted after saving when `run` asks, DistillError when training diverges.
    """
    model = prior_to_train(data, config, seed)
    task: PriorTask = resolve_name(ARCHITECTURES[config.architecture].task)(model, data, config, seed, run.fabric)
    settings = trainer_settings(config, seed, task.steps_per_epoch, starts_pretrained(config, data.codes))
    trainer = Trainer(task, settings, run)
    result = trainer.run()
    round_weights(model.eval())
    if probe := task.probe_memory():
        run.emit(PriorMemoryMetrics(trainer.state.step, gates={}, probe=probe))
        probed = {f"probe/{name}": value for name, value in probe.items()}
        result = replace(result, best_metrics={**result.best_metrics, **probed})
    distances: list[float] = []
    if calibrate is not None and can_be_calibrated(model, data.codes):
        if len(data.train) <= FEW:
            courses = whole_courses(data)
            model.begin_courses([*map(len, courses)]).fit(courses, [one.label for one in data.train])
        else:
            distances = calibrate(model, [one.codes for one in data.train], seed, _interruptible(run))
            result = replace(result, best_metrics={**result.best_metrics, **task.validate()})
    last = result.history[-1] if result.history else result.start_metrics
    memorization = task.check_memorization(result.best_metrics)
    complete = PriorTrainingCompleteEvent(
        final_train_loss=last.get("train_loss", math.nan),
        final_val_loss=last["val_loss"],
        final_perplexity=last["val_perplexity"],
        best_perplexity=math.exp(result.best_metrics["val_loss"]),
        epochs_trained=len(result.history),
        was_memorizing=memorization.was_memorizing,
    )
    run.emit(complete)
    facts = PriorArtifact(
        shape=model.shape,
        training=config,
        recordings=data.recordings,
        best_epoch=result.best_epoch,
        epochs_trained=complete.epochs_trained,
        final_perplexity=complete.final_perplexity,
        best_perplexity=complete.best_perplexity,
        val_bits_per_second=result.best_metrics["val_bits_per_second"],
        codec_sha256=data.codes.codec_sha256,
        memorization=memorization,
    )
    return PriorTraining(result=result, model=model.cpu().eval(), facts=facts, calibration=distances)


def whole_courses(data: PriorData) -> list[Codes]:
    """Loudness `[F, 1]` of the training recordings; one whose end is held out has its end here, as sounds shall end."""
    ends = {one.group.removesuffix(END): one.codes[:, :1] for one in data.held_out if one.group.endswith(END)}
    none = np.empty((0, 1), np.int64)
    return [np.concatenate([one.codes[:, :1], ends.get(one.group, none)]) for one in data.train]


def _interruptible(run: Run) -> Progress:
    """Progress of `run` that raises Interrupted when it asks; checkpoints hold the whole training by then."""

    def show(done: int, total: int, text: str) -> None:
        if run.interruption.signal is not None:
            saved = "training is saved, the calibration is not; run the same command to continue"
            raise_interrupted(run.interruption.signal, saved)
        run.console(done, total, text)

    return show


def train_prior_of_codes(
    codes: Path,
    split: Path,
    folder: Path,
    params: Params,
    execution: Execution,
    calibrate: Calibrate,
    state: Path,
    tracking_root: Path | None = None,
) -> PriorTraining:
    """Train on the codes in `codes`, validate on the held-out ones of `split`, and write the artefact `folder`.

    For stage and command. Resumes, and raises Interrupted after saving.
    """
    fabric = make_fabric(execution)
    data, seed = read_prior_data(codes, split, params.seed), params.seed
    recordings = data.recordings
    config, tier = params.prior_config(recordings), params.tier_name(recordings)
    memory = config.model_dump()["memory"] or {}
    settings = {
        **config.model_dump(exclude={"memory"}),
        **{f"memory.{key}": value for key, value in memory.items()},
        "seed": seed,
        "tier": tier,
    }
    inputs = {"codes": sha256_files(codes.iterdir(), codes), "split": sha256_file(split)}
    about = {
        **about_corpus(params, data.codes.corpus_sha256, data.codes.sample_rate, recordings),
        "codec_sha256": data.codes.codec_sha256[:12],
        "codebook_size": data.codes.codebook_sizes[-1],  # of shape levels
        "num_quantizers": data.codes.num_quantizers,
    }
    derived = config.model_fields_set - params.prior.given.keys()
    with tracked_run(
        "train_prior", inputs, settings, about, derived, PriorConsole, fabric, state, tracking_root
    ) as run:
        if remark := why_not_pretrained(config, data.codes):
            run.console.say(remark)
        if data.lost_labels:
            run.console.say(
                f"warning: labels {one_line(', '.join(data.lost_labels))}: expected a recording of each to train on, found "
                "that the codec, which was trained without labels, holds them out; train the codec with labels, too"
            )
        trained = fit_prior(data, config, seed, run, calibrate)
        if not run.is_first:
            return trained
        measured = {"val_bits_per_second_counting": counting_bits_per_second(data)}
        if trained.calibration:
            start, best = trained.calibration[0], min(trained.calibration)
            measured |= {"calibration_distance_start": start, "calibration_distance": best}
        facts, reference = trained.facts.model_copy(update={"fingerprint": run.fingerprint}), data.reference()
        history = trained.result.history
        save_artifact(folder, trained.model, facts, history, lambda path: save_reference(path, reference))
        figures = {**measured, **prior_metrics(trained)}
        run.keep(folder, {**figures, "epoch": trained.result.best_epoch}, {})
    return replace(
        trained, metrics={**figures, **trained.result.counts}, recordings=recordings, tier=tier, store=run.store
    )


def print_prior(training: PriorTraining, console: Console) -> None:
    """Print the result of a training: losses, perplexity, bits beside counting, calibration, warnings and remarks."""
    result, metrics, memorization = training.result, training.metrics, training.facts.memorization
    levels = sorted((name.split("/")[0] for name in metrics if name.startswith("level_")), key=by_level)
    found, counting = metrics["val_bits_per_second"], metrics["val_bits_per_second_counting"]
    start = metrics.get("val_bits_per_second_start")
    started = "" if start is None else f", before training {start:.0f}"
    before = f" ({math.exp(result.kept['val_loss']):.1f} before calibration)" if training.calibration else ""
    lines = [
        f"prior of {training.made_of}: {result.summary}",
        f"held-out perplexity {training.facts.best_perplexity:.1f}{before}; by level "
        + ", ".join(f"{metrics[f'{level}/val_perplexity']:.1f}" for level in levels),
        f"{found:.0f} bits per second of held-out audio; counting alone {counting:.0f}{started}",
    ]
    if training.calibration:
        first, best = training.calibration[0], min(training.calibration)
        lines.append(f"sounds of the prior go on unlike the recordings by {first:.2f}, calibrated by {best:.2f}")
    lines += [f"warning: {memorization.message}" if memorization.was_memorizing else "no sign of memorisation"]
    for line in (*lines, *result.remarks):
        console.print(line, soft_wrap=True)


def prior_metrics(training: PriorTraining) -> dict[str, float]:
    """Metrics of the best weights of a prior, which compare runs."""
    result = training.result
    left_out = ("epoch", "learning_rate", "gradient_norm")
    metrics = {name: value for name, value in result.best_metrics.items() if name not in left_out}
    if result.start_metrics:
        metrics["val_bits_per_second_start"] = result.start_metrics["val_bits_per_second"]
    return {**metrics, "is_memorizing": float(training.facts.memorization.was_memorizing)}
