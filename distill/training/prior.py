"""Training of a prior: windows of coded recordings in, the best weights by held-out loss out."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from distill.codes.reference import Reference, make_reference
from distill.codes.sequences import IGNORED, NUM_MARKS, Batch, CodeSequences, covering_windows, pad_batch
from distill.codes.store import Codes, CodesConfig
from distill.models.prior import Prior
from distill.models.priors import PriorShape, build_prior
from distill.params import PriorConfig
from distill.seeds import derive_seed
from distill.training.checkpoints import CheckpointStore
from distill.training.engine import Fit
from distill.training.events import PriorEpochMetrics, PriorStepMetrics, PriorTrainingCompleteEvent
from distill.training.interruption import Interruption
from distill.training.memorization import Alike, MemorizationCheck, alike_recordings, check_memorization
from distill.training.prior_data import WindowSampler
from distill.training.processes import Agreement, Stop
from distill.training.task import Epoch, FitResult, FitSettings, Step

BETAS = (0.9, 0.95)
RECALL_RATE = 10.0  # of the learning rate: the few numbers there have far to go and cannot learn anything by heart
LABEL_RATE = 10.0  # likewise: one vector for each label, and few windows that speak of it
SMOOTHING_SHARES = (0.1, 0.5)  # of `label_smoothing` in the coarse levels; 1 in the others

Callback = Callable[[PriorStepMetrics | PriorEpochMetrics | PriorTrainingCompleteEvent], None]
OnMetrics = Callable[[Mapping[str, float], int], None]


@dataclass(frozen=True, eq=False)
class PriorData:
    """What a prior learns from and is judged on: of each training recording its coded views `[F, Q]`, the first as it
    is, of each held-out recording one; the groups of near-duplicates they belong to; the codec's codebooks `[Q, V, C]`;
    what the codes mean; where there are labels their names and each recording's, from 1 on, 0 for none; and for people
    what the training recordings are called."""

    train: Sequence[Sequence[Codes]]
    train_groups: Sequence[str]
    held_out: Sequence[Codes]
    held_out_groups: Sequence[str]
    codebooks: Tensor
    codes: CodesConfig
    labels: Sequence[str] = ()
    train_labels: Sequence[int] | None = None
    held_out_labels: Sequence[int] | None = None
    train_names: Sequence[str] = ()

    @property
    def recordings(self) -> int:
        """On both sides."""
        return len(self.train) + len(self.held_out)

    def reference(self) -> Reference:
        """What drawn sounds are compared with, without scores yet."""
        return make_reference(self.train_names, [views[0] for views in self.train], self.held_out)


@dataclass(frozen=True, eq=False)
class PriorTraining:
    """A trained prior (on the CPU, best weights, eval mode) and how it got there."""

    model: Prior
    shape: PriorShape
    fit: FitResult
    complete: PriorTrainingCompleteEvent


def context_frames(config: PriorConfig, codes: CodesConfig) -> int:
    """Frames that the prior attends to."""
    return max(1, round(config.context_seconds * codes.frame_rate))


def shape_of(config: PriorConfig, codebooks: Tensor, codes: CodesConfig, labels: Sequence[str] = ()) -> PriorShape:
    """The network that the settings ask for."""
    is_flat = config.architecture == "flat"
    return PriorShape(
        architecture=config.architecture,
        codebook_size=codes.codebook_size,
        num_quantizers=codes.num_quantizers,
        context_frames=context_frames(config, codes),
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        depth_layers=config.depth_layers if config.architecture == "frame" else 0,
        codeword_size=codebooks.shape[2] if config.geometry and not is_flat else 0,
        labels=list(labels),
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
) -> PriorTraining:
    """Train a prior on coded recordings.

    Raises Interrupted after saving when `interruption` asks, DistillError when training diverges. Setting
    `cancel_event` ends training within a step and keeps the best weights so far.
    """
    shape = shape_of(config, data.codebooks, data.codes, data.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, 5))
        model = build_prior(shape, data.codebooks, config.dropout, config.history_dropout if data.labels else 0.0)
    model.spread.copy_(smoothing_of(config, data.codes.num_quantizers))
    model.longest.fill_(max(len(views[0]) for views in data.train))
    task = _PriorTask(model, data, config, seed, fabric)
    watcher = _Watcher(config, data, callback, on_metrics)
    settings = FitSettings(
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=BETAS,
        gradient_clip=config.gradient_clip,
        warmup_steps=config.warmup_steps,
        patience=config.patience,
        seed=seed,
        rate_shares={"recall.": RECALL_RATE, "label": LABEL_RATE},
        average=config.weight_averaging,
    )
    fit = Fit(task, settings, fabric, store, watcher.step, watcher.epoch, interruption, cancel_event).run()
    last = fit.history[-1]
    complete = PriorTrainingCompleteEvent(
        final_train_loss=last.get("train_loss", math.nan),
        final_val_loss=last["val_loss"],
        final_perplexity=last["val_perplexity"],
        best_perplexity=math.exp(fit.best_loss),
        epochs_trained=len(fit.history),
        was_memorizing=watcher.check(math.exp(fit.best_loss)).is_memorizing,
    )
    if callback is not None:
        callback(complete)
    return PriorTraining(model.cpu().eval(), shape, fit, complete)


def train_prior_epoch(
    model: nn.Module, batches: Iterable[Batch], optimizer: torch.optim.Optimizer, fabric: Fabric, gradient_clip: float
) -> float:
    """One pass over `batches`, a step each; `model` and `optimizer` are set up by `fabric`. Returns nats per token."""
    model.train()
    nats = tokens = 0.0
    for batch in batches:
        count = targets_in(batch)
        loss = window_nats(model, on_device(batch, fabric)).plain.sum() / count
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=gradient_clip)
        optimizer.step()
        nats, tokens = nats + float(loss.detach()) * count, tokens + count
    return nats / tokens


@torch.no_grad()
def validate_prior_epoch(model: Prior, sequences: CodeSequences, batch_size: int, fabric: Fabric) -> Tensor:
    """Sums over every code and end mark of `sequences`, level by level: nats and tokens, `[2, Q]` fp64.

    The loss is the sum of nats over the sum of tokens. Processes share the work and get the same sums.
    """
    model.eval()
    sums = torch.zeros(2, model.num_quantizers, dtype=torch.float64)
    windows = covering_windows(sequences.lengths, model.context_frames)
    windows.sort(key=len)
    for start in range(fabric.global_rank * batch_size, len(windows), fabric.world_size * batch_size):
        batch = pad_batch(sequences, windows[start : start + batch_size])
        with fabric.autocast():
            nats = window_nats(model, on_device(batch, fabric)).plain
        sums[0] += nats.double().sum(dim=(0, 1)).cpu()
        sums[1] += (batch.targets != IGNORED).sum(dim=(0, 1))
    return Agreement(fabric).sum(sums)


class Nats(NamedTuple):
    """What each target costs, `[B, T, Q]`, 0 where it is ignored; and what it costs where labels are smoothed."""

    plain: Tensor
    smoothed: Tensor


def window_nats(model: nn.Module, batch: Batch, smoothing: Tensor | None = None) -> Nats:
    """The targets of a batch. `smoothing` `[Q]` is the share of each label that is spread over all codes of its level."""
    logits = model(batch.inputs, batch.targets, batch.places, batch.labels).float()
    asked = (batch.targets != IGNORED).float()
    log_sum = logits.logsumexp(dim=3)
    chosen = logits.gather(3, batch.targets.clamp_min(0)[..., None])[..., 0]
    nats = (log_sum - chosen) * asked
    if smoothing is None:
        return Nats(nats, nats)
    spread = (log_sum - logits[..., :-NUM_MARKS].mean(dim=3)) * asked
    return Nats(nats, nats + smoothing * (spread - nats))


def smoothing_of(config: PriorConfig, levels: int) -> Tensor:
    """The share of each level's labels that is spread, `[Q]`: the finer a level, the less there is to foresee in it."""
    shares = [*SMOOTHING_SHARES, *[1.0] * levels][:levels]
    return config.label_smoothing * torch.tensor(shares)


