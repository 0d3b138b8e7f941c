"""The one training loop: steps, schedule, best weights, exact resume, interruption. What is trained is the task's affair.

Randomness is a function of (seed, epoch, step), so a run that goes on from any step ends with the same bytes as one
that never stopped.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import lightning_fabric
import torch
from torch import Tensor, nn

from distill.errors import DistillError
from distill.seeds import derive_seed
from distill.training.checkpoints import Checkpoint, CheckpointStore, optimizer_tensors, restore_optimizer
from distill.training.interruption import Interruption

MAX_SKIPPED_IN_A_ROW = 10
MIN_RATE_SHARE = 0.05  # the cosine schedule ends at this share of the learning rate
DROP_FACTOR = 0.2  # of the learning rate when patience is over and there is a drop left
CHECKPOINT_SECONDS = 10.0

B = TypeVar("B")


class Task(Protocol[B]):
    """What the loop needs to know about the thing it trains. `B` is a batch, already on the right device."""

    @property
    def model(self) -> nn.Module:
        """The network to train."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch: the same in every epoch."""

    def batches(self, epoch: int, skip: int) -> Iterable[B]:
        """The batches of an epoch, in an order that is a function of the epoch alone, from batch number `skip` on."""

    def losses(self, model: nn.Module, batch: B) -> dict[str, Tensor]:
        """Scalars of one batch; "train_loss" is what is minimised."""

    def validate(self) -> dict[str, float]:
        """Scalars on held-out recordings, in eval mode and without gradients; "val_loss" decides which epoch is best."""


@dataclass(frozen=True)
class FitSettings:
    """Numbers of the loop that codec and prior share."""

    epochs: int
    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    gradient_clip: float
    warmup_steps: int
    patience: int
    seed: int
    rate_shares: Mapping[str, float] = field(
        default_factory=dict
    )  # parameters named so learn at this share of the rate
    start_counts: bool = False  # the weights before the first step may turn out to be the best
    drops: int = 0  # how often training goes back to its best weights and on with a lower rate before patience ends it


@dataclass(frozen=True)
class Step:
    """One optimiser step, for whoever watches."""

    epoch: int
    step: int
    total_steps: int
    learning_rate: float
    step_time_s: float
    losses: Mapping[str, float]


@dataclass(frozen=True)
class Epoch:
    """One epoch, for whoever watches. `metrics` are means of the step losses and what `validate` returned."""

    epoch: int
    metrics: Mapping[str, float]
    learning_rate: float
    epoch_time_s: float
    elapsed_seconds: float
    best_loss: float
    is_best: bool


@dataclass
class FitResult:
    """What a run leaves behind. `best_tensors` and `last_tensors` are the model's state dict of the best epoch and at
    the end. Epochs count from 0; a `best_epoch` of -1 is the start, before the first step. `best_metrics` are those of
    the best epoch."""

    best_tensors: dict[str, Tensor]
    last_tensors: dict[str, Tensor]
    best_epoch: int
    best_loss: float
    best_metrics: dict[str, float]
    history: list[dict[str, float]]
    skipped_steps: int
    cancelled: bool


