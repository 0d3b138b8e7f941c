"""Training of the codec: initialise from the corpus, train, keep the epoch with the lowest held-out loss, report."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn

from distill.audio.corpus import MANIFEST, Corpus, load_corpus
from distill.audio.partial_noise import partial_noise_line
from distill.audio.partials import tone_line
from distill.audio.plots import write_spectrograms
from distill.audio.write import write_audio
from distill.codec.artifact import CodecArtifact
from distill.codec.constants import AVERAGE, BETAS, DRAWS, WARMUP_STEPS
from distill.codec.data import CodecData, Crops, CropSampler, fixed_pieces
from distill.codec.fidelity import decoded_pairs, fidelity_line, held_out_fidelity
from distill.codec.initialise import build_vqvae, initialise, load_pretrained
from distill.codec.losses import DecoderLoss
from distill.codec.model import VQVAE, VQVAEOutput
from distill.codec.quantizer import codebook_health, codeword_counts, utilization_warnings
from distill.errors import ParamsError
from distill.execution import Execution, free_memory
from distill.params import Params, VQVAEConfig
from distill.process import keep_freed_memory
from distill.progress import HEALTH_TITLE, ProgressReport, Status, health_lines, health_table
from distill.storage.files import sha256_file, write_json
from distill.storage.weights import round_weights, weights_sha256
from distill.training.checkpoints import NO_CHECKPOINTS, CheckpointStore, is_artifact, save_artifact
from distill.training.console import ToConsole, public_events
from distill.training.distributed import Distributed, make_fabric, share_of
from distill.training.events import (
    CodebookHealth,
    Epoch,
    Step,
    VQEpochMetrics,
    VQEvent,
    VQStepMetrics,
    WatchMetrics,
    health_from_metrics,
)
from distill.training.interruption import Interruption, raise_interrupted
from distill.training.run import Run, Trained, about_corpus, tracked_run
from distill.training.task import Task, TrainerSettings, budget_seconds
from distill.training.trainer import Trainer

PREVIEWS, PREVIEW_NAMES = 4, "names.json"
FITTED = "fitted"  # name of the fitted codec, next to the checkpoints
VAL_LOSSES = ("recon", "mel", "envelope", "commit")


@dataclass(frozen=True, eq=False, kw_only=True)
class CodecTraining(Trained):
    """A trained codec (on the CPU, best weights, eval mode)."""

    model: VQVAE
    split_remark: str = ""
    held_out_frames: float = math.inf  # number of frames that codeword use was measured on

    @property
    def codebook_health(self) -> CodebookHealth:
        """Codebook health of the best epoch."""
        return health_from_metrics(self.result.best_metrics)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of what cannot be held out, and of levels that use few of their codewords."""
        of_levels = utilization_warnings(
            self.codebook_health, self.model.layout, self.held_out_frames
        )
        return tuple(filter(None, (self.split_remark, *of_levels)))


def train_vqvae(
    corpus: Corpus,
    config: VQVAEConfig,
    val_fraction: float,
    seed: int,
    fabric: Fabric,
    store: CheckpointStore = NO_CHECKPOINTS,
    callback: Callable[[VQEvent], None] | None = None,
    *,
    interruption: Interruption | None = None,
    cancel_event: threading.Event | None = None,
) -> CodecTraining:
    """Train a codec on the training side of a corpus, without writing files but the checkpoints of `store`.

    `callback` gets the events. Setting `cancel_event` ends training within a step and keeps the best weights so far.
    Raises Interrupted after saving when `interruption` asks, DistillError when training diverges.
    """
    data = CodecData.split(corpus, val_fraction, seed)
    cancel = cancel_event or threading.Event()
    run = Run(fabric, store, public_events(callback), interruption or Interruption(), cancel.is_set)
    return _trained(data, config, seed, run)


