"""Train a prior on coded recordings and keep the weights with the lowest held-out loss."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import torch
from rich.console import Console

from distill.codec.layout import level_names
from distill.codes.store import Codes
from distill.execution import Execution
from distill.novelty.reference import evenly
from distill.params import PRETRAINED_SIZES, Params, PriorConfig
from distill.prior.architectures import ARCHITECTURES, not_taken
from distill.prior.artifact import SHAPES, PriorArtifact, build_prior, save_reference
from distill.prior.base import Prior
from distill.prior.counting_baseline import counting_bits_per_second
from distill.prior.courses import MOST_COURSES
from distill.prior.data import PriorData, read_prior_data
from distill.prior.memory.probe import memory_line, shortcomings
from distill.prior.memory.retrieval import SCORE_PARAMETERS
from distill.prior.memory.task import PROBE_STEPS
from distill.prior.task import PriorTask
from distill.seeds import Stream, derive_seed
from distill.split import END
from distill.storage.files import sha256_file, sha256_files
from distill.storage.weights import round_weights
from distill.text import one_line
from distill.training.checkpoints import save_artifact
from distill.training.console import ToConsole
from distill.training.distributed import make_fabric
from distill.training.events import (
    Epoch,
    PriorEpochMetrics,
    PriorEvent,
    PriorMemoryMetrics,
    PriorTrainingCompleteEvent,
    by_level,
)
from distill.training.run import Run, Trained, about_corpus, tracked_run
from distill.training.task import TrainerSettings, budget_seconds
from distill.training.trainer import Trainer

BETAS = (0.9, 0.95)
Callback = Callable[[PriorEvent], None]


class PriorConsole(ToConsole):
    """Progress line, a single warning when the prior memorises, and warnings from probes of its memory."""

    label, has_warned = "prior", False

    def __call__(self, event: object) -> None:
        """See `Observer`."""
        super().__call__(event)
        match event:
            case PriorEpochMetrics() if event.is_memorizing and not self.has_warned:
                self.has_warned = True
                self.progress.say(f"warning: {event.memorization_message}")
            case PriorMemoryMetrics(step, gates, probe) if probe and (
                step >= PROBE_STEPS or not gates
            ):
                # Only at the end: earlier probes say little.
                if found := "; ".join(shortcomings(probe)):
                    self.progress.say(
                        f"warning: after {step} steps the memory does not do all that it should: {found}"
                    )

    def epoch_text(self, epoch: Epoch) -> str:
        """Losses of an epoch, for the progress line."""
        loss, perplexity = epoch.metrics["train_loss"], epoch.metrics["val_perplexity"]
        return f"loss {loss:.3f}, held-out perplexity {perplexity:.1f} (best {math.exp(epoch.best_loss):.1f})"


@dataclass(frozen=True, eq=False, kw_only=True)
class PriorTraining(Trained):
    """A trained prior (best weights, on the CPU, in eval mode) and the facts stored in artefact and model file."""

    model: Prior
    facts: PriorArtifact


def prior_to_train(data: PriorData, config: PriorConfig, seed: int) -> Prior:
    """Build a prior with its initial weights: pretrained weights if they fit and the settings allow them."""
    shape = SHAPES[config.architecture].of(config, data.codes, data.codewords.shape[2], data.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, Stream.PRIOR_WEIGHTS))
        model = build_prior(
            shape, data.codewords, config.dropout, config.history_dropout if data.labels else 0.0
        )
    shares = [0.1, 0.5, *[1.0] * (shape.num_quantizers - 2)]  # finer levels are less predictable
    model.smoothing.copy_(config.label_smoothing * torch.tensor(shares))
    model.longest.fill_(max(len(recording.views[0]) for recording in data.train))
    _task_of(config).initialise(model, data, config)
    return model


def _task_of(config: PriorConfig) -> type[PriorTask]:
    """Class of the architecture's training task."""
    task: type[PriorTask] = resolve_name(ARCHITECTURES[config.architecture].task)
    return task


