"""Training tasks of priors, with their loss and validation."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from statistics import fmean, geometric_mean
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from distill.codes.sequences import (
    IGNORED,
    Batch,
    CodeSequences,
    Window,
    covering_windows,
    pad_batch,
)
from distill.novelty.memorization import (
    COARSE_LEVELS,
    MAX_PERPLEXITY,
    Memorization,
    deciding_perplexity,
    near_duplicates,
)
from distill.params import PriorConfig
from distill.prior.base import Prior
from distill.prior.counts import fold_tables
from distill.prior.data import BatchShare, PriorData, WindowSampler
from distill.prior.frame import FramePrior
from distill.prior.pretrained import load_pretrained_prior
from distill.training.distributed import Distributed, share_of
from distill.training.events import (
    Epoch,
    PriorEpochMetrics,
    PriorEvent,
    PriorStepMetrics,
    Step,
    WatchMetrics,
)
from distill.training.task import Task


@torch.no_grad()
def validate_prior_epoch(
    model: Prior, sequences: CodeSequences, batch_size: int, fabric: Fabric
) -> Tensor:
    """Sum the negative log-likelihood in nats, and count the tokens, for each level: `[2, Q]` fp64.

    Every code and EOS of `sequences` counts once; the loss is total nats / total tokens. A batch holds `batch_size`
    windows of up to the context length, or fewer longer windows. Processes share the work and get the same sums.
    """
    model.eval()
    sums = torch.zeros(2, model.num_quantizers, dtype=torch.float64)
    windows = covering_windows(sequences.lengths.tolist(), model.span_frames)
    windows.sort(key=len)
    batches = similar_length_batches(windows, batch_size, model.context_frames)
    for batch_windows in batches[fabric.global_rank :: fabric.world_size]:
        batch = pad_batch(sequences, batch_windows).map(fabric.to_device)
        with fabric.autocast():
            nats = target_nats(model(batch), batch.targets).plain
        sums[0] += nats.double().sum(dim=(0, 1)).cpu()
        sums[1] += (batch.targets != IGNORED).sum(dim=(0, 1)).cpu()
    return Distributed(fabric).sum(sums)


def similar_length_batches(windows: Sequence[Window], size: int, frames: int) -> list[list[Window]]:
    """Batch windows sorted by length: `size` windows of up to `frames` each, or fewer longer windows."""
    batches, first = [], 0
    while first < len(windows):
        last = first + size
        while (
            last > first + 1
            and (last - first) * len(windows[min(last, len(windows)) - 1]) > size * frames
        ):
            last -= 1
        batches.append(list(windows[first:last]))
        first = last
    return batches


class Nats(NamedTuple):
    """Negative log-likelihood of each target `[B, T, Q]` in nats, plain and with label smoothing; 0 where ignored."""

    plain: Tensor
    smoothed: Tensor


def target_nats(
    logits: Tensor,
    targets: Tensor,
    smoothing: Tensor | None = None,
    codebook_sizes: Sequence[int] = (),
) -> Nats:
    """Negative log-likelihood of `targets` `[B, T, Q]` under `logits` `[B, T, Q, V + 2]`.

    `smoothing` `[Q]` is the label smoothing of each level, spread evenly over its codes (`codebook_sizes` per level).
    """
    logits = logits.float()
    is_target = (targets != IGNORED).float()
    log_sum = logits.logsumexp(dim=3)
    nats = (log_sum - logits.gather(3, targets.clamp_min(0)[..., None])[..., 0]) * is_target
    if smoothing is None:
        return Nats(nats, nats)
    means = [
        level[..., :size].mean(dim=2)
        for level, size in zip(logits.unbind(2), codebook_sizes, strict=True)
    ]
    uniform = (log_sum - torch.stack(means, dim=2)) * is_target
    return Nats(nats, nats + smoothing * (uniform - nats))


def _perplexity(nats: float) -> float:
    return math.exp(min(700.0, nats))


def targets_in(batch: Batch) -> int:
    """Number of targets of a batch: codes and EOS."""
    return int((batch.targets != IGNORED).sum())


class PriorTask(Task[BatchShare]):
    """Task of a prior: next-code prediction on random windows, validated on all codes of held-out recordings."""

    model: Prior
    sampler_kind: type[WindowSampler] = WindowSampler

    @staticmethod
    def initialise(model: Prior, data: PriorData, config: PriorConfig) -> None:
        """Initialise a new network from the data before training; nothing by default."""

    def __init__(
        self, model: Prior, data: PriorData, config: PriorConfig, seed: int, fabric: Fabric
    ) -> None:
        self.model, self.data, self.config, self.fabric = model, data, config, fabric
        sampling = config.batch_size, seed, config.label_dropout
        self.sampler = self.sampler_kind(data.train, model.shape, *sampling)
        self.steps_per_epoch = self.sampler.batches_per_epoch
        labels = [recording.label for recording in data.held_out]
        self.held_out = CodeSequences(
            [recording.views[0] for recording in data.held_out], data.codes.codebook_sizes, labels
        )
        self.probe_batch = self.sampler.probe().map(fabric.to_device)
        self.smoothing = (
            fabric.to_device(model.smoothing.clone()) if model.smoothing.any() else None
        )

    def batches(self, epoch: int, skip: int) -> Iterator[BatchShare]:
        """See `Task`."""
        for share in self.sampler.batches(epoch, skip, share_of(self.fabric)):
            yield replace(share, batch=share.batch.map(self.fabric.to_device))

    def losses(self, model: nn.Module, batch: BatchShare) -> dict[str, Tensor]:
        """Nats per target: `objective` with label smoothing, `train_loss` without."""
        nats = target_nats(
            model(batch.batch), batch.batch.targets, self.smoothing, self.data.codes.codebook_sizes
        )
        return {
            "objective": nats.smoothed.sum() / batch.tokens,
            "train_loss": nats.plain.detach().sum() / batch.tokens,
        }

    def probe(self) -> float:
        """Perplexity of a few windows of training recordings."""
        with self.fabric.autocast():
            nats = target_nats(self.model(self.probe_batch), self.probe_batch.targets).plain
        return _perplexity(float(nats.double().sum()) / targets_in(self.probe_batch))

    def validate(self) -> dict[str, float]:
        """Held-out loss, perplexity (overall, of level groups and of each level) and bits per second of audio."""
        nats, tokens = validate_prior_epoch(
            self.model, self.held_out, self.config.batch_size, self.fabric
        )
        loss, levels = float(nats.sum() / tokens.sum()), (nats / tokens.clamp_min(1)).tolist()
        others = self.data.codes.layout.spectral
        measured = {
            "val_loss": loss,
            "val_perplexity": _perplexity(loss),
            "val_bits_per_second": float(nats.sum()) / math.log(2) / self.data.held_out_seconds,
            "val_perplexity_without_tones": _perplexity(
                float(nats[others].sum() / tokens[others].sum())
            ),
            "val_coarse_perplexity": _perplexity(
                fmean(levels[level] for level in others[:COARSE_LEVELS])
            ),
        }
        for level, value in enumerate(levels):
            measured[f"level_{level}/val_perplexity"] = _perplexity(value)
        return measured

    def probe_memory(self) -> dict[str, float]:
        """Retrieval metrics of the network's memory, in eval mode; {} without a memory."""
        return {}

    def events(self, report: Step | Epoch | WatchMetrics) -> Iterator[PriorEvent]:
        """The prior's event for a step or an epoch."""
        match report:
            case Step():
                yield PriorStepMetrics(**report.public(self.steps_per_epoch))
            case Epoch(metrics=metrics):
                check = self.check_memorization(metrics)
                yield PriorEpochMetrics(
                    epoch=report.epoch,
                    total_epochs=self.config.epochs,
                    **{
                        name: metrics[name] for name in ("train_loss", "val_loss", "val_perplexity")
                    },
                    best_perplexity=math.exp(report.best_loss),
                    is_memorizing=check.was_memorizing,
                    memorization_message=check.message,
                    epoch_time_s=report.epoch_time_s,
                    learning_rate=report.learning_rate,
                )

    @cached_property
    def alike(self) -> tuple[int, int]:
        """See `near_duplicates`."""
        train, held_out = (
            [recording.codes for recording in side]
            for side in (self.data.train, self.data.held_out)
        )
        return near_duplicates(train, held_out, self.data.codes.layout)

    def check_memorization(self, metrics: Mapping[str, float]) -> Memorization:
        """Judge from the metrics of `validate` whether the prior memorises; if so, also look for near-duplicates."""
        data, sizes = self.data, self.data.codes.codebook_sizes
        without_tones, coarse = (
            metrics["val_perplexity_without_tones"],
            metrics["val_coarse_perplexity"],
        )
        perplexity, threshold = deciding_perplexity(
            without_tones, coarse, self.config.memorization_perplexity
        )
        is_memorizing = perplexity < threshold
        alike, compared = self.alike if is_memorizing else (None, None)
        return Memorization(
            was_memorizing=is_memorizing,
            val_perplexity=min(perplexity, MAX_PERPLEXITY),
            threshold=threshold,
            codebook_size=round(
                geometric_mean(sizes[level] for level in data.codes.layout.spectral)
            ),
            recordings=data.recordings,
            alike=alike,
            compared=compared,
        )


class DepthTask(PriorTask):
    """Task of a prior with a depth network, initialised with pretrained weights, if they fit, and with counts."""

    model: FramePrior

    @staticmethod
    def initialise(model: Prior, data: PriorData, config: PriorConfig) -> None:
        """See `PriorTask`."""
        assert isinstance(model, FramePrior)
        if config.fits_pretrained:
            load_pretrained_prior(model, data.train)
        if model.count_experts is not None:
            model.count_experts.set_tables(
                fold_tables(data.train, data.codes.codebook_sizes, len(data.labels))
            )


class FrameTask(DepthTask):
    """`DepthTask` of a prior that does not copy loudness from its history."""

    @staticmethod
    def initialise(model: Prior, data: PriorData, config: PriorConfig) -> None:
        """See `PriorTask`."""
        DepthTask.initialise(model, data, config)
        assert isinstance(model, FramePrior)
        model.pointer_mixture.copy_nothing(0)