def train_codec(
    corpus_folder: Path,
    folder: Path,
    params: Params,
    execution: Execution,
    state: Path,
    tracking_root: Path | None = None,
) -> CodecTraining:
    """Train a codec on the corpus in `corpus_folder` and write the artefact `folder`, for stage and command.

    Resumes, and raises Interrupted after saving.
    """
    fabric = make_fabric(execution)
    corpus = load_corpus(corpus_folder)
    recordings, seed = len(corpus.entries), params.seed
    config, val_fraction = params.vqvae_config(recordings), params.split.resolve(recordings)
    tier = params.tier_name(recordings)
    by_label = params.corpus.labels == "folder"
    settings: dict[str, Any] = {"val_fraction": val_fraction, "by_label": by_label}
    settings |= {"seed": seed, "tier": tier}
    inputs = {"corpus": sha256_file(corpus_folder / MANIFEST)}
    data = CodecData.split(corpus, val_fraction, seed, by_label)
    about = about_corpus(params, inputs["corpus"], corpus.sample_rate, recordings)
    decided_by = (inputs, {**config.model_dump(), **settings})
    derived = config.model_fields_set - params.vqvae.given.keys()
    with tracked_run(
        "train_vqvae", *decided_by, about, derived, CodecConsole, fabric, state, tracking_root
    ) as run:
        if data.remark:
            run.console.say(f"warning: {data.remark}")
        trained = _trained(data, config, seed, run)
        if not run.is_first:
            return trained
        artifact = CodecArtifact(
            architecture=trained.model.architecture,
            spectrogram=trained.model.spectrogram,
            training=config,
            **settings,
            recordings=recordings,
            trim=corpus.trim,
            stereo=corpus.is_stereo,
            best_epoch=trained.result.best_epoch,
            epochs_trained=len(trained.result.history),
            codebook_health=trained.codebook_health,
            corpus_sha256=inputs["corpus"],
            codec_sha256=weights_sha256(trained.model),
            fingerprint=run.fingerprint,
        )
        metrics = _saved(folder, artifact, trained, data, run)
    return replace(trained, metrics=metrics, recordings=recordings, tier=tier, store=run.store)


def _saved(
    folder: Path, artifact: CodecArtifact, trained: CodecTraining, data: CodecData, run: Run
) -> dict[str, float]:
    """Measure a trained codec, write its artefact and send both to the trackers; returns its metrics.

    A run that goes on after its end neither measures nor writes again.
    """
    codec, result = trained.model, trained.result
    measured = f"fidelity_{artifact.codec_sha256}"
    _, fidelity = run.store.kept(measured)
    if not (fidelity and is_artifact(folder, artifact)):
        fidelity = held_out_fidelity(codec, data)

        def previews(path: Path) -> None:
            write_previews(path / "previews", codec, data)

        save_artifact(folder, codec, artifact, result.rows, previews)
        run.store.keep(measured, {}, fidelity)
    shown = ("val_", "train_loss", "codebook/")
    best = {name: value for name, value in result.best_metrics.items() if name.startswith(shown)}
    metrics = {**fidelity, **best}
    about = {"codec_sha256": artifact.codec_sha256[:12]}
    run.keep(folder, {**metrics, "epoch": result.best_epoch}, about)
    return {**metrics, **result.counts}


def _trained(data: CodecData, config: VQVAEConfig, seed: int, run: Run) -> CodecTraining:
    """Build a codec, fit it to the training recordings and train it. Raises ParamsError."""
    keep_freed_memory()
    model = build_vqvae(data.corpus.sample_rate, config, seed, warm=False)
    _fit(model, data, seed, run)
    run.console.begin(CodecConsole.label)
    task = CodecTask(model, data, config, seed, run.fabric)
    if run.is_first and run.console.status.folder is not None:
        run = replace(
            run, observers=(*run.observers, EarlyPreviews(model, data, run.console.status))
        )
    same = {"epochs", "learning_rate", "weight_decay", "gradient_clip", "patience", "least_gain"}
    settings = TrainerSettings(
        **config.model_dump(include=same),
        seed=seed,
        betas=BETAS,
        warmup_steps=WARMUP_STEPS,
        learning_rate_factors={"encoder.": config.encoder_rate},
        validate_initial=True,
        average=AVERAGE,
        average_power=1,
        budget_seconds=budget_seconds(config.budget_minutes, config.epochs * task.steps_per_epoch),
    )
    result = Trainer(task, settings, run).run()
    round_weights(model)
    model.cpu().eval()
    return CodecTraining(
        result=result, model=model, split_remark=data.remark, held_out_frames=task.held_out_frames
    )


