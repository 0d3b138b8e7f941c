"""Training of the codec: start where no network ends, learn from there, keep the epoch that held-out sound likes best."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from distill.audio.corpus import Corpus, CorpusEntry
from distill.codes.split import split_groups
from distill.errors import ParamsError
from distill.models.spectral import spectrogram_config_for
from distill.models.vqvae import VQVAE, VQVAEArchitecture, VQVAEOutput
from distill.params import VQVAEConfig
from distill.seeds import derive_seed
from distill.training.checkpoints import CheckpointStore
from distill.training.codec_data import CropSampler, fixed_pieces
from distill.training.codec_start import initialise, warm_start
from distill.training.engine import Fit
from distill.training.events import CodebookHealth, VQEpochMetrics, VQStepMetrics
from distill.training.interruption import Interruption
from distill.training.journal import Line
from distill.training.losses import REPORT_WINDOWS, MultiScaleMelLoss
from distill.training.processes import Stop
from distill.training.task import Epoch, FitResult, FitSettings, Step

MAX_VAL_PIECES = 64
LOW_UTILIZATION = 0.30
BETAS = (0.8, 0.99)
WARMUP_STEPS = 50
RATE_DROPS = 2

Callback = Callable[[VQStepMetrics | VQEpochMetrics], None]
OnMetrics = Callable[[Mapping[str, float], int], None]
OnStart = Callable[[VQVAE, Sequence[CorpusEntry]], None]


@dataclass(frozen=True)
class CodecTraining:
    """A trained codec (on the CPU, best weights, eval mode) and how it got there. `codebook_health` is the best epoch's."""

    model: VQVAE
    fit: FitResult
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
    """Train a codec on the corpus's training side.

    `on_start` gets the codec as initialised, before the first step, and the held-out recordings; it must not change it.
    Raises Interrupted after saving when `interruption` asks, DistillError when training diverges. Setting
    `cancel_event` ends training within a step and keeps the best weights so far.
    """
    sides = split_groups((entry.group for entry in corpus.entries), seed, val_fraction)
    train = [entry for entry in corpus.entries if sides[entry.group] == "train"]
    held_out = [entry for entry in corpus.entries if sides[entry.group] == "val"]
    model = build_vqvae(corpus.sample_rate, config, seed)
    initialise(model, corpus, train, seed)
    if on_start is not None:
        on_start(model, held_out)
    task = _CodecTask(model, corpus, train, held_out, config, seed, fabric)
    watcher = _Watcher(config, callback, on_metrics)
    settings = FitSettings(
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=BETAS,
        gradient_clip=config.gradient_clip,
        warmup_steps=WARMUP_STEPS,
        patience=config.patience,
        seed=seed,
        rate_shares={"encoder.": config.encoder_rate, "to_latent.": config.encoder_rate},
        start_counts=True,
        drops=RATE_DROPS,
    )
    fit = Fit(task, settings, fabric, store, watcher.step, watcher.epoch, interruption, cancel_event).run()
    health = _health_at(fit.best_metrics, config.num_quantizers)
    return CodecTraining(model.cpu().eval(), fit, health, tuple(held_out))


def build_vqvae(sample_rate: int, config: VQVAEConfig, seed: int, warm: bool = True) -> VQVAE:
    """A codec not yet fitted to the corpus: weights drawn from `seed`, with `warm` a practised decoder. Raises ParamsError."""
    spectrogram = spectrogram_config_for(sample_rate)
    if config.latent_size > spectrogram.features:
        raise ParamsError(
            f"vqvae.latent_size: expected at most {spectrogram.features}, the features of a frame at {sample_rate} Hz, "
            f"found {config.latent_size}"
        )
    architecture = VQVAEArchitecture(
        spectrogram=spectrogram,
        codebook_size=config.codebook_size,
        num_quantizers=config.num_quantizers,
        latent_size=config.latent_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, 3))
        model = VQVAE(architecture, config.dropout, config.ema_decay if config.encoder_rate else 1.0)
    if warm:
        warm_start(model)
    return model