@dataclass
class _State:
    step: int = 0  # optimiser steps begun since the start of training
    best_epoch: int = -1
    best_loss: float | None = None
    drops: int = 0
    dropped_after: int = -1  # the epoch before the last drop
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    counted_steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def learning_rate_at(step: int, total_steps: int, settings: FitSettings) -> float:
    """Linear warm-up, then a cosine down to 5 % of the peak."""
    warmup = min(settings.warmup_steps, max(1, total_steps // 10))
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total_steps - warmup)
    share = MIN_RATE_SHARE + (1 - MIN_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * share


class Fit(Generic[B]):
    """One run of a task. `run()` trains to the end, from a checkpoint if the store has one."""

    def __init__(
        self,
        task: Task[B],
        settings: FitSettings,
        fabric: lightning_fabric.Fabric,
        store: CheckpointStore | None = None,
        on_step: Callable[[Step], None] | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
        interruption: Interruption | None = None,
        cancel_event: threading.Event | None = None,
    ) -> None:
        self.task, self.settings, self.fabric, self.store = task, settings, fabric, store
        self.on_step, self.on_epoch = on_step, on_epoch
        self.interruption, self.cancel_event = interruption, cancel_event
        self.model = task.model
        optimizer = torch.optim.AdamW(
            _parameter_groups(task.model, settings), lr=settings.learning_rate, betas=settings.betas, fused=True
        )
        self.wrapped, self.optimizer = fabric.setup(task.model, optimizer)
        self.state = _State()
        self.best_tensors: dict[str, Tensor] = {}
        self.total_steps = settings.epochs * task.steps_per_epoch
        self._started = self._saved = time.monotonic()

    def run(self) -> FitResult:
        """Train; leaves the best weights in the model. Raises Interrupted after saving, DistillError when it diverges."""
        self._restore()
        cancelled = False
        if self.settings.start_counts and self.state.best_loss is None:
            self._measure_start()
        with torch.random.fork_rng(devices=[]):
            while len(self.state.history) < self.settings.epochs and not cancelled:
                if self._out_of_patience():
                    if self.state.drops == self.settings.drops:
                        break
                    self._drop()
                cancelled = self._epoch()
        if self.state.best_loss is None:
            self._validate(time.monotonic())
        last_tensors = self._tensors()
        self.model.load_state_dict(self.best_tensors)
        state = self.state
        assert state.best_loss is not None
        return FitResult(
            best_tensors=self.best_tensors,
            last_tensors=last_tensors,
            best_epoch=state.best_epoch,
            best_loss=state.best_loss,
            best_metrics=state.start if state.best_epoch < 0 else state.history[state.best_epoch],
            history=state.history,
            skipped_steps=state.skipped_steps,
            cancelled=cancelled,
        )

    def _epoch(self) -> bool:
        """One epoch, or the rest of one. True when cancelled."""
        began = time.monotonic()
        epoch = len(self.state.history)
        done = self.state.step - epoch * self.task.steps_per_epoch
        for batch in self.task.batches(epoch, done):
            self._train_step(epoch, batch)
            if self.cancel_event is not None and self.cancel_event.is_set():
                return True
            if self.interruption is not None and self.interruption.signal is not None:
                self._save()
                self.interruption.check(
                    f"training is saved after step {self.state.step} of {self.total_steps}; run the same command to go on"
                )
        self._validate(began)
        if time.monotonic() - self._saved >= CHECKPOINT_SECONDS:
            self._save()
        return False

    def _train_step(self, epoch: int, batch: B) -> None:
        began = time.monotonic()
        rate = self._rate_at(self.state.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_share"]
        torch.manual_seed(derive_seed(self.settings.seed, 1, self.state.step))
        self.model.train()
        losses = self.task.losses(self.wrapped, batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(losses["train_loss"])
        norm = self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=self.settings.gradient_clip, error_if_nonfinite=False
        )
        values = {name: float(value.detach()) for name, value in losses.items()}
        values["gradient_norm"] = float(norm) if norm is not None else 0.0
        self.state.step += 1
        if all(math.isfinite(value) for value in values.values()):
            self.optimizer.step()
            self.state.skipped_in_a_row = 0
            self.state.counted_steps += 1
            for name, value in values.items():
                self.state.sums[name] = self.state.sums.get(name, 0.0) + value
        else:
            self._skip(values)
        if self.on_step is not None:
            self.on_step(Step(epoch, self.state.step, self.total_steps, rate, time.monotonic() - began, values))
        if time.monotonic() - self._saved >= CHECKPOINT_SECONDS:
            self._save()

    def _skip(self, values: Mapping[str, float]) -> None:
        self.state.skipped_steps += 1
        self.state.skipped_in_a_row += 1
        if self.state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            found = ", ".join(f"{name} {value}" for name, value in values.items())
            raise DistillError(
                f"training stopped at step {self.state.step}: expected finite losses, found {found} "
                f"{MAX_SKIPPED_IN_A_ROW} steps in a row; lower learning_rate or gradient_clip and run again"
            )

    def _validate(self, began: float) -> None:
        self.model.eval()
        with torch.no_grad():
            measured = self.task.validate()
        state = self.state
        epoch = len(state.history)
        if not math.isfinite(measured["val_loss"]):
            raise DistillError(
                f"training stopped after epoch {epoch}: expected a finite held-out loss, found {measured['val_loss']}; "
                "lower learning_rate and run again"
            )
        means = {name: value / max(1, state.counted_steps) for name, value in state.sums.items()}
        if not means and not state.history:
            raise DistillError(
                "training stopped after its first epoch: expected finite losses, found none in the whole epoch; "
                "lower learning_rate or gradient_clip and run again"
            )
        if not means:  # an epoch of which every step was skipped: the figures of the one before stand
            means = {name: value for name, value in state.history[-1].items() if name not in measured}
        state.sums, state.counted_steps = {}, 0
        metrics = {**means, **measured}
        is_best = False
        if state.best_loss is None or measured["val_loss"] < state.best_loss:
            is_best = True
            self._keep_best(epoch, measured["val_loss"])
        rate = self._rate_at(max(0, state.step - 1))
        row: dict[str, float] = {**metrics, "epoch": epoch, "learning_rate": rate}
        state.history.append(dict(sorted(row.items())))  # in the order that a checkpoint gives back
        if self.on_epoch is not None and state.best_loss is not None:
            now = time.monotonic()
            self.on_epoch(Epoch(epoch, metrics, rate, now - began, now - self._started, state.best_loss, is_best))

    def _measure_start(self) -> None:
        self.model.eval()
        with torch.no_grad():
            self.state.start = {"epoch": -1.0, **self.task.validate()}
        if math.isfinite(self.state.start["val_loss"]):
            self._keep_best(-1, self.state.start["val_loss"])
            self._save()

    def _keep_best(self, epoch: int, loss: float) -> None:
        self.state.best_epoch, self.state.best_loss = epoch, loss
        self.best_tensors = self._tensors()
        if self.store is not None:
            self.store.save("best", Checkpoint(self.best_tensors, {"epoch": epoch, "loss": loss}))

    def _tensors(self) -> dict[str, Tensor]:
        """A copy of the weights as they are."""
        return {key: value.detach().cpu().clone() for key, value in self.model.state_dict().items()}

    def _out_of_patience(self) -> bool:
        return (
            0 < self.settings.patience < len(self.state.history) - max(self.state.best_epoch, self.state.dropped_after)
        )

    def _drop(self) -> None:
        """Back to the best weights, with fresh moments, and on with a lower rate."""
        self.state.drops += 1
        self.state.dropped_after = len(self.state.history) - 1
        self.model.load_state_dict(self.best_tensors)
        self.optimizer.state.clear()
        self._save()  # a best epoch found from here on must not meet a state from before

    def _rate_at(self, step: int) -> float:
        return learning_rate_at(step, self.total_steps, self.settings) * DROP_FACTOR**self.state.drops

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self.store is None:
            return
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        tensors |= optimizer_tensors(self.optimizer)
        self.store.save("last", Checkpoint(tensors, vars(self.state)))

    def _restore(self) -> None:
        last = self.store.load("last") if self.store is not None else None
        if self.store is None or last is None:
            return
        self.model.load_state_dict(_under("model.", last.tensors))
        restore_optimizer(self.optimizer, last.tensors)
        best = self.store.load("best")
        values: dict[str, Any] = dict(last.values)
        self.state = _State(**values)
        if best is not None:
            self.best_tensors = best.tensors
            self.state.best_epoch, self.state.best_loss = best.values["epoch"], best.values["loss"]


def _parameter_groups(model: nn.Module, settings: FitSettings) -> list[dict[str, Any]]:
    """Weight decay acts on matrices and kernels, not on biases, norms and scales; some parts learn more slowly."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, value in model.named_parameters():
        share = next((share for part, share in settings.rate_shares.items() if name.startswith(part)), 1.0)
        groups.setdefault((share, settings.weight_decay if value.ndim > 1 else 0.0), []).append(value)
    return [{"params": values, "weight_decay": decay, "rate_share": share} for (share, decay), values in groups.items()]


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