def targets_in(batch: Batch) -> int:
    """How many codes and end marks a batch asks for."""
    return int((batch.targets != IGNORED).sum())


def on_device(batch: Batch, fabric: Fabric) -> Batch:
    """The batch where the model is."""
    return batch.map(fabric.to_device)


@dataclass(frozen=True, eq=False)
class _Share:
    """A process's part of a batch, and the targets of the whole batch divided by the number of processes."""

    batch: Batch
    tokens: float


class _PriorTask:
    """What the engine trains: the next codes of random windows, judged on every code of held-out recordings."""

    def __init__(self, model: Prior, data: PriorData, config: PriorConfig, seed: int, fabric: Fabric) -> None:
        self.model, self.config, self.fabric = model, config, fabric
        size, levels = data.codes.codebook_size, data.codes.num_quantizers
        self.sampler = WindowSampler(
            data.train,
            size,
            levels,
            model.context_frames,
            config.batch_size,
            seed,
            data.train_labels,
            config.label_dropout,
        )
        self.steps_per_epoch = self.sampler.batches_per_epoch
        self.held_out = CodeSequences(data.held_out, size, levels, data.held_out_labels)
        self.seconds = sum(len(one) for one in data.held_out) / data.codes.frame_rate
        self.probed = on_device(self.sampler.probe(), fabric)
        self.smoothing = fabric.to_device(model.spread.clone())

    def batches(self, epoch: int, skip: int) -> Iterator[_Share]:
        world = self.fabric.world_size
        for batch in self.sampler.batches(epoch, skip):
            share = batch if world == 1 else batch.part(self.fabric.global_rank, world)
            yield _Share(on_device(share, self.fabric), targets_in(batch) / world)

    def losses(self, model: nn.Module, batch: _Share) -> dict[str, Tensor]:
        nats, smoothed = window_nats(model, batch.batch, self.smoothing)
        return {"objective": smoothed.sum() / batch.tokens, "train_loss": nats.detach().sum() / batch.tokens}

    def probe(self) -> float:
        with self.fabric.autocast():
            nats = window_nats(self.model, self.probed).plain
        return math.exp(min(700.0, float(nats.double().sum()) / targets_in(self.probed)))

    def validate(self) -> dict[str, float]:
        nats, tokens = validate_prior_epoch(self.model, self.held_out, self.config.batch_size, self.fabric)
        loss = float(nats.sum() / tokens.sum())
        measured = {
            "val_loss": loss,
            "val_perplexity": math.exp(min(700.0, loss)),
            "val_bits_per_second": float(nats.sum()) / math.log(2) / self.seconds,
        }
        for level, value in enumerate((nats / tokens.clamp_min(1)).tolist()):
            measured[f"level_{level}/val_perplexity"] = math.exp(min(700.0, value))
        return measured


class _Watcher:
    """Turns what the engine reports into the prior's events."""

    def __init__(
        self,
        config: PriorConfig,
        data: PriorData,
        callback: Callback | None,
        on_metrics: OnMetrics | None,
    ) -> None:
        self.config, self.data = config, data
        self.alike: Alike | None = None  # looked into when there is reason to
        self.callback, self.on_metrics = callback, on_metrics

    def check(self, perplexity: float) -> MemorizationCheck:
        threshold = self.config.memorization_perplexity
        if perplexity < threshold and self.alike is None:
            self.alike = alike_recordings([views[0] for views in self.data.train], self.data.held_out)
        return check_memorization(
            perplexity, self.data.codes.codebook_size, self.data.recordings, threshold, self.alike
        )

    def step(self, step: Step) -> None:
        if self.callback is not None:
            loss = step.losses["train_loss"]
            self.callback(
                PriorStepMetrics(step.epoch, step.step, step.total_steps, loss, step.learning_rate, step.step_time_s)
            )

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
                is_memorizing=check.is_memorizing,
                memorization_message=check.memorization_message,
                epoch_time_s=epoch.epoch_time_s,
                learning_rate=epoch.learning_rate,
            )
        )