class _CodecTask:
    """What the engine trains: reconstruction plus commitment on crops, judged on fixed held-out pieces."""

    def __init__(
        self,
        model: VQVAE,
        corpus: Corpus,
        train: Sequence[CorpusEntry],
        held_out: Sequence[CorpusEntry],
        config: VQVAEConfig,
        seed: int,
        fabric: Fabric,
    ) -> None:
        step = model.spectrogram.samples_per_frame
        crop = max(1, round(config.crop_seconds * corpus.sample_rate / step)) * step
        if config.batch_size < fabric.world_size:
            raise ParamsError(
                f"vqvae.batch_size: expected at least {fabric.world_size}, a crop for each process, found {config.batch_size}; "
                "raise it or start fewer processes"
            )
        self.model, self.config, self.fabric = model, config, fabric
        self.sampler = CropSampler(corpus, train, config.batch_size, crop, seed)
        self.steps_per_epoch = self.sampler.steps_per_epoch
        self.val_pieces = fixed_pieces(corpus, held_out, crop, MAX_VAL_PIECES)
        self.loss = MultiScaleMelLoss(corpus.sample_rate, REPORT_WINDOWS)
        fabric.to_device(self.loss)

    def batches(self, epoch: int, skip: int) -> Iterable[Tensor]:
        rank, world = self.fabric.global_rank, self.fabric.world_size
        return (self.fabric.to_device(batch[rank::world]) for batch in self.sampler.batches(epoch, skip))

    def losses(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        output = cast(VQVAEOutput, model(batch))
        share = len(batch) * self.fabric.world_size / self.config.batch_size
        recon, commit = share * self.loss(output.audio, batch), share * output.commit_loss
        return {
            "train_loss": recon + self.config.commitment_weight * commit,
            "train_recon_loss": recon.detach(),
            "train_commit_loss": commit.detach(),
        }

    def probe(self) -> None:
        """Crops of sound have no perplexity; losses that are not finite are found without."""

    def inspect(self, step: int, journal: Sequence[Line]) -> dict[str, float]:  # noqa: ARG002
        return {}

    def validate(self) -> dict[str, float]:
        recon = commit = 0.0
        codes = []
        for pieces in self.val_pieces.split(self.config.batch_size):
            audio = self.fabric.to_device(pieces)
            output = cast(VQVAEOutput, self.model(audio))
            share = len(pieces) / len(self.val_pieces)
            recon += share * float(self.loss(output.audio, audio))
            commit += share * float(output.commit_loss)
            codes.append(output.codes.flatten(0, 1).cpu())
        measured = {
            "val_loss": recon + self.config.commitment_weight * commit,
            "val_recon_loss": recon,
            "val_commit_loss": commit,
        }
        for level, values in codebook_health(torch.cat(codes), self.config.codebook_size).items():
            measured |= {f"codebook/{level}/{name}": value for name, value in values.items()}
        return measured


class _Watcher:
    """Turns what the engine reports into the codec's events."""

    def __init__(self, config: VQVAEConfig, callback: Callback | None, on_metrics: OnMetrics | None) -> None:
        self.config, self.callback, self.on_metrics = config, callback, on_metrics
        self.health: CodebookHealth = {}

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
        self.health = _health_at(metrics, self.config.num_quantizers)
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
                    utilization_warnings=utilization_warnings(self.health),
                )
            )


def codebook_health(codes: Tensor, codebook_size: int) -> CodebookHealth:
    """Use of each level's codebook over codes `[n, Q]`: share of codewords used, perplexity, codewords never used."""
    health = {}
    for level in range(codes.shape[1]):
        counts = torch.bincount(codes[:, level], minlength=codebook_size).double()
        shares = counts[counts > 0] / counts.sum()
        health[f"level_{level}"] = {
            "utilization": len(shares) / codebook_size,
            "perplexity": float((-(shares * shares.log()).sum()).exp()),
            "dead_codes": float(codebook_size - len(shares)),
        }
    return health


def utilization_warnings(health: CodebookHealth) -> tuple[str, ...]:
    """One sentence for every level of which less than 30 % of the codewords occur in held-out sound."""
    return tuple(
        f"{level}: {values['utilization']:.0%} of the codewords are used on held-out recordings (expected 30 % or "
        "more): lower the codebook size or add recordings"
        for level, values in health.items()
        if values["utilization"] < LOW_UTILIZATION
    )


def _health_at(metrics: Mapping[str, float], levels: int) -> CodebookHealth:
    return {
        f"level_{level}": {
            name: metrics[f"codebook/level_{level}/{name}"] for name in ("utilization", "perplexity", "dead_codes")
        }
        for level in range(levels)
    }
