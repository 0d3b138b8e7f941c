"""Training loop of every task: steps, validation, patience, rollback, best weights, exact resume.

Randomness depends only on the seed, the epoch and the step. So a training that is interrupted at any step and resumed
ends with the same bytes as one that never stopped.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Generic, TypeVar

import torch

from distill.errors import DistillError
from distill.process import keep_freed_memory
from distill.seeds import Stream, derive_seed
from distill.storage.weights import under
from distill.training.distributed import Distributed
from distill.training.events import (
    Epoch,
    RollbackEvent,
    Start,
    Step,
    TrainingResult,
    WatchMetrics,
    kept_weights,
)
from distill.training.interruption import raise_interrupted
from distill.training.optimizer import OptimizerStep, Tensors, learning_rate_at
from distill.training.rollback import MAX_BAD_STEPS, MAX_ROLLBACKS, SpikeDetector, is_probe_due
from distill.training.run import Run
from distill.training.task import Task, TrainerSettings

CHECKPOINT_SECONDS = 10.0  # between checkpoints, at least
CHECKPOINT_SHARE = 0.02  # the largest proportion of the time that may go into writing checkpoints

B = TypeVar("B")


@dataclass
class TrainerState:
    """State of the training loop, which checkpoints store with the tensors. Epochs count from 0, as in `history`."""

    step: int = 0  # batches since the start of training
    history: list[dict[str, float]] = field(default_factory=list)  # a row per epoch
    sums: dict[str, float] = field(default_factory=dict)  # of the losses of the current epoch
    counted_steps: int = 0  # steps whose losses are in `sums`
    time_share: float = 0.0  # fraction of the time budget that is spent
    # Metrics of the initial weights, empty if not validated or not finite, and their losses on parts of held-out sound.
    start: dict[str, float] = field(default_factory=dict)
    start_losses: list[float] = field(default_factory=list)
    best_epoch: int = -1  # -1 stands for the initial weights
    best_losses: list[float] = field(default_factory=list)  # of the best epoch, as `start_losses`
    probed_step: int = 0  # step of the last probe
    inspected: list[dict[str, float]] = field(default_factory=list)  # results of `Task.inspect`
    detector: SpikeDetector = field(default_factory=SpikeDetector)
    snapshot_step: int = 0  # `schedule_step` when the snapshot for rollbacks was taken
    lost_steps: int = 0  # steps that were skipped, or undone by rollbacks
    bad_steps: int = 0  # NaN or infinite steps in a row
    skipped_steps: int = 0
    skip_reason: str = ""  # reason of the last skipped step
    rollbacks: int = 0
    rollback_reason: str = ""  # reason of the last rollback
    diverged: bool = False

    @property
    def schedule_step(self) -> int:
        """Step of the learning rate's schedule: lost steps do not advance it."""
        return self.step - self.lost_steps

    @property
    def best_metrics(self) -> dict[str, float]:
        """Metrics of the best weights so far, empty before the first validation."""
        return self.start if self.best_epoch < 0 else self.history[self.best_epoch]

    @property
    def out_of_time(self) -> bool:
        """Whether the time budget is spent."""
        return self.time_share >= 1


