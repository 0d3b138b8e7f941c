"""Training loop of every task: steps, schedule, best weights, exact resume, rollback, interruption.

Randomness is a function of (seed, epoch, step), so a run that is resumed at any step ends with the same bytes as one
that never stopped.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import lightning_fabric
import torch

from distill.errors import DistillError
from distill.seeds import Stream, derive_seed
from distill.storage.weights import under
from distill.training.allocator import keep_freed_memory
from distill.training.checkpoints import Checkpoint, CheckpointStore, Tensors
from distill.training.distributed import Distributed, Stop
from distill.training.interruption import Interruption
from distill.training.metrics_log import Line, MetricsLog
from distill.training.optimizer import OptimizerStep
from distill.training.spike_detector import SpikeDetector
from distill.training.task import Epoch, Step, Task, TrainerSettings, TrainingResult, learning_rate_at

DROP_FACTOR = 0.2  # of the learning rate, at each of `TrainerSettings.drops`
WATCH_STEPS = 50  # between probes; without a spike the state there is the one that a rollback returns to
MAX_ROLLBACKS = 3
FALLING = 0.005  # share of the held-out loss
CHECKPOINT_SECONDS = 10.0
CHECKPOINT_SHARE = 0.02  # of the time, at most, to write checkpoints: large models write less often

B = TypeVar("B")


@dataclass
class _State:
    """State of a run, as checkpoints hold it beside the tensors."""

    step: int = 0  # batches since the start of training
    lost_steps: int = 0  # of them undone by rollbacks: the schedule is that far behind
    best_epoch: int = -1
    best_loss: float | None = None
    drops: int = 0
    dropped_after: int = -1  # the epoch before the last drop of the learning rate
    rollbacks: int = 0
    diverged: bool = False
    counted_steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    spike_detector: dict[str, Any] = field(default_factory=dict)
    log: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class _Snapshot:
    """Copies of weights and moments after `schedule_step` steps of the schedule."""

    schedule_step: int
    tensors: Tensors


class Trainer(Generic[B]):
    """Trainer of a task. `run()` trains to the end, from the newest checkpoint if `store` has one.

    `on_step` and `on_epoch` get reports. `interruption` and `cancel_event` ask to stop: saved and raised, or as a
    success with the best weights so far.
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
    ) -> None:
        self.task, self.settings, self.fabric, self.store = task, settings, fabric, store
        self.on_step, self.on_epoch = on_step, on_epoch
        self.interruption, self.cancel_event = interruption, cancel_event
        self.distributed = Distributed(fabric)
        self.model, self.optimizer_step = task.model, OptimizerStep(task.model, settings, fabric)
        self.state = _State()
        self.spike_detector = SpikeDetector()
        self.log = MetricsLog(store.log if store is not None and self.distributed.is_first else None)
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
        self._restore()
        if self.settings.validate_initial and self.state.best_loss is None:
            self._validate_initial()
        with torch.random.fork_rng(devices=[]):
            while len(self.state.history) < self.settings.epochs and not (
                self.distributed.cancelled or self.state.diverged
            ):
                if self._out_of_patience():
                    if self.state.drops == self.settings.drops:
                        break
                    self._drop()
                self._train_epoch()
        if self.state.best_loss is None:
            self._validate(time.monotonic())
        self._save()  # until the result is safe elsewhere
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
        )

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
        inspected: dict[str, float] = {}
        norm = self.optimizer_step.backward(losses.pop("objective", losses["train_loss"]))
        values = {name: float(value.detach()) for name, value in losses.items()}
        values = self.distributed.mean(values)
        values["gradient_norm"] = norm
        self.state.step += 1
        if all(math.isfinite(value) for value in values.values()):
            self.optimizer_step.step(rate, self._averaged_steps)
            self.state.counted_steps += 1
            for name, value in values.items():
                self.state.sums[name] = self.state.sums.get(name, 0.0) + value
            if self.state.step % WATCH_STEPS == 0:
                inspected = self._probe(values["train_loss"])
        else:
            found = ", ".join(f"{name} {value}" for name, value in values.items())
            self._roll_back(f"found {found}")
        if self.on_step is not None:
            seconds = time.monotonic() - began
            self.on_step(Step(epoch, self.state.step, self.total_steps, rate, seconds, values, inspected))
        self._save_if_due()

    def _probe(self, loss: float) -> dict[str, float]:
        """Probe the perplexity: roll back a spike, else take a snapshot. Returns the metrics of `Task.inspect`."""
        self.model.eval()
        with torch.no_grad():
            perplexity = self.task.probe()
        line: Line = {"step": self.state.step, "loss": loss}
        if perplexity is not None:
            reading = self.spike_detector.observe(self.distributed.from_first({"perplexity": perplexity})["perplexity"])
            if reading.is_spike:
                self._roll_back(
                    f"found a perplexity of {reading.perplexity:.4g} on training data, "
                    f"{reading.delta:.0%} above its moving average (allowed {reading.threshold:.0%})"
                )
                return {}
            line |= {"perplexity": reading.perplexity, "ppl_delta": reading.delta}
        try:
            with torch.no_grad():
                inspected = self.task.inspect(self.state.step, self.log.lines)
        except DistillError:
            self._save()
            raise
        self.log.add(line | inspected)
        self._snapshot = self._take_snapshot()
        return inspected

    def _roll_back(self, reason: str) -> None:
        """Return to the last snapshot and continue with the data that comes next."""
        if self.state.rollbacks == MAX_ROLLBACKS:
            self.state.diverged = True
            self.optimizer_step.load_state(self._snapshot.tensors)
            self.log.add({"step": self.state.step, "event": "diverged", "reason": reason})
            if self.state.best_loss is None:
                raise DistillError(
                    f"training stopped at step {self.state.step}: expected finite, falling losses, {reason} after "
                    f"{MAX_ROLLBACKS} rollbacks; lower learning_rate or gradient_clip and run again"
                )
            return
        self.state.rollbacks += 1
        self.optimizer_step.load_state(self._snapshot.tensors)
        self.state.lost_steps = self.state.step - self._snapshot.schedule_step
        to = self._snapshot.schedule_step
        self.log.add({"step": self.state.step, "event": "rollback", "to": to, "reason": reason})
        self._save()  # a run resumed from before the rollback might count it twice: hardware need not repeat itself

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
        if math.isfinite(self.state.start["val_loss"]):
            self._keep_best(-1, self.state.start["val_loss"])
            self._save()

    def _keep_best(self, epoch: int, loss: float) -> None:
        self.state.best_epoch, self.state.best_loss = epoch, loss
        self.best_tensors = self.optimizer_step.weights()
        self._best_is_new = True

    def _was_still_falling(self) -> bool:
        """Whether the last tenth of all epochs lowered the held-out loss by more than `FALLING`."""
        losses = [row["val_loss"] for row in self.state.history]
        last = len(losses) // 10
        if len(losses) < self.settings.epochs or not last:
            return False
        return min(losses) < (1 - FALLING) * min(losses[:-last])

    def _take_snapshot(self) -> _Snapshot:
        tensors = self.optimizer_step.tensors()
        return _Snapshot(self._schedule_step, {key: value.detach().clone() for key, value in tensors.items()})

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
        return learning_rate_at(schedule_step, self.total_steps, self.settings) * DROP_FACTOR**self.state.drops

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
            self.state.spike_detector, self.state.log = vars(self.spike_detector), self.log.lines
            values = {**vars(self.state), "place": self._snapshot.schedule_step}
            self.store.save(self.state.step, self.state.best_epoch, Checkpoint(tensors, values))
        self._saved = time.monotonic()
        self._save_seconds = self._saved - began

    def _restore(self) -> None:
        last = self.store.newest() if self.store is not None else None
        if self.store is None or last is None:
            self.log.rewind([])  # of a run that was killed before it saved anything
            self._snapshot = self._take_snapshot()
            return
        values: dict[str, Any] = dict(last.values)
        schedule_step = values.pop("place")
        self.state = _State(**values)
        self.spike_detector = SpikeDetector.restored(self.state.spike_detector)
        self.log.rewind(self.state.log)
        self.optimizer_step.load_state(last.tensors)
        earlier = under("snapshot.", last.tensors)
        self._snapshot = _Snapshot(schedule_step, earlier) if earlier else self._take_snapshot()
        if self.state.best_loss is not None:
            self.best_tensors = self.store.best(self.state.best_epoch).tensors