def why_not_pretrained(config: PriorConfig) -> str:
    """Explain why pretrained weights do not fit although the settings allow them; "" otherwise."""
    takes_them = "pretrained" in ARCHITECTURES[config.architecture].settings
    if not config.pretrained or not takes_them or config.fits_pretrained:
        return ""
    sizes = ", ".join(f"{name} {value}" for name, value in PRETRAINED_SIZES.items())
    return (
        f"prior.pretrained: the prior begins from nothing, as pretrained weights need {sizes} and "
        "count_experts; set prior.pretrained: false to be told no more"
    )


def trainer_settings(
    config: PriorConfig, seed: int, steps_per_epoch: int, pretrained: bool = False
) -> TrainerSettings:
    """Settings of the trainer. With `pretrained`, the initial weights also compete for best epoch."""
    same = {"epochs", "learning_rate", "weight_decay", "gradient_clip", "warmup_steps", "patience"}
    # Factors of the learning rate: mixture scores and weights are few and start far from their optimum; each label
    # embedding is trained by few windows.
    mixture_rate, label_rate = (3.0, 60.0) if pretrained else (10.0, 10.0)
    return TrainerSettings(
        **config.model_dump(include=same),
        betas=BETAS,
        seed=seed,
        learning_rate_factors={
            "pointer_mixture.": mixture_rate,
            "count_experts.": mixture_rate,
            "label": label_rate,
            **{f"retrieval.{name}": 10.0 for name in SCORE_PARAMETERS},
        },
        validate_initial=pretrained,
        average=config.weight_averaging,
        budget_seconds=budget_seconds(config.budget_minutes, config.epochs * steps_per_epoch),
    )


def fit_prior(data: PriorData, config: PriorConfig, seed: int, run: Run) -> PriorTraining:
    """Train a prior on coded recordings, then store the recordings' loudness contours in it.

    Raises Interrupted (after saving) when `run` requests it, and DistillError when training diverges.
    """
    model = prior_to_train(data, config, seed)
    task = _task_of(config)(model, data, config, seed, run.fabric)
    settings = trainer_settings(config, seed, task.steps_per_epoch, config.fits_pretrained)
    trainer = Trainer(task, settings, run)
    result = trainer.run()
    round_weights(model.eval())
    if probe := task.probe_memory():
        run.emit(PriorMemoryMetrics(trainer.state.step, gates={}, probe=probe))
        probed = {f"probe/{name}": value for name, value in probe.items()}
        result = replace(result, best_metrics={**result.best_metrics, **probed})
    followed = evenly(whole_courses(data), MOST_COURSES)
    model.begin_courses([len(course) for course, _ in followed]).fit(followed)
    last = [result.start_metrics, *result.history][-1]
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
    return PriorTraining(result=result, model=model.cpu().eval(), facts=facts)


def whole_courses(data: PriorData) -> list[tuple[Codes, int]]:
    """Loudness `[F, 1]` and label (0: no label) of each training recording.

    Held-out ends are appended to their recordings, so that contours end as the recordings do.
    """
    ends = {
        end.group.removesuffix(END): end.codes[:, :1]
        for end in data.held_out
        if end.group.endswith(END)
    }
    no_end = np.empty((0, 1), np.int64)
    return [
        (
            np.concatenate([recording.codes[:, :1], ends.get(recording.group, no_end)]),
            recording.label,
        )
        for recording in data.train
    ]


