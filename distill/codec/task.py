"""The codec's training step and validation, and the health of its codebooks."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from distill.codec.constants import DRAWS
from distill.codec.data import CodecData, CropSampler, fixed_pieces
from distill.codec.losses import DecoderLoss
from distill.codec.model import VQVAE, VQVAEOutput
from distill.errors import ParamsError
from distill.execution import free_memory, usable_memory
from distill.params import VQVAEConfig
from distill.training.distributed import Distributed, Share
from distill.training.events import (
    LOW_UTILIZATION,
    CodebookHealth,
    Epoch,
    Step,
    VQEpochMetrics,
    VQStepMetrics,
    WatchMetrics,
)
from distill.training.task import Task

MAX_VAL_PIECES = 64
PROBE_CROPS = 2
VAL_LOSSES = ("recon", "mel", "envelope")
BYTES_PER_SAMPLE = 1350  # of a batch, in training: measured with batches of 60 and 120 seconds


class CodecTask(Task[Tensor]):
    """Task of the codec: reconstruction and commitment loss on crops, validation on held-out pieces.

    Raises ParamsError where a batch has fewer crops than there are processes, or more than memory holds.
    """

    model: VQVAE
    figure = "recon_loss"

    def __init__(self, model: VQVAE, data: CodecData, config: VQVAEConfig, seed: int, fabric: Fabric) -> None:
        corpus, step = data.corpus, model.spectrogram.samples_per_frame
        crop = max(1, round(config.crop_seconds * corpus.sample_rate / step)) * step
        if config.batch_size < fabric.world_size:
            raise ParamsError(
                f"vqvae.batch_size: expected at least {fabric.world_size}, a crop for each process, "
                f"found {config.batch_size}; raise it or start fewer processes"
            )
        _check_memory(config.batch_size, crop, fabric)
        self.model, self.config, self.fabric = model, config, fabric
        self.sampler = CropSampler(corpus, data.train, config.batch_size, crop, seed)
        self.steps_per_epoch = self.sampler.steps_per_epoch
        self.share, self.distributed = Share.of_process(fabric), Distributed(fabric)
        self.val_pieces = fixed_pieces(corpus, data.held_out, crop, MAX_VAL_PIECES, self.share)
        self.num_val_pieces = int(self.distributed.sum(torch.tensor(float(len(self.val_pieces)))))
        self.probe_crops = fabric.to_device(self.sampler.probe(PROBE_CROPS))
        self.loss = DecoderLoss(corpus.sample_rate)
        fabric.to_device(self.loss)
        self._health: CodebookHealth = {}  # of the last epoch, for the events of the next steps

    def batches(self, epoch: int, skip: int) -> Iterable[Tensor]:
        """This process's share of each batch of crops, `[B / processes, N]`."""
        return (self.fabric.to_device(batch) for batch in self.sampler.batches(epoch, skip, self.share))

    def losses(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        """Losses of crops `[B, N]`, weighted such that their mean over processes is that of the whole batch."""
        output = cast(VQVAEOutput, model(batch, DRAWS))
        share = len(batch) * self.fabric.world_size / self.config.batch_size
        parts = {name: share * value for name, value in self.loss(output.audio, batch).items()}
        commit = share * output.commit_loss
        return {
            "train_loss": parts["recon"] + self.config.commitment_weight * commit,
            "train_recon_loss": parts["recon"].detach(),
            "train_commit_loss": commit.detach(),
            "train_mel_loss": parts["mel"].detach(),
            "train_envelope_loss": parts["envelope"].detach(),
        }

    def probe(self) -> float:
        """Reconstruction loss of a few fixed crops of training recordings."""
        output = cast(VQVAEOutput, self.model(self.probe_crops, DRAWS))
        return float(self.loss(output.audio, self.probe_crops)["recon"])

    def validate(self) -> dict[str, float]:
        """Losses and codebook health on the held-out pieces, of which each process takes its share."""
        rows, commit = [], torch.zeros((), dtype=torch.float64)
        counts = torch.zeros(self.config.num_quantizers, self.config.codebook_size, dtype=torch.float64)
        for pieces in self.val_pieces.split(self.config.batch_size) if len(self.val_pieces) else ():
            audio = self.fabric.to_device(pieces)
            output = cast(VQVAEOutput, self.model(audio, DRAWS))
            draws = output.audio.unflatten(0, (DRAWS, -1)).unbind(dim=1)  # of each piece [DRAWS, N]
            losses = [self.loss(drawn, piece) for drawn, piece in zip(draws, audio.split(1), strict=True)]
            rows += [[float(row[name]) for name in VAL_LOSSES] for row in losses]
            commit += len(pieces) / self.num_val_pieces * float(output.commit_loss)
            counts += codeword_counts(output.codes.flatten(0, 1).cpu(), self.config.codebook_size)
        parts = torch.zeros(self.num_val_pieces, len(VAL_LOSSES), dtype=torch.float64)
        parts[self.share.items] = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(VAL_LOSSES))
        columns = dict(zip(VAL_LOSSES, self.distributed.sum(parts).T.tolist(), strict=True))
        means = {name: math.fsum(values) / len(values) for name, values in columns.items()}
        means["commit"] = float(self.distributed.sum(commit))
        self.held_out_losses = columns["recon"]
        measured = {
            "val_loss": means["recon"] + self.config.commitment_weight * means["commit"],
            **{f"val_{name}_loss": mean for name, mean in means.items()},
        }
        for level, values in health_of(self.distributed.sum(counts)).items():
            measured |= {f"codebook/{level}/{name}": value for name, value in values.items()}
        return measured

    def events(self, report: Step | Epoch | WatchMetrics) -> Iterator[VQStepMetrics | VQEpochMetrics]:
        """The codec's event for a step or an epoch."""
        if isinstance(report, Step):
            yield VQStepMetrics(
                epoch=report.epoch,
                step=report.step,
                total_steps=report.total_steps,
                train_loss=report.losses["train_loss"],
                recon_loss=report.losses["train_recon_loss"],
                commit_loss=report.losses["train_commit_loss"],
                commitment_weight=self.config.commitment_weight,
                learning_rate=report.learning_rate,
                step_time_s=report.step_time_s,
                codebook_health=self._health,
            )
        elif isinstance(report, Epoch):
            metrics = report.metrics
            self._health = health_from_metrics(metrics)
            yield VQEpochMetrics(
                epoch=report.epoch,
                total_epochs=self.config.epochs,
                train_loss=metrics["train_loss"],
                val_loss=metrics["val_loss"],
                val_recon_loss=metrics["val_recon_loss"],
                val_commit_loss=metrics["val_commit_loss"],
                overfitting_gap=metrics["val_recon_loss"] - metrics["train_recon_loss"],
                learning_rate=report.learning_rate,
                eta_seconds=(self.config.epochs - report.epoch - 1) * report.epoch_time_s,
                elapsed_seconds=report.elapsed_seconds,
                codebook_health=self._health,
                utilization_warnings=utilization_warnings(self._health, self.model.architecture.gain_shape),
            )