def _fit(model: VQVAE, data: CodecData, seed: int, run: Run) -> None:
    """Load pretrained weights and fit a codec to the training recordings, or load the codec that was fitted before."""
    distributed = Distributed(run.fabric)
    tensors, fitted = run.store.kept(FITTED)
    if int(distributed.sum(torch.tensor(float(bool(fitted))))) == run.fabric.world_size:
        model.architecture = model.architecture.model_copy(update=fitted)
        model.eval().load_state_dict(tensors)
        return
    run.console.begin("fit")
    if not load_pretrained(model):
        sizes = model.architecture
        run.console.say(
            f"warning: the decoder starts from random weights: no pretrained weights exist for {data.corpus.sample_rate} "
            f"Hz with vqvae.hidden_size {sizes.hidden_size} and vqvae.num_layers {sizes.num_layers}, but for a "
            "corpus.sample_rate from 17000 to 67000 with the default sizes"
        )
    initialise(model, data.corpus, data.train, seed, progress=partial(_fitting, run, distributed))
    if run.is_first:
        run.store.keep(FITTED, model.state_dict(), {"input_gain": model.architecture.input_gain})


def _fitting(run: Run, distributed: Distributed, done: int, of: int, text: str) -> None:
    """Show the progress of a fit. Raises Interrupted when asked."""
    run.console(done, of, text)
    distributed.poll(run.interruption, run.cancel)
    if distributed.signal:
        raise_interrupted(distributed.signal, "before the first step; run the same command again")