class Trainer(Generic[B]):
    """Trainer of a task. `run` trains to the end, from the newest checkpoint if there is one."""

    def __init__(self, task: Task[B], settings: TrainerSettings, run: Run) -> None:
        self.task, self.settings, self.services = task, settings, run
        self.distributed = Distributed(run.fabric)
        self.model = task.model
        self.optimizer_step = OptimizerStep(task.model, settings, run.fabric)
        self.state, self.best_tensors = TrainerState(), Tensors()
        self.total_steps = settings.epochs * task.steps_per_epoch
        self._take_snapshot()
        self._began = self._started = self._saved = time.monotonic()
        self._save_seconds = 0.0

    def run(self) -> TrainingResult:
        """Train, and load the best weights into the model.

        Raises Interrupted after saving, and DistillError when training diverges or its task ends it.
        """
        keep_freed_memory()
        initial = self.optimizer_step.weights() if self.settings.validate_initial else {}
        self._restore()
        state = self.state
        if self.settings.validate_initial and state.step == 0 and not state.start:
            self._validate_initial()
        with torch.random.fork_rng(devices=[]):
            while self._goes_on():
                self._train_epoch()
        if not state.best_metrics:
            self._validate(time.monotonic())
        if state.probed_step < state.step and not state.diverged:
            self._probe()
        self._save()  # kept until the result is safe elsewhere
        # A gain within chance depends on rounding, which differs between processors: then the initial weights are kept.
        has_gained = not state.start_losses or is_better(state.best_losses, state.start_losses)
        if not self.distributed.decide(has_gained and not self._is_left_out):
            self.best_tensors, state.best_epoch = initial, -1
        result = self._result()
        self.services.emit(result)
        return result

    def _train_epoch(self) -> None:
        """Train the steps that the epoch still has, then validate, also if the budget ends the epoch early."""
        epoch, began = len(self.state.history), time.monotonic()
        done = self.state.step - epoch * self.task.steps_per_epoch
        for batch in self.task.batches(epoch, skip=done):
            self._train_step(epoch, batch)
            if self._poll():
                break
        if not (self.distributed.cancelled or self.state.diverged):
            self._validate(began)
            self._save_if_due()

    def _result(self) -> TrainingResult:
        """Load the best weights into the model, and make the record of the training."""
        state = self.state
        last_tensors = self.optimizer_step.weights()
        self.model.load_state_dict(self.best_tensors)
        ended_itself = len(state.history) == self.settings.epochs or state.out_of_time
        still_falling = ended_itself and is_falling([row["val_loss"] for row in state.history])
        return TrainingResult(
            best_tensors=self.best_tensors,
            last_tensors=last_tensors,
            best_epoch=state.best_epoch + 1,
            best_metrics=state.best_metrics,
            history=state.history,
            start_metrics=state.start,
            counts={
                "best_epoch": state.best_epoch + 1,
                "epochs_trained": len(state.history),
                "rollbacks": state.rollbacks,
                "skipped_steps": state.skipped_steps,
                "stopped_as_asked": float(self.distributed.cancelled),
                "diverged": float(state.diverged),
                "out_of_time": float(state.out_of_time),
                "was_still_falling": float(still_falling),
            },
            remarks=self._remarks(still_falling),
        )

    def _remarks(self, still_falling: bool) -> list[str]:
        """Sentences for the user on how the training went."""
        state, epochs = self.state, len(self.state.history)
        minutes = self.settings.budget_seconds / 60
        kept = "the best weights so far are kept"
        remarks = {
            f"stopped as asked after {epochs} epochs; {kept}": self.distributed.cancelled,
            kept_weights(0, epochs): state.best_epoch < 0 and epochs,
            "training is left out, as its first epoch lowered the held-out loss by less than "
            f"{self.settings.least_gain:.2g} of it (least_gain); with a number of epochs it is not": self._is_left_out,
            f"the budget of {minutes:g} minutes ended training in epoch {epochs}; {kept}": state.out_of_time,
            "held-out loss still fell when training ended: more epochs or minutes may be better": still_falling,
            "warning: training diverged again after three rollbacks and ended with the best weights before; lower the "
            f"learning rate ({state.rollback_reason})": state.diverged,
            f"warning: training was rolled back {state.rollbacks} times; lower the learning rate (the last time "
            f"{state.rollback_reason})": state.rollbacks and not state.diverged,
            f"{state.skipped_steps} steps whose loss or gradient was not finite were skipped (the last one "
            f"{state.skip_reason})": state.skipped_steps,
        }
        return [remark for remark, holds in remarks.items() if holds]

    def _is_ended(self) -> bool:
        """Whether a request, divergence or the budget has ended training."""
        return self.distributed.cancelled or self.state.diverged or self.state.out_of_time

    def _poll(self) -> bool:
        """Poll requests to stop and the budget; return whether training ends. Raises Interrupted after saving."""
        state = self.state
        if not state.diverged:
            self.distributed.poll(self.services.interruption, self.services.cancel)
        if self.settings.budget_seconds and state.step < self.total_steps and not self._is_ended():
            share = (time.monotonic() - self._began) / self.settings.budget_seconds
            state.time_share = self.distributed.decide(min(1.0, share))
        if self.distributed.signal and not self._is_ended():
            self._save()
            saved = f"training is saved after step {state.step} of {self.total_steps}"
            raise_interrupted(self.distributed.signal, f"{saved}; run the same command to continue")
        return self._is_ended()

    @property
    def _is_left_out(self) -> bool:
        """Whether the first epoch gained less than `least_gain`: then training ends and its weights are not kept."""
        least, history = self.settings.least_gain, self.state.history
        start = self.state.start.get("val_loss", math.inf)
        return least > 0 and len(history) == 1 and history[0]["val_loss"] > (1 - least) * start

    def _goes_on(self) -> bool:
        """Whether to train another epoch. Patience counts the epochs since held-out loss last fell notably."""
        notable = 0.001  # as a fraction of the loss
        lowest, since = self.state.start.get("val_loss", math.inf), 0
        for row in self.state.history:
            since += 1
            if row["val_loss"] < (1 - notable) * lowest:
                lowest, since = row["val_loss"], 0
        is_done = len(self.state.history) >= self.settings.epochs or self._is_ended()
        return not (is_done or self._is_left_out or 0 < self.settings.patience <= since)

    def _emit(self, report: Step | Epoch | WatchMetrics) -> None:
        """Send a report to the observers, then the events that the task derives from it."""
        for event in (report, *self.task.events(report)):
            self.services.emit(event)

    def _train_step(self, epoch: int, batch: B) -> None:
        state, began, rate = self.state, time.monotonic(), self._rate_at(self.state.step)
        # Dropout can only draw from the global generator, which is therefore seeded for each step.
        rank = self.services.fabric.global_rank
        torch.manual_seed(derive_seed(self.settings.seed, Stream.TRAINING_STEP, state.step, rank))
        self.model.train()
        losses = self.task.losses(self.optimizer_step.wrapped, batch)
        norm = self.optimizer_step.backward(losses.pop("objective", losses["train_loss"]))
        values = self.distributed.mean(
            {name: float(value.detach()) for name, value in losses.items()}
        )
        values["gradient_norm"] = norm
        state.step += 1
        if all(map(math.isfinite, values.values())):
            self.optimizer_step.step(rate, state.schedule_step)
            state.counted_steps += 1
            state.bad_steps = 0
            for name, value in values.items():
                state.sums[name] = state.sums.get(name, 0.0) + value
            if is_probe_due(state.step):
                self._probe()
        else:
            self._skip("found " + ", ".join(f"{name} {value}" for name, value in values.items()))
        self._emit(
            Step(epoch, state.step, self.total_steps, rate, time.monotonic() - began, values)
        )
        self._save_if_due()

    def _rate_at(self, step: int) -> float:
        schedule_step = step - self.state.lost_steps
        return learning_rate_at(
            schedule_step, self.total_steps, self.settings, self.state.time_share
        )

    @torch.no_grad()
    def _probe(self) -> None:
        """Probe a fixed batch; roll back if it shows a spike, else inspect the task and take a snapshot."""
        state, watched = self.state, None
        state.probed_step = state.step
        self.model.eval()
        value = self.task.probe()
        if value is not None:
            value = self.distributed.decide(value)
            watched = state.detector.observe(state.step, self.task.figure, value)
            if watched.is_spike:
                self._emit(watched)
                self._roll_back(
                    f"found a {watched.figure.replace('_', ' ')} of {value:.4g} on training data, "
                    f"{watched.change:.0%} above its moving average (allowed {watched.threshold:.0%})"
                )
                return
        inspected = self.task.inspect(state.step, state.inspected)
        if inspected:
            state.inspected.append({"step": state.step, **inspected})
        self._take_snapshot()
        if watched is not None:
            self._emit(replace(watched, inspected=inspected))

    def _take_snapshot(self) -> None:
        """Copy the tensors that a rollback restores."""
        self.state.snapshot_step = self.state.schedule_step
        self._snapshot = {
            key: value.detach().clone() for key, value in self.optimizer_step.tensors().items()
        }

    def _skip(self, cause: str) -> None:
        """Skip a NaN or infinite step. Roll back after several in a row, or if the step has spoilt a buffer."""
        state = self.state
        state.bad_steps += 1
        is_spoilt = any(
            value.is_floating_point() and not value.isfinite().all()
            for value in self.model.buffers()
        )
        if (
            state.bad_steps == MAX_BAD_STEPS
            or self.distributed.sum(torch.tensor(float(is_spoilt))) > 0
        ):
            self._roll_back(
                f"{cause}, {state.bad_steps} steps in a row" if state.bad_steps > 1 else cause
            )
        else:
            state.skipped_steps += 1
            state.lost_steps += 1
            state.skip_reason = f"at step {state.step}: {cause}"

    def _roll_back(self, reason: str) -> None:
        """Restore the snapshot and continue with the next data. After `MAX_ROLLBACKS`, end training instead."""
        state = self.state
        lost = state.schedule_step - state.snapshot_step
        state.diverged = state.rollbacks == MAX_ROLLBACKS
        state.rollbacks += not state.diverged
        state.bad_steps, state.rollback_reason = 0, f"at step {state.step}: {reason}"
        self.optimizer_step.load_state(self._snapshot)
        state.lost_steps = state.step - state.snapshot_step
        self.services.emit(RollbackEvent(state.step, lost, state.rollbacks, state.diverged, reason))
        if not state.diverged:
            self._save()  # so that resuming does not train these steps again, perhaps with another outcome
        elif not state.best_metrics or not (
            state.snapshot_step or state.start
        ):  # nothing was learnt
            raise self._failure(
                "finite, falling losses", f"{reason} after {MAX_ROLLBACKS} rollbacks"
            )

    def _failure(self, expected: str, cause: str) -> DistillError:
        """Error of a training that diverged and has nothing to continue from."""
        return DistillError(
            f"training stopped after step {self.state.step}: expected {expected}, {cause}; lower learning_rate or "
            "gradient_clip and run again"
        )

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        """Metrics on held-out recordings."""
        self.model.eval()
        return self.distributed.from_first(self.task.validate())

    def _validate_initial(self) -> None:
        """Validate the initial weights. If their loss is finite, they are the best so far."""
        measured = self._measure()
        if math.isfinite(measured["val_loss"]):
            self.state.start = {"epoch": 0.0, **measured}
            self._keep_best(-1)
            self.state.start_losses = self.state.best_losses
            self.services.emit(Start(measured))
            self._save()

    def _validate(self, began: float) -> None:
        """Validate the averaged weights, keep them if they are the best so far, and add the epoch to the history."""
        state, epoch = self.state, len(self.state.history)
        with self.optimizer_step.averaged():
            measured = self._measure()
            loss = measured["val_loss"]
            if not math.isfinite(loss):
                raise self._failure("a finite held-out loss", f"found {loss}")
            if loss < state.best_metrics.get("val_loss", math.inf):
                self._keep_best(epoch)
        means = {name: value / max(1, state.counted_steps) for name, value in state.sums.items()}
        if not means and state.history:  # all steps were skipped: repeat the last epoch's means
            means = {
                name: value for name, value in state.history[-1].items() if name not in measured
            }
        if not means and state.step:
            raise self._failure("finite losses in the first epoch", "found none")
        state.sums, state.counted_steps = {}, 0
        metrics, rate = {**means, **measured}, self._rate_at(max(0, state.step - 1))
        row: dict[str, float] = {**metrics, "epoch": epoch + 1, "learning_rate": rate}
        state.history.append(dict(sorted(row.items())))
        now = time.monotonic()
        times = {"epoch_time_s": now - began, "elapsed_seconds": now - self._started}
        self._emit(Epoch(epoch, metrics, rate, **times, best_loss=state.best_metrics["val_loss"]))

    def _keep_best(self, epoch: int) -> None:
        self.state.best_epoch, self.state.best_losses = epoch, list(self.task.held_out_losses)
        self.best_tensors = self.optimizer_step.weights()

    def _save_if_due(self) -> None:
        interval = max(CHECKPOINT_SECONDS, self._save_seconds / CHECKPOINT_SHARE)
        if time.monotonic() - self._saved >= interval:
            self._save()

    def _save(self) -> None:
        """Write a checkpoint, in the first process alone."""
        began = time.monotonic()
        if self.services.is_first:
            kept = {
                **_prefixed("best.", self.best_tensors),
                **_prefixed("snapshot.", self._snapshot),
            }
            self.services.store.save({**self.optimizer_step.tensors(), **kept}, asdict(self.state))
        self._saved = time.monotonic()
        self._save_seconds = self._saved - began

    def _restore(self) -> None:
        """Load the newest checkpoint, if there is one. All processes must find the same one."""
        store, processes = self.services.store, self.services.fabric.world_size
        tensors, state = store.load()
        step = state.get("step", -1)
        others = int(
            self.distributed.sum(torch.tensor(float(step != self.distributed.decide(step))))
        )
        if others:
            raise DistillError(
                f"{store.folder}: expected the checkpoints of the first process for all {processes} of them, found "
                f"others or none for {others}; run it on all computers in one folder that they share"
            )
        if state:
            self.state = TrainerState(**{**state, "detector": SpikeDetector(**state["detector"])})
            self.optimizer_step.load_state(tensors)
            self.best_tensors, self._snapshot = under("best.", tensors), under("snapshot.", tensors)
            self._began -= self.state.time_share * self.settings.budget_seconds
            if self.state.step:
                self.services.console.say(
                    f"continues after step {self.state.step} of {self.total_steps}"
                )


def is_better(losses: Sequence[float], start: Sequence[float]) -> bool:
    """Whether `losses` are lower than `start`, on the same parts, by more than the standard error of the mean gain.

    The standard error of a single part is 0.
    """
    gains = [before - now for before, now in zip(start, losses, strict=True)]
    mean = math.fsum(gains) / len(gains)
    squares = math.fsum((gain - mean) ** 2 for gain in gains)
    return mean > math.sqrt(squares / max(1, len(gains) - 1) / len(gains))


def is_falling(losses: Sequence[float]) -> bool:
    """Whether the last tenth of the epochs lowered the held-out loss by more than 0.5 %; never below ten epochs."""
    last = len(losses) // 10
    return last > 0 and min(losses) < 0.995 * min(losses[:-last])


def _prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + key: value for key, value in tensors.items()}