def codeword_counts(codes: Tensor, codebook_size: int) -> Tensor:
    """How often codes `[n, Q]` use each codeword of each level: `[Q, V]` fp64."""
    return torch.stack([torch.bincount(level, minlength=codebook_size) for level in codes.unbind(1)]).double()


def codebook_health(codes: Tensor, codebook_size: int) -> CodebookHealth:
    """Codebook health of each level over codes `[n, Q]`: share of codewords used, perplexity, codewords never used."""
    return health_of(codeword_counts(codes, codebook_size))


def health_of(counts: Tensor) -> CodebookHealth:
    """Codebook health of each level from `codeword_counts`, `[Q, V]` fp64."""
    health = {}
    for level, of_level in enumerate(counts):
        shares = of_level[of_level > 0] / of_level.sum()
        health[f"level_{level}"] = {
            "utilization": len(shares) / len(of_level),
            "perplexity": float((-(shares * shares.log()).sum()).exp()),
            "dead_codes": float(len(of_level) - len(shares)),
        }
    return health


def utilization_warnings(health: CodebookHealth, codes_loudness: bool = False) -> tuple[str, ...]:
    """Warnings, one sentence for every level that uses less than 30 % of its codewords on held-out recordings.

    Where the first level `codes_loudness` it is left out: it has codewords for louder and softer sounds than there are.
    """
    return tuple(
        f"{level}: {values['utilization']:.0%} of the codewords are used on held-out recordings (expected 30 % or "
        "more): lower the codebook size or add recordings"
        for level, values in health.items()
        if values["utilization"] < LOW_UTILIZATION and not (codes_loudness and level == "level_0")
    )


def health_from_metrics(metrics: Mapping[str, float]) -> CodebookHealth:
    """Codebook health from the metrics `codebook/level_<level>/<name>` of `CodecTask.validate`."""
    levels = sum(name.startswith("codebook/") and name.endswith("/utilization") for name in metrics)
    return {
        f"level_{level}": {
            name: metrics[f"codebook/level_{level}/{name}"] for name in ("utilization", "perplexity", "dead_codes")
        }
        for level in range(levels)
    }


def _check_memory(batch_size: int, crop: int, fabric: Fabric) -> None:
    """Refuse a batch that takes more memory than this process may use, where training on its processor can tell."""
    if fabric.device.type != "cpu":
        return
    memory = free_memory()
    most = memory // (BYTES_PER_SAMPLE * crop)
    if most < 1:
        raise ParamsError(
            f"memory: expected {BYTES_PER_SAMPLE * crop >> 20} MB more for each crop that the codec is trained on, found "
            f"{memory >> 20} MB left of {usable_memory() >> 20} MB; allow this program more, or lower vqvae.crop_seconds"
        )
    if batch_size > most:
        raise ParamsError(
            f"vqvae.batch_size: expected at most {most} crops of {crop} samples in {memory >> 20} MB of memory, found "
            f"{batch_size}; lower it or vqvae.crop_seconds"
        )