class CodecTask(Task[Crops]):
    """Task of the codec: reconstruction and commitment loss on crops, validation on held-out pieces.

    Raises ParamsError where a batch is too small for the processes, or too large for the memory.
    """

    model: VQVAE
    figure = "recon_loss"

    def __init__(
        self, model: VQVAE, data: CodecData, config: VQVAEConfig, seed: int, fabric: Fabric
    ) -> None:
        corpus, step = data.corpus, model.spectrogram.samples_per_frame
        crop = max(1, round(config.crop_seconds * corpus.sample_rate / step)) * step
        memory, on_cpu = free_memory(), fabric.device.type == "cpu"
        # A sample takes 1350 bytes in training, measured with batches of 60 and 120 seconds.
        most = memory // (1350 * crop)
        if config.batch_size < fabric.world_size:
            raise ParamsError(
                f"vqvae.batch_size: expected at least {fabric.world_size}, a crop for each process, "
                f"found {config.batch_size}; raise it or start fewer processes"
            )
        if on_cpu and config.batch_size > most:
            raise ParamsError(
                f"vqvae.batch_size: expected at most {most} crops of {crop} samples in {memory >> 20} MB of memory, "
                f"found {config.batch_size}; lower it or vqvae.crop_seconds, or allow this program more memory"
            )
        self.model, self.config, self.fabric = model, config, fabric
        self.sampler = CropSampler(corpus, data.train, config.batch_size, crop, step, seed)
        self.steps_per_epoch = self.sampler.steps_per_epoch
        self.share, self.distributed = share_of(fabric), Distributed(fabric)
        self.val_pieces = fixed_pieces(corpus, data.held_out, crop, step, 64, self.share)
        self.num_val_pieces = int(
            self.distributed.sum(torch.tensor(float(len(self.val_pieces.audio))))
        )
        held_out_samples = sum(entry.samples for entry in data.held_out)  # the last piece is padded
        self.held_out_frames = min(self.num_val_pieces * crop, held_out_samples) // step
        self.probe_crops = self.sampler.probe(2).to(fabric.device)
        self.loss = DecoderLoss(corpus.sample_rate, model.architecture.input_gain)
        fabric.to_device(self.loss)
        self._health: CodebookHealth = {}  # of the last epoch

    def batches(self, epoch: int, skip: int) -> Iterable[Crops]:
        """This process's share of each batch of crops, of B / processes."""
        return (
            batch.to(self.fabric.device) for batch in self.sampler.batches(epoch, skip, self.share)
        )

    def losses(self, model: nn.Module, batch: Crops) -> dict[str, Tensor]:
        """Losses of crops, weighted so that their mean over processes is the mean of the whole batch."""
        output = cast(VQVAEOutput, model(*batch, DRAWS))
        share = len(batch.audio) * self.fabric.world_size / self.config.batch_size
        parts = {
            name: share * value for name, value in self.loss(output.audio, batch.audio).items()
        }
        parts["commit"] = share * output.commit_loss
        return {
            "train_loss": parts["recon"] + self.config.commitment_weight * parts["commit"],
            **{f"train_{name}_loss": parts[name].detach() for name in VAL_LOSSES},
        }

    def probe(self) -> float:
        """Reconstruction loss of a few fixed crops of training recordings."""
        output = cast(VQVAEOutput, self.model(*self.probe_crops, DRAWS))
        return float(self.loss(output.audio, self.probe_crops.audio)["recon"])

    def validate(self) -> dict[str, float]:
        """Losses and codebook health on the held-out pieces; each process takes its share."""
        losses = torch.zeros(self.num_val_pieces, len(VAL_LOSSES), dtype=torch.float64)
        sizes = self.model.architecture.codebook_sizes
        counts = torch.zeros(len(sizes), max(sizes), dtype=torch.float64)
        for start in range(0, len(self.val_pieces.audio), self.config.batch_size):
            some = (part[start : start + self.config.batch_size] for part in self.val_pieces)
            audio, noise = Crops(*some).to(self.fabric.device)
            output = cast(VQVAEOutput, self.model(audio, noise, DRAWS))
            draws = output.audio.unflatten(0, (DRAWS, -1)).unbind(dim=1)  # of each piece [DRAWS, N]
            for row, drawn, piece in zip(
                losses[self.share][start:], draws, audio.split(1), strict=False
            ):
                parts = {**self.loss(drawn, piece), "commit": output.commit_loss}
                row[:] = torch.stack([parts[name] for name in VAL_LOSSES])
            counts += codeword_counts(output.codes.flatten(0, 1).cpu(), sizes)
        columns = dict(zip(VAL_LOSSES, self.distributed.sum(losses).T.tolist(), strict=True))
        self.held_out_losses = columns["recon"]
        means = {
            f"val_{name}_loss": math.fsum(values) / len(values) for name, values in columns.items()
        }
        val_loss = (
            means["val_recon_loss"] + self.config.commitment_weight * means["val_commit_loss"]
        )
        health = codebook_health(self.distributed.sum(counts), sizes)
        flat = {
            f"codebook/{level}/{name}": value
            for level, row in health.items()
            for name, value in row.items()
        }
        return {"val_loss": val_loss, **means, **flat}

    def events(
        self, report: Step | Epoch | WatchMetrics
    ) -> Iterator[VQStepMetrics | VQEpochMetrics]:
        """The codec's event for a step or an epoch."""
        match report:
            case Step():
                yield VQStepMetrics(
                    **report.public(self.steps_per_epoch),
                    recon_loss=report.losses["train_recon_loss"],
                    commit_loss=report.losses["train_commit_loss"],
                    commitment_weight=self.config.commitment_weight,
                    codebook_health=self._health,
                )
            case Epoch(metrics=metrics):
                layout, self._health = self.model.layout, health_from_metrics(metrics)
                losses = ("train_loss", "val_loss", "val_recon_loss", "val_commit_loss")
                yield VQEpochMetrics(
                    **{name: metrics[name] for name in losses},
                    epoch=report.epoch,
                    total_epochs=self.config.epochs,
                    overfitting_gap=metrics["val_recon_loss"] - metrics["train_recon_loss"],
                    learning_rate=report.learning_rate,
                    eta_seconds=(self.config.epochs - report.epoch - 1) * report.epoch_time_s,
                    elapsed_seconds=report.elapsed_seconds,
                    codebook_health=self._health,
                    utilization_warnings=utilization_warnings(
                        self._health, layout, self.held_out_frames
                    ),
                    level_names=layout.names,
                )


