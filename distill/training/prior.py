"""Training of the prior: next-token cross-entropy on windows of coded recordings, best epoch by held-out loss."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from distill.codes.sequences import (
    IGNORED,
    NUM_SPECIAL_TOKENS,
    Window,
    covering_windows,
    pad_batch,
    random_windows,
    to_sequence,
)
from distill.codes.store import Codes, CodesConfig
from distill.models.prior import CodePrior
from distill.params import PriorConfig
from distill.seeds import derive_seed
from distill.training.checkpoints import CheckpointStore
from distill.training.engine import Epoch, Fit, FitResult, FitSettings, Step
from distill.training.events import PriorEpochMetrics, PriorStepMetrics, PriorTrainingCompleteEvent
from distill.training.interruption import Interruption
from distill.training.memorization import MemorizationCheck, check_memorization

BETAS = (0.9, 0.95)
SORTED_BATCHES = 8  # windows are sorted by length within so many batches, so that padding stays small

Callback = Callable[[PriorStepMetrics | PriorEpochMetrics | PriorTrainingCompleteEvent], None]
OnMetrics = Callable[[Mapping[str, float], int], None]


@dataclass(frozen=True)
class PriorTraining:
    """A trained prior (on the CPU, best weights, eval mode) and how it got there."""

    model: CodePrior
    fit: FitResult
    complete: PriorTrainingCompleteEvent


def context_tokens(config: PriorConfig, codes: CodesConfig) -> int:
    """Tokens that the prior attends to: whole frames of `context_seconds`."""
    return max(1, round(config.context_seconds * codes.frame_rate)) * codes.num_quantizers


def fit_prior(
    train: Sequence[Codes],
    held_out: Sequence[Codes],
    codes: CodesConfig,
    config: PriorConfig,
    seed: int,
    fabric: Fabric,
    store: CheckpointStore | None = None,
    callback: Callback | None = None,
    on_metrics: OnMetrics | None = None,
    interruption: Interruption | None = None,
    cancel_event: threading.Event | None = None,
) -> PriorTraining:
    """Train a prior on coded recordings `[F, Q]`.

    Raises Interrupted after saving when `interruption` asks, DistillError when training diverges. Setting
    `cancel_event` ends training within a step and keeps the best weights so far.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, 5))
        model = CodePrior(
            codebook_size=codes.codebook_size,
            seq_len=context_tokens(config, codes),
            num_quantizers=codes.num_quantizers,
            hidden_size=config.hidden_size,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            dropout=config.dropout,
            num_special_tokens=NUM_SPECIAL_TOKENS,
        )
    task = _PriorTask(model, train, held_out, codes, config, seed, fabric)
    watcher = _Watcher(config, codes, len(train) + len(held_out), callback, on_metrics)
    settings = FitSettings(
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=BETAS,
        gradient_clip=config.gradient_clip,
        warmup_steps=config.warmup_steps,
        patience=config.patience,
        seed=seed,
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
    return PriorTraining(model.cpu().eval(), fit, complete)


class _PriorTask:
    """What the engine trains: the next token of random windows, judged on every token of held-out recordings."""

    def __init__(
        self,
        model: CodePrior,
        train: Sequence[Codes],
        held_out: Sequence[Codes],
        codes: CodesConfig,
        config: PriorConfig,
        seed: int,
        fabric: Fabric,
    ) -> None:
        self.model, self.config, self.seed, self.fabric = model, config, seed, fabric
        self.codes = codes
        self.train = [to_sequence(one, codes.codebook_size) for one in train]
        self.held_out = [to_sequence(one, codes.codebook_size) for one in held_out]
        self.seconds = sum(len(one) for one in held_out) / codes.frame_rate
        self.lengths = [len(sequence) for sequence in self.train]
        windows = len(random_windows(self.lengths, model.seq_len, model.num_quantizers, np.random.default_rng(0)))
        self.steps_per_epoch = -(-windows // config.batch_size)

    def batches(self, epoch: int, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = np.random.default_rng(derive_seed(self.seed, 6, epoch))
        windows = random_windows(self.lengths, self.model.seq_len, self.model.num_quantizers, generator)
        for batch in _shuffled_batches(windows, self.config.batch_size, generator)[skip:]:
            inputs, targets = pad_batch(self.train, batch)
            yield self.fabric.to_device(inputs), self.fabric.to_device(targets)

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        inputs, targets = batch
        logits = model(inputs).float().flatten(0, 1)
        return {"train_loss": nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED)}

    def validate(self) -> dict[str, float]:
        levels = self.model.num_quantizers
        nats, tokens = np.zeros(levels), np.zeros(levels)
        windows = covering_windows([len(one) for one in self.held_out], self.model.seq_len, levels)
        windows.sort(key=lambda window: window.stop - window.start)
        for start in range(0, len(windows), self.config.batch_size):
            inputs, targets = pad_batch(self.held_out, windows[start : start + self.config.batch_size])
            with self.fabric.autocast():
                logits = self.model(self.fabric.to_device(inputs)).float().cpu()
            losses = nn.functional.cross_entropy(
                logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
            ).double()
            for level in range(levels):
                nats[level] += float(losses[:, level::levels].sum())
                tokens[level] += int((targets[:, level::levels] != IGNORED).sum())
        loss = float(nats.sum() / tokens.sum())
        measured = {
            "val_loss": loss,
            "val_perplexity": math.exp(loss),
            "val_bits_per_second": float(nats.sum()) / math.log(2) / self.seconds,
        }
        for level in range(levels):
            measured[f"level_{level}/val_perplexity"] = math.exp(nats[level] / max(1, tokens[level]))
        return measured


def _shuffled_batches(windows: list[Window], size: int, generator: np.random.Generator) -> list[list[Window]]:
    """Random batches whose windows are of similar length, in random order. The short batch, if any, is as random."""
    order = generator.permutation(len(windows))
    batches = []
    for start in range(0, len(order), size * SORTED_BATCHES):
        chunk = sorted(order[start : start + size * SORTED_BATCHES], key=lambda i: windows[i].stop - windows[i].start)
        batches += [[windows[i] for i in chunk[first : first + size]] for first in range(0, len(chunk), size)]
    return [batches[i] for i in generator.permutation(len(batches))]


class _Watcher:
    """Turns what the engine reports into the prior's events."""

    def __init__(
        self,
        config: PriorConfig,
        codes: CodesConfig,
        recordings: int,
        callback: Callback | None,
        on_metrics: OnMetrics | None,
    ) -> None:
        self.config, self.codes, self.recordings = config, codes, recordings
        self.callback, self.on_metrics = callback, on_metrics

    def check(self, perplexity: float) -> MemorizationCheck:
        threshold = self.config.memorization_perplexity
        return check_memorization(perplexity, self.codes.codebook_size, self.recordings, threshold)

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
