"""Training loop of every task: steps, schedule, best weights, exact resume, rollback, interruption.

Randomness is a function of (seed, epoch, step), so a run that is resumed at any step ends with the same bytes as one
that never stopped.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import lightning_fabric
import torch

from distill.allocator import keep_freed_memory
from distill.errors import DistillError
from distill.seeds import Stream, derive_seed
from distill.storage.weights import under
from distill.training.budget import Budget
from distill.training.checkpoints import Checkpoint, CheckpointStore, Tensors
from distill.training.distributed import Distributed, Stop
from distill.training.events import RollbackEvent, WatchMetrics
from distill.training.interruption import Interruption
from distill.training.metrics_log import MetricsLog
from distill.training.optimizer import OptimizerStep
from distill.training.spike_detector import Reading, SpikeDetector, early_threshold, is_probe_due
from distill.training.state import Snapshot, TrainerState
from distill.training.task import (
    OTHER_PROCESSES,
    Epoch,
    Step,
    Task,
    TrainerSettings,
    TrainingResult,
    is_better,
    learning_rate_at,
)

DROP_FACTOR = 0.2  # of the learning rate, at each of `TrainerSettings.drops`
MAX_ROLLBACKS = 3
MAX_BAD_STEPS = 3  # in a row, not finite: fewer are skipped, so many are rolled back
FALLING = 0.005  # share of the held-out loss
CHECKPOINT_SECONDS = 10.0
CHECKPOINT_SHARE = 0.02  # of the time, at most, to write checkpoints: large models write less often

B = TypeVar("B")


class Trainer(Generic[B]):
    """Trainer of a task. `run()` trains to the end, from the newest checkpoint if `store` has one.

    `on_step`, `on_epoch` and `on_watch` get reports, the last one of probes and rollbacks. `interruption` and
    `cancel_event` ask to stop: saved and raised, or as a success with the best weights so far. `clock` gives the
    seconds that the budget counts.
    """

    def __init__(
        self,
        task: Task[B],
        settings: TrainerSettings,
        fabric: lightning_fabric.Fabric,
        store: CheckpointStore | None = None,
        on_step: Callable[[Step], None] | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
        interruption: Interruption | None = None,
        cancel_event: Stop | None = None,
        on_watch: Callable[[WatchMetrics | RollbackEvent], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.task, self.settings, self.fabric, self.store = task, settings, fabric, store
        self.on_step, self.on_epoch, self.on_watch = on_step, on_epoch, on_watch
        self.interruption, self.cancel_event = interruption, cancel_event
        self.distributed = Distributed(fabric)
        self.model, self.optimizer_step = task.model, OptimizerStep(task.model, settings, fabric)
        self.state = TrainerState()
        self.figure, self.spike_detector = settings.probe_figure, SpikeDetector()
        self.budget, self._time_share = Budget(settings.budget_seconds, clock), 0.0
        self.log = MetricsLog(store.log if store is not None and self.distributed.is_first else None)
        self.best_tensors: Tensors = {}
        self._initial_tensors = self.optimizer_step.weights() if settings.validate_initial else {}
        self.total_steps = settings.epochs * task.steps_per_epoch
        self._best_is_new = False
        self._started = self._saved = time.monotonic()
        self._save_seconds = 0.0

    def run(self) -> TrainingResult:
        """Train, and leave the best weights in the model.

        Raises Interrupted after saving, DistillError when training diverges or its task ends it.
        """
        keep_freed_memory()
        self._restore()
        if self.settings.validate_initial and self.state.best_loss is None:
            self._validate_initial()
        with torch.random.fork_rng(devices=[]):
            while len(self.state.history) < self.settings.epochs and not self._is_ended():
                if self._out_of_patience():
                    if self.state.drops == self.settings.drops:
                        break
                    self._drop()
                self._train_epoch()
        if self.state.best_loss is None:
            self._validate(time.monotonic())
        if self.state.probed_step < self.state.step and not self.state.diverged:
            self._probe({})
        self._save()  # until the result is safe elsewhere
        kept_initial = self._gain_is_chance()
        if kept_initial:
            self.best_tensors = self._initial_tensors
            self.state.best_epoch, self.state.best_loss = -1, self.state.start["val_loss"]
        last_tensors = self.optimizer_step.weights()
        self.model.load_state_dict(self.best_tensors)
        state = self.state
        assert state.best_loss is not None
        return TrainingResult(
            best_tensors=self.best_tensors,
            last_tensors=last_tensors,
            best_epoch=state.best_epoch,
            best_loss=state.best_loss,
            best_metrics=state.start if state.best_epoch < 0 else state.history[state.best_epoch],
            history=state.history,
            rollbacks=state.rollbacks,
            cancelled=self.distributed.cancelled,
            diverged=state.diverged,
            log=self.log.lines,
            start_metrics=state.start,
            was_still_falling=self._was_still_falling(),
            spent_minutes=self.settings.budget_seconds / 60 if state.out_of_time else 0.0,
            skipped_steps=state.skipped_steps,
            kept_initial=kept_initial,
        )

    def _gain_is_chance(self) -> bool:
        """Whether the best epoch is better than the initial weights, but by no more than chance.

        Rounding, which differs between processors, would choose between them.
        """
        start, best = self.state.start_losses, self.state.best_losses
        is_chance = self.state.best_epoch >= 0 and bool(start) and not is_better(best, start)
        return bool(self.distributed.from_first({"is_chance": float(is_chance)})["is_chance"])

    def _is_ended(self) -> bool:
        """Whether something other than epochs and patience has ended training."""
        return self.distributed.cancelled or self.state.diverged or self.state.out_of_time

    def _train_epoch(self) -> None:
        """Train and validate one epoch, or the rest of one."""
        began = time.monotonic()
        epoch = len(self.state.history)
        done = self.state.step - epoch * self.task.steps_per_epoch
        for batch in self.task.batches(epoch, done):
            self._train_step(epoch, batch)
            if self.state.diverged:
                return
            self.distributed.poll(self.interruption, self.cancel_event)
            if self.distributed.cancelled:
                self.log.add({"step": self.state.step, "event": "stopped as asked"})
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
        rate = self._rate_at(self.state.step)
        torch.manual_seed(
            derive_seed(self.settings.seed, Stream.TRAINING_STEP, self.state.step, self.fabric.global_rank)
        )
        self.model.train()
        losses = self.task.losses(self.optimizer_step.wrapped, batch)
        norm = self.optimizer_step.backward(losses.pop("objective", losses["train_loss"]))
        values = {name: float(value.detach()) for name, value in losses.items()}
        values = self.distributed.mean(values)
        values["gradient_norm"] = norm
        self.state.step += 1
        if all(math.isfinite(value) for value in values.values()):
            self.optimizer_step.step(rate, self._averaged_steps)
            self.state.counted_steps += 1
            self.state.bad_steps = 0
            for name, value in values.items():
                self.state.sums[name] = self.state.sums.get(name, 0.0) + value
            if is_probe_due(self.state.step):
                self._probe({"loss": values["train_loss"]})
        else:
            self._skip("found " + ", ".join(f"{name} {value}" for name, value in values.items()))
        if self.on_step is not None:
            seconds = time.monotonic() - began
            self.on_step(Step(epoch, self.state.step, self.total_steps, rate, seconds, values))
        self._save_if_due()

    def _skip(self, reason: str) -> None:
        """Leave out a step that is not finite; roll back so many in a row that it is no accident."""
        self.state.bad_steps += 1
        poisoned = any(value.is_floating_point() and not value.isfinite().all() for value in self.model.buffers())
        if self.state.bad_steps == MAX_BAD_STEPS or self.distributed.sum(torch.tensor(float(poisoned))) > 0:
            self._roll_back(f"{reason}, {self.state.bad_steps} steps in a row" if self.state.bad_steps > 1 else reason)
            return
        self.state.skipped_steps += 1
        self.state.lost_steps += 1
        self.log.add({"step": self.state.step, "event": "skipped step", "reason": reason})

    def _probe(self, losses: Mapping[str, float]) -> None:
        """Probe a fixed batch: roll back a spike, else take a snapshot. `losses` are for the metrics log."""
        self.state.probed_step = self.state.step
        self.model.eval()
        with torch.no_grad():
            value = self.task.probe()
        reading = None
        if value is not None:
            value = self.distributed.from_first({"value": value})["value"]
            reading = self.spike_detector.observe(value, early_threshold(self.state.step))
            if reading.is_spike:
                self._report(reading, {})
                self._roll_back(
                    f"found a {self.figure.replace('_', ' ')} of {reading.value:.4g} on training data, "
                    f"{reading.delta:.0%} above its moving average (allowed {reading.threshold:.0%})"
                )
                return
        try:
            with torch.no_grad():
                inspected = self.task.inspect(self.state.step, self.log.lines)
        except DistillError:
            self._save()
            raise
        line = reading.line(self.figure) if reading is not None else {}
        self.log.add({"step": self.state.step, **losses, **line, **inspected})
        self._snapshot = self._take_snapshot()
        if reading is not None:
            self._report(reading, inspected)

    def _report(self, reading: Reading, inspected: Mapping[str, float]) -> None:
        if self.on_watch is not None:
            values = (reading.value, reading.delta, reading.threshold, reading.is_spike)
            self.on_watch(WatchMetrics(self.state.step, self.figure, *values, inspected))

    def _roll_back(self, reason: str) -> None:
        """Return to the last snapshot and continue with the data that comes next; the last time, end training."""
        state, to = self.state, self._snapshot.schedule_step
        state.diverged = state.rollbacks == MAX_ROLLBACKS
        state.rollbacks += not state.diverged
        state.bad_steps = 0
        event = RollbackEvent(state.step, self._schedule_step - to, state.rollbacks, state.diverged, reason)
        self.optimizer_step.load_state(self._snapshot.tensors)
        if state.diverged:
            self.log.add({"step": state.step, "event": "diverged", "reason": reason})
        else:
            state.lost_steps = state.step - to
            self.log.add({"step": state.step, "event": "rollback", "to": to, "reason": reason})
        if self.on_watch is not None:
            self.on_watch(event)
        if not state.diverged:
            self._save()  # a run resumed from before it might count it twice: hardware need not repeat itself
        elif state.best_loss is None or (not to and not state.start):  # nothing was learnt
            raise DistillError(
                f"training stopped at step {state.step}: expected finite, falling losses, {reason} after "
                f"{MAX_ROLLBACKS} rollbacks; lower learning_rate or gradient_clip and run again"
            )

    def _validate(self, began: float) -> None:
        with self.optimizer_step.averaged():
            self._evaluate(began)

    def _evaluate(self, began: float) -> None:
        """Validate the weights in the model, and keep them where they are the best so far."""
        self.model.eval()
        with torch.no_grad():
            measured = self.distributed.from_first(self.task.validate())
        state = self.state
        epoch = len(state.history)
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
        is_best = state.best_loss is None or measured["val_loss"] < state.best_loss
        if is_best:
            self._keep_best(epoch, measured["val_loss"])
        rate = self._rate_at(max(0, state.step - 1))
        row: dict[str, float] = {**metrics, "epoch": epoch, "learning_rate": rate}
        state.history.append(dict(sorted(row.items())))  # in the order that a checkpoint restores
        event = {"step": state.step, "event": "best epoch" if is_best else "epoch", "val_loss": measured["val_loss"]}
        self.log.add(event)
        if self.on_epoch is not None and state.best_loss is not None:
            now = time.monotonic()
            self.on_epoch(Epoch(epoch, metrics, rate, now - began, now - self._started, state.best_loss, is_best))

    def _validate_initial(self) -> None:
        """Validate the initial weights, which are the best so far."""
        self.model.eval()
        with torch.no_grad():
            self.state.start = {"epoch": -1.0, **self.distributed.from_first(self.task.validate())}
        self.state.start_losses = list(self.task.held_out_losses)
        if math.isfinite(self.state.start["val_loss"]):
            self._keep_best(-1, self.state.start["val_loss"])
            self._save()

    def _keep_best(self, epoch: int, loss: float) -> None:
        self.state.best_epoch, self.state.best_loss = epoch, loss
        self.state.best_losses = list(self.task.held_out_losses)
        self.best_tensors = self.optimizer_step.weights()
        self._best_is_new = True

    def _was_still_falling(self) -> bool:
        """Whether the last tenth of the epochs lowered held-out loss by more than `FALLING`, and others were to come."""
        losses = [row["val_loss"] for row in self.state.history]
        last = len(losses) // 10
        if (len(losses) < self.settings.epochs and not self.state.out_of_time) or not last:
            return False
        return min(losses) < (1 - FALLING) * min(losses[:-last])

    def _take_snapshot(self) -> Snapshot:
        tensors = self.optimizer_step.tensors()
        return Snapshot(self._schedule_step, {key: value.detach().clone() for key, value in tensors.items()})

    def _out_of_patience(self) -> bool:
        return (
            0 < self.settings.patience < len(self.state.history) - max(self.state.best_epoch, self.state.dropped_after)
        )

    def _drop(self) -> None:
        """Lower the learning rate and restart from the best weights, with fresh moments."""
        self.state.drops += 1
        self.state.dropped_after = len(self.state.history) - 1
        self.optimizer_step.restart(self.best_tensors)
        self.spike_detector = SpikeDetector()  # earlier weights know the training data less well
        self._snapshot = self._take_snapshot()
        self._save()  # a best epoch found later must not be combined with a state from before

    @property
    def _schedule_step(self) -> int:
        """Steps of the schedule that are done: all steps but those that rollbacks undid."""
        return self.state.step - self.state.lost_steps

    @property
    def _averaged_steps(self) -> int:
        """Steps that the average of the weights is over: those of the schedule, since the last drop of the rate."""
        if not self.state.drops:
            return self._schedule_step
        return self.state.step - (self.state.dropped_after + 1) * self.task.steps_per_epoch

    def _rate_at(self, step: int) -> float:
        schedule_step = step - self.state.lost_steps
        rate = learning_rate_at(schedule_step, self.total_steps, self.settings, self._time_share)
        return rate * DROP_FACTOR**self.state.drops

    def _read_clock(self) -> None:
        """Set the share of the budget that is spent: on all processes that of the first."""
        if self.settings.budget_seconds:
            self._time_share = self.distributed.from_first({"share": self.budget.share})["share"]

    def _out_of_time(self) -> bool:
        self._read_clock()
        self.state.out_of_time = self._time_share >= 1
        if self.state.out_of_time:
            minutes = f"{self.settings.budget_seconds / 60:g}"
            self.log.add(
                {"step": self.state.step, "event": "out of time", "reason": f"its {minutes} minutes are spent"}
            )
        return self.state.out_of_time

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved >= max(CHECKPOINT_SECONDS, self._save_seconds / CHECKPOINT_SHARE):
            self._save()

    def _save(self) -> None:
        began = time.monotonic()
        if self.store is not None and self.distributed.is_first:
            if self._best_is_new:  # on disk before the state that refers to it
                self.store.save_best(
                    self.state.best_epoch, Checkpoint(self.best_tensors, {"loss": self.state.best_loss})
                )
            self._best_is_new = False
            tensors = self.optimizer_step.tensors()
            if self._snapshot.schedule_step != self._schedule_step:
                tensors |= {f"snapshot.{key}": value for key, value in self._snapshot.tensors.items()}
            self.state.seconds = self.budget.spent
            self.state.spike_detector, self.state.log = vars(self.spike_detector), self.log.lines
            values = {**vars(self.state), "place": self._snapshot.schedule_step, "processes": self.fabric.world_size}
            self.store.save(self.state.step, self.state.best_epoch, Checkpoint(tensors, values))
        self._saved = time.monotonic()
        self._save_seconds = self._saved - began

    def _restore(self) -> None:
        last = self.store.newest() if self.store is not None else None
        self._agree_on(-1 if last is None else int(last.values["step"]))
        if self.store is None or last is None:
            self.log.rewind([])  # of a run that was killed before it saved anything
            self._snapshot = self._take_snapshot()
            self.budget.start(0.0)
            return
        values: dict[str, Any] = dict(last.values)
        schedule_step, processes = values.pop("place"), values.pop("processes")
        self.state = TrainerState(**values)
        self.spike_detector = SpikeDetector.restored(self.state.spike_detector)
        self.budget.start(self.state.seconds)
        self._read_clock()
        self.log.rewind(self.state.log)
        self.optimizer_step.load_state(last.tensors)
        earlier = under("snapshot.", last.tensors)
        self._snapshot = Snapshot(schedule_step, earlier) if earlier else self._take_snapshot()
        if self.state.best_loss is not None:
            self.best_tensors = self.store.best(self.state.best_epoch).tensors
        if processes != self.fabric.world_size:
            reason = f"{processes} before, {self.fabric.world_size} now"
            self.log.add({"step": self.state.step, "event": OTHER_PROCESSES, "reason": reason})

    def _agree_on(self, step: int) -> None:
        """Raise DistillError on all processes where one has found another checkpoint than the first, or none."""
        of_first = int(self.distributed.from_first({"step": step})["step"])
        others = int(self.distributed.sum(torch.tensor(float(step != of_first))))
        if others and self.store is not None:
            raise DistillError(
                f"{self.store.folder}: expected the checkpoints of the first process for all {self.fabric.world_size} of "
                f"them, found others or none for {others}; run it on all computers in one folder that they share"
            )
