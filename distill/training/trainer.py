"""Training loop of every task: steps, validation, best weights, exact resume.

Randomness is a function of (seed, epoch, step), so a run that is resumed at any step ends with the same bytes as one
that never stopped.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from distill.errors import DistillError
from distill.process import keep_freed_memory
from distill.seeds import Stream, derive_seed
from distill.training.checkpoints import Checkpoint, Tensors
from distill.training.distributed import Distributed
from distill.training.events import Epoch, Step, TrainingEnd, WatchMetrics
from distill.training.interruption import Interruption
from distill.training.optimizer import OptimizerStep, learning_rate_at
from distill.training.patience import Budget, Patience, is_falling
from distill.training.rollback import MAX_ROLLBACKS, Reading, Rollback, is_probe_due
from distill.training.run import Run
from distill.training.task import Task, TrainerSettings, TrainingResult

DROP_FACTOR = 0.2  # of the learning rate, at each of `TrainerSettings.drops`
CHECKPOINT_SECONDS = 10.0
CHECKPOINT_SHARE = 0.02  # of the time, at most, to write checkpoints: large models write less often

B = TypeVar("B")


@dataclass
class TrainerState:
    """State of the loop, as checkpoints hold it beside the tensors."""

    step: int = 0  # batches since the start of training
    probed_step: int = 0  # of the last probe
    out_of_time: bool = False
    seconds: float = 0.0  # spent, for the budget
    other_processes: str = ""
    counted_steps: int = 0  # whose losses are in `sums`, of the epoch at work
    sums: dict[str, float] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)  # metrics of the initial weights
    history: list[dict[str, float]] = field(default_factory=list)
    inspected: list[dict[str, float]] = field(default_factory=list)


class Trainer(Generic[B]):
    """Trainer of a task. `run()` trains to the end, from the newest checkpoint if there is one.

    `clock` gives the seconds that the budget counts.
    """

    def __init__(
        self, task: Task[B], settings: TrainerSettings, run: Run, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.task, self.settings, self.services = task, settings, run
        self.distributed = Distributed(run.fabric)
        self.store = run.store if self.distributed.is_first else None
        self.model, self.optimizer_step = task.model, OptimizerStep(task.model, settings, run.fabric)
        self.state, self.patience = TrainerState(), Patience(settings.patience, settings.drops)
        self.rollback = Rollback(self.optimizer_step)
        self.budget, self._time_share = Budget(settings.budget_seconds, clock), 0.0
        self.best_tensors: Tensors = {}
        self.total_steps = settings.epochs * task.steps_per_epoch
        self._best_is_new = False
        self._started = self._saved = time.monotonic()
        self._save_seconds = 0.0

    def run(self) -> TrainingResult:
        """Train, and leave the best weights in the model.

        Raises Interrupted after saving, DistillError when training diverges or its task ends it.
        """
        keep_freed_memory()
        initial = self.optimizer_step.weights() if self.settings.validate_initial else {}
        self._restore()
        if self.settings.validate_initial and self.patience.best_loss is None:
            self._validate_initial()
        with torch.random.fork_rng(devices=[]):
            while len(self.state.history) < self.settings.epochs and not self._is_ended():
                if self.patience.is_out(len(self.state.history)):
                    if not self.patience.drop(len(self.state.history)):
                        break
                    self._restart()
                self._train_epoch()
        if self.patience.best_loss is None:
            self._validate(time.monotonic())
        if self.state.probed_step < self.state.step and not self.rollback.state.diverged:
            self._probe()
        self._save()  # until the result is safe elsewhere
        kept_initial = self.distributed.decide(self.patience.gain_is_chance())
        if kept_initial:
            self.best_tensors = initial
            self.patience.best_epoch, self.patience.best_loss = -1, self.state.start["val_loss"]
        result = self._result(kept_initial)
        self.services.emit(TrainingEnd(result.counts, result.remarks))
        return result

    def _result(self, kept_initial: bool) -> TrainingResult:
        """Load the best weights, and make the record of the training."""
        last_tensors = self.optimizer_step.weights()
        self.model.load_state_dict(self.best_tensors)
        state, patience, rollback = self.state, self.patience, self.rollback.state
        assert patience.best_loss is not None
        ended_itself = len(state.history) == self.settings.epochs or state.out_of_time
        return TrainingResult(
            best_tensors=self.best_tensors,
            last_tensors=last_tensors,
            best_epoch=patience.best_epoch,
            best_loss=patience.best_loss,
            best_metrics=state.start if patience.best_epoch < 0 else state.history[patience.best_epoch],
            history=state.history,
            start_metrics=state.start,
            cancelled=self.distributed.cancelled,
            kept_initial=kept_initial,
            was_still_falling=ended_itself and is_falling([row["val_loss"] for row in state.history]),
            spent_minutes=self.settings.budget_seconds / 60 if state.out_of_time else 0.0,
            rollbacks=rollback.rollbacks,
            diverged=rollback.diverged,
            rollback_reason=rollback.reason,
            skipped_steps=rollback.skipped_steps,
            skip_reason=rollback.skip_reason,
            other_processes=state.other_processes,
        )

    def _is_ended(self) -> bool:
        """Whether something other than epochs and patience has ended training."""
        return self.distributed.cancelled or self.rollback.state.diverged or self.state.out_of_time

    def _emit(self, report: Step | Epoch | WatchMetrics) -> None:
        """Send a report to the observers, and the task's events that follow from it."""
        if self.services.observers:
            self.services.emit(report)
            for event in self.task.events(report):
                self.services.emit(event)

    def _train_epoch(self) -> None:
        """Train and validate one epoch, or the rest of one."""
        began = time.monotonic()
        epoch = len(self.state.history)
        done = self.state.step - epoch * self.task.steps_per_epoch
        for batch in self.task.batches(epoch, done):
            self._train_step(epoch, batch)
            if self.rollback.state.diverged:
                return
            self.distributed.poll(self.services.interruption, self.services.cancel)
            if self.distributed.cancelled:
                return
            if self.distributed.signal is not None:
                self._save()
                step = f"step {self.state.step} of {self.total_steps}"
                saved = f"training is saved after {step}; run the same command to continue"
                Interruption.raise_interrupted(self.distributed.signal, saved)
            if self.state.step < self.total_steps and self._out_of_time():
                break  # what there is of the epoch is validated: its learning rate was the lowest
        self._validate(began)
        self._save_if_due()

    def _train_step(self, epoch: int, batch: B) -> None:
        began = time.monotonic()
        state, rate = self.state, self._rate_at(self.state.step)
        # Dropout draws from the global generator alone, so that it is seeded for each step.
        torch.manual_seed(
            derive_seed(self.settings.seed, Stream.TRAINING_STEP, state.step, self.services.fabric.global_rank)
        )
        self.model.train()
        losses = self.task.losses(self.optimizer_step.wrapped, batch)
        norm = self.optimizer_step.backward(losses.pop("objective", losses["train_loss"]))
        values = {name: float(value.detach()) for name, value in losses.items()}
        values = self.distributed.mean(values)
        values["gradient_norm"] = norm
        state.step += 1
        if all(math.isfinite(value) for value in values.values()):
            self.optimizer_step.step(rate, self._averaged_steps)
            state.counted_steps += 1
            self.rollback.state.bad_steps = 0
            for name, value in values.items():
                state.sums[name] = state.sums.get(name, 0.0) + value
            if is_probe_due(state.step):
                self._probe()
        else:
            is_spoilt = any(value.is_floating_point() and not value.isfinite().all() for value in self.model.buffers())
            found = "found " + ", ".join(f"{name} {value}" for name, value in values.items())
            reason = self.rollback.skip(state.step, found, self.distributed.any(is_spoilt))
            if reason is not None:
                self._roll_back(reason)
        self._emit(Step(epoch, state.step, self.total_steps, rate, time.monotonic() - began, values))
        self._save_if_due()

    def _probe(self) -> None:
        """Probe a fixed batch: roll back a spike, else take a snapshot."""
        self.state.probed_step = self.state.step
        self.model.eval()
        with torch.no_grad():
            value = self.task.probe()
        reading = None
        if value is not None:
            value = self.distributed.from_first({"value": value})["value"]
            reading = self.rollback.observe(value, self.state.step)
            if reading.is_spike:
                self._emit(self._watched(reading, {}))
                self._roll_back(
                    f"found a {self.task.figure.replace('_', ' ')} of {reading.value:.4g} on training data, "
                    f"{reading.delta:.0%} above its moving average (allowed {reading.threshold:.0%})"
                )
                return
        try:
            with torch.no_grad():
                inspected = self.task.inspect(self.state.step, self.state.inspected)
        except DistillError:
            self._save()
            raise
        if inspected:
            self.state.inspected.append({"step": self.state.step, **inspected})
        self.rollback.take(self.state.step)
        if reading is not None:
            self._emit(self._watched(reading, inspected))

    def _watched(self, reading: Reading, inspected: dict[str, float]) -> WatchMetrics:
        values = (reading.value, reading.delta, reading.threshold, reading.is_spike)
        return WatchMetrics(self.state.step, self.task.figure, *values, inspected)

    def _roll_back(self, reason: str) -> None:
        """Return to the last snapshot and continue with the data that comes next; the last time, end training."""
        state, rollback = self.state, self.rollback.state
        self.services.emit(self.rollback.go_back(state.step, reason))
        if not rollback.diverged:
            self._save()  # a run resumed from before it might count it twice: hardware need not repeat itself
        elif self.patience.best_loss is None or not (rollback.snapshot_step or state.start):  # nothing was learnt
            raise DistillError(
                f"training stopped at step {state.step}: expected finite, falling losses, {reason} after "
                f"{MAX_ROLLBACKS} rollbacks; lower learning_rate or gradient_clip and run again"
            )

    def _validate(self, began: float) -> None:
        """Validate the averaged weights, and keep them where they are the best so far."""
        with self.optimizer_step.averaged():
            self.model.eval()
            with torch.no_grad():
                measured = self.distributed.from_first(self.task.validate())
            self._close_epoch(measured, began)

    def _close_epoch(self, measured: dict[str, float], began: float) -> None:
        """Add an epoch with these held-out metrics to the history; the network has the weights to keep."""
        state, epoch = self.state, len(self.state.history)
        if not math.isfinite(measured["val_loss"]):
            raise DistillError(
                f"training stopped after epoch {epoch}: expected a finite held-out loss, found {measured['val_loss']}; "
                "lower learning_rate and run again"
            )
        means = {name: value / max(1, state.counted_steps) for name, value in state.sums.items()}
        if not means and state.history:  # no step of this epoch counted: the means of the one before stand
            means = {name: value for name, value in state.history[-1].items() if name not in measured}
        if not means and state.step:
            raise DistillError(
                f"training stopped after step {state.step}: expected finite losses in the first epoch, found none; "
                "lower learning_rate or gradient_clip and run again"
            )
        state.sums, state.counted_steps = {}, 0
        metrics = {**means, **measured}
        if self.patience.is_best(measured["val_loss"]):
            self._keep_best(epoch, measured["val_loss"])
        rate = self._rate_at(max(0, state.step - 1))
        row: dict[str, float] = {**metrics, "epoch": epoch, "learning_rate": rate}
        state.history.append(dict(sorted(row.items())))  # in the order that a checkpoint restores
        assert self.patience.best_loss is not None
        now = time.monotonic()
        self._emit(Epoch(epoch, metrics, rate, now - began, now - self._started, self.patience.best_loss))

    def _validate_initial(self) -> None:
        """Validate the initial weights, which are the best so far."""
        self.model.eval()
        with torch.no_grad():
            self.state.start = {"epoch": -1.0, **self.distributed.from_first(self.task.validate())}
        if math.isfinite(self.state.start["val_loss"]):
            self._keep_best(-1, self.state.start["val_loss"])
            self._save()

    def _keep_best(self, epoch: int, loss: float) -> None:
        self.patience.keep(epoch, loss, self.task.held_out_losses)
        self.best_tensors = self.optimizer_step.weights()
        self._best_is_new = True

    def _restart(self) -> None:
        """Restart from the best weights, with fresh moments and, from now on, a lower learning rate."""
        self.optimizer_step.restart(self.best_tensors)
        self.rollback.restart(self.state.step)
        self._save()  # a best epoch found later must not be combined with a state from before

    @property
    def _averaged_steps(self) -> int:
        """Steps that the average of the weights is over: those of the schedule, since the last drop of the rate."""
        if not self.patience.drops:
            return self.rollback.schedule_step(self.state.step)
        return self.state.step - (self.patience.dropped_after + 1) * self.task.steps_per_epoch

    def _rate_at(self, step: int) -> float:
        schedule_step = self.rollback.schedule_step(step)
        rate = learning_rate_at(schedule_step, self.total_steps, self.settings, self._time_share)
        return rate * DROP_FACTOR**self.patience.drops

    def _read_clock(self) -> None:
        """Set the proportion of the budget that is spent: on all processes that of the first."""
        if self.settings.budget_seconds:
            self._time_share = self.distributed.from_first({"share": self.budget.share})["share"]

    def _out_of_time(self) -> bool:
        self._read_clock()
        self.state.out_of_time = self._time_share >= 1
        return self.state.out_of_time

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved >= max(CHECKPOINT_SECONDS, self._save_seconds / CHECKPOINT_SHARE):
            self._save()

    def _save(self) -> None:
        began = time.monotonic()
        if self.store is not None:
            patience = self.patience
            if self._best_is_new:  # on disk before the state that refers to it
                self.store.save_best(patience.best_epoch, Checkpoint(self.best_tensors, {"loss": patience.best_loss}))
            self._best_is_new = False
            self.state.seconds = self.budget.spent
            values = {
                "trainer": vars(self.state),
                "patience": vars(patience),
                "rollback": self.rollback.values(),
                "processes": self.services.fabric.world_size,
            }
            tensors = self.optimizer_step.tensors() | self.rollback.tensors(self.state.step)
            self.store.save(self.state.step, patience.best_epoch, Checkpoint(tensors, values))
        self._saved = time.monotonic()
        self._save_seconds = self._saved - began

    def _restore(self) -> None:
        store = self.services.store
        last = store.newest() if store is not None else None
        self._agree_on(-1 if last is None else int(last.values["trainer"]["step"]))
        if store is None or last is None:
            self.budget.start(0.0)
            return
        values: dict[str, Any] = last.values
        self.state, self.patience = TrainerState(**values["trainer"]), Patience(**values["patience"])
        self.optimizer_step.load_state(last.tensors)
        self.rollback.restore(self.state.step, values["rollback"], last.tensors)
        self.budget.start(self.state.seconds)
        self._read_clock()
        if self.patience.best_loss is not None:
            self.best_tensors = store.best(self.patience.best_epoch).tensors
        before, now = values["processes"], self.services.fabric.world_size
        if before != now:
            self.state.other_processes = f"from step {self.state.step} on {now}, before {before}"

    def _agree_on(self, step: int) -> None:
        """Raise DistillError on all processes where one has found another checkpoint than the first, or none."""
        of_first = int(self.distributed.from_first({"step": step})["step"])
        others = int(self.distributed.sum(torch.tensor(float(step != of_first))))
        if others and self.services.store is not None:
            raise DistillError(
                f"{self.services.store.folder}: expected the checkpoints of the first process for all "
                f"{self.services.fabric.world_size} of them, found others or none for {others}; run it on all computers "
                "in one folder that they share"
            )