class CodecConsole(ToConsole):
    """The progress line, the health of each level, and one warning of each level with low utilisation.

    Health is shown at the end of the first epoch, and about eight times in all, however many epochs there are.
    """

    label = "codec"

    def __init__(self, progress: ProgressReport) -> None:
        super().__init__(progress)
        self._warned: set[str] = set()

    def __call__(self, event: object) -> None:
        """See `Observer`."""
        super().__call__(event)
        match event:
            case VQEpochMetrics(epoch=epoch, total_epochs=epochs, utilization_warnings=warnings):
                times_shown = 8
                if epoch == 0 or (epoch + 1) % math.ceil(epochs / times_shown) == 0:
                    named = dict(
                        zip(event.level_names, event.codebook_health.values(), strict=False)
                    )
                    for line in health_lines(named, f"epoch {epoch + 1} of {epochs}"):
                        self.progress.print(line)
                new = {
                    level: warning
                    for warning in warnings
                    if (level := warning.partition(":")[0]) not in self._warned
                }
                for warning in new.values():
                    self.progress.say(f"warning: epoch {epoch + 1}: {warning}")
                self._warned |= new.keys()


class EarlyPreviews:
    """Observer that shows previews to those who watch: by the weights of an epoch that is the best so far."""

    def __init__(self, codec: VQVAE, data: CodecData, status: Status) -> None:
        self.codec, self.data, self.status = codec, data, status
        self._lowest, self._next = math.inf, 0.0

    def __call__(self, event: object) -> None:
        """See `Observer`. At most a twentieth of the time is spent on it."""
        if not isinstance(event, VQEpochMetrics) or event.val_loss >= self._lowest:
            return
        self._lowest, began = event.val_loss, time.monotonic()
        if began < self._next:
            return
        with TemporaryDirectory() as folder:
            write_previews(Path(folder), self.codec.eval(), self.data)
            self.status.keep(Path(folder), "previews")
        self._next = time.monotonic() + 20.0 * (time.monotonic() - began)


def print_codec(training: CodecTraining, console: Console) -> None:
    """Print the result of a training: losses, fidelity, a row for each codebook, warnings and remarks."""
    best = training.result.best_metrics
    losses = ", ".join(f"{name} {best[f'val_{name}_loss']:.3f}" for name in VAL_LOSSES)
    summary = f"codec of {training.made_of}: {training.result.summary}; of the weights that are kept {losses}"
    tones, noise = tone_line(training.metrics), partial_noise_line(training.metrics)
    lines = (
        summary,
        fidelity_line(training.metrics),
        tones and f"held-out tones: {tones}",
        noise and f"noise between partials, decoded beside held out: {noise}",
    )
    for line in filter(None, lines):
        console.print(line, soft_wrap=True)
    named = dict(zip(training.model.layout.names, training.codebook_health.values(), strict=True))
    console.print(health_table(named, f"{HEALTH_TITLE}, weights that are kept"))
    for line in (
        *(f"warning: {warning}" for warning in training.warnings),
        *training.result.further_remarks,
    ):
        console.print(line, soft_wrap=True)


def write_previews(folder: Path, codec: VQVAE, data: CodecData) -> None:
    """Write a few held-out recordings, as they are and as decoded: two sounds each, an image of both, and names."""
    rate, names = data.corpus.sample_rate, dict[str, str]()
    for number, entry in enumerate(
        data.held_out[:: max(1, len(data.held_out) // PREVIEWS)][:PREVIEWS]
    ):
        ((original, decoded),) = decoded_pairs(codec, data.corpus, [entry], seconds=5.0)
        for name, sound in (("original", original), ("best", decoded)):
            # Softer where it would clip.
            peak = np.float32(max(1.0, np.abs(sound).max(initial=0.0)))
            write_audio(folder / f"preview_{number}_{name}.wav", sound / peak, rate)
        rows = [(f"{entry.path}, held out", original), ("from codes", decoded)]
        write_spectrograms(folder / f"preview_{number}.png", rows, rate)
        names[f"preview_{number}_original.wav"] = entry.path
    write_json(folder / PREVIEW_NAMES, names)