def train_prior_of_codes(
    codes: Path,
    split: Path,
    folder: Path,
    params: Params,
    execution: Execution,
    state: Path,
    tracking_root: Path | None = None,
) -> PriorTraining:
    """Train on the codes in `codes`, validate on the held-out side of `split`, and write the artefact `folder`.

    Used by the stage and the command. Resumes from `state`; raises Interrupted after saving.
    """
    fabric = make_fabric(execution)
    data, seed = read_prior_data(codes, split, params.seed), params.seed
    recordings = data.recordings
    config, tier = params.prior_config(recordings), params.tier_name(recordings)
    values: dict[str, Any] = config.model_dump(exclude=set(not_taken(config.architecture)))
    of_memory = {f"memory.{name}": value for name, value in values.pop("memory", {}).items()}
    settings = {**values, **of_memory, "seed": seed, "tier": tier}
    inputs = {"codes": sha256_files(codes.iterdir(), codes), "split": sha256_file(split)}
    about = {
        **about_corpus(params, data.codes.corpus_sha256, data.codes.sample_rate, recordings),
        "codec_sha256": data.codes.codec_sha256[:12],
        "codebook_size": data.codes.codebook_sizes[-1],  # of the spectral levels
        "num_quantizers": data.codes.num_quantizers,
    }
    derived = config.model_fields_set - params.prior.given.keys()
    with tracked_run(
        "train_prior", inputs, settings, about, derived, PriorConsole, fabric, state, tracking_root
    ) as run:
        for remark in filter(None, (why_not_pretrained(config), _lost_labels(data))):
            run.console.say(remark)
        trained = fit_prior(data, config, seed, run)
        if not run.is_first:
            return trained
        measured = {"val_bits_per_second_counting": counting_bits_per_second(data)}
        facts, reference = (
            trained.facts.model_copy(update={"fingerprint": run.fingerprint}),
            data.reference(),
        )
        rows = trained.result.rows
        save_artifact(
            folder, trained.model, facts, rows, lambda path: save_reference(path, reference)
        )
        figures = {**measured, **prior_metrics(trained)}
        run.keep(folder, {**figures, "epoch": trained.result.best_epoch}, {})
    return replace(
        trained,
        metrics={**figures, **trained.result.counts},
        recordings=recordings,
        tier=tier,
        store=run.store,
    )


def _lost_labels(data: PriorData) -> str:
    """Warning about labels without a training recording; "" if there are none."""
    if not data.lost_labels:
        return ""
    return (
        f"warning: labels {one_line(', '.join(data.lost_labels))}: expected a recording of each to train on, found "
        "that the codec, which was trained without labels, holds them out; train the codec with labels, too"
    )


def print_prior(training: PriorTraining, console: Console) -> None:
    """Print the result: losses, perplexity, bits per second next to the counting baseline, warnings and remarks."""
    result, metrics, memorization = training.result, training.metrics, training.facts.memorization
    levels = sorted(
        (name.split("/")[0] for name in metrics if name.startswith("level_")), key=by_level
    )
    named = zip(level_names(len(levels)), levels, strict=True)
    bits = {name: metrics.get(f"val_bits_per_second{name}") for name in ("", "_counting")}
    lines = [
        f"prior of {training.made_of}: {result.summary}",
        f"held-out perplexity {training.facts.best_perplexity:.1f}; by level "
        + ", ".join(f"{name} {metrics[f'{level}/val_perplexity']:.1f}" for name, level in named),
        f"{bits['']:.0f} bits per second of held-out audio; counting alone {bits['_counting']:.0f}{_gain(metrics)}",
    ]
    lines += [
        f"warning: {memorization.message}"
        if memorization.was_memorizing
        else "no sign of memorisation"
    ]
    for line in filter(None, (*lines, memory_line(metrics), *result.further_remarks)):
        console.print(line, soft_wrap=True)


def _gain(metrics: Mapping[str, float]) -> str:
    """Bits per second of pretrained weights before training, and whether training gained anything; "" otherwise."""
    least_gain = 0.005  # relative drop in bits per second below which training is reported to have gained nothing
    start = metrics.get("val_bits_per_second_start")
    if not start:
        return ""
    gained = 1 - metrics["val_bits_per_second"] / start >= least_gain
    return f", before training {start:.0f}" + "; training the prior gained nothing here" * (
        not gained
    )


def prior_metrics(training: PriorTraining) -> dict[str, float]:
    """Metrics of the best weights, for comparing runs."""
    result = training.result
    left_out = ("epoch", "learning_rate", "gradient_norm")
    metrics = {name: value for name, value in result.best_metrics.items() if name not in left_out}
    if result.start_metrics:
        metrics["val_bits_per_second_start"] = result.start_metrics["val_bits_per_second"]
    return {**metrics, "is_memorizing": float(training.facts.memorization.was_memorizing)}
