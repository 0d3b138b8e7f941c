"""An instrumented training of a memory, and trainings with injected faults."""

import math
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from benchmarks.acceptance.point import Figure
from distill.errors import DistillError, Interrupted
from distill.params import PriorConfig, default_values, get_adaptive_prior_config
from distill.prior.data import BatchShare, PriorData
from distill.prior.memory.block import MemoryShape
from distill.prior.memory.network import MemoryPrior
from distill.prior.memory.task import QUICK_PROBE, MemoryTask, SpanSampler, is_memory_probed
from distill.prior.training import PriorTraining, fit_prior, prior_to_train, trainer_settings
from distill.progress import Progress
from distill.storage.weights import tensors_sha256
from distill.training import PriorMemoryMetrics, PriorStepMetrics, RollbackEvent, WatchMetrics
from distill.training.events import TrainingResult
from distill.training.rollback import MAX_BAD_STEPS, MAX_ROLLBACKS, WATCH_STEPS
from distill.training.run import Run
from distill.training.trainer import Trainer

QUICK: dict[str, Any] = {
    "batch_size": 8
}  # a quarter of the default: a training of a thousand steps takes minutes
FAULTY: dict[str, Any] = {"batch_size": 4, "span_seconds": 4.0}


def memory_config(data: PriorData, steps: int, **changes: Any) -> PriorConfig:
    """Settings of `architecture: memory` with a window that is short compared with the recordings, for at least `steps`."""
    longest = max(len(recording.views[0]) for recording in data.train) / data.codes.frame_rate
    most = float(default_values()["prior"]["memory"]["span_seconds"])
    memory = {"span_seconds": changes.pop("span_seconds", min(max(1.0, longest), most))}
    settings: dict[str, Any] = {"architecture": "memory", "context_seconds": 1.0, "patience": 0}
    config = get_adaptive_prior_config(data.recordings, **{**settings, "memory": memory, **changes})
    shape = MemoryShape.of(config, data.codes, data.codewords.shape[2])
    sampler = SpanSampler(data.train, shape, config.batch_size, seed=0)
    return config.model_copy(
        update={"epochs": min(100_000, math.ceil(steps / sampler.batches_per_epoch))}
    )


@dataclass
class Trial:
    """Record of a training of `steps` steps: loss and bytes of memory in use of each, and how often it was probed.

    `changes` are those of the perplexity of a fixed batch, relative to its moving average, at each look.
    """

    steps: int
    losses: list[float] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    probes: int = 0
    training: PriorTraining = field(init=False)  # once it has ended

    @property
    def result(self) -> TrainingResult:
        """Record of the finished training."""
        return self.training.result

    @property
    def worth(self) -> list[float]:
        """Held-out perplexity with the memory ablated, less that with it: after each epoch, and of the weights kept."""
        rows = (*self.result.history, self.result.best_metrics)
        return [row["ablated/val_perplexity"] - row["val_perplexity"] for row in rows]

    @property
    def not_finite(self) -> int:
        """How many losses, changes of perplexity, worths and final weights are NaN or infinite."""
        weights = sum(int((~value.isfinite()).sum()) for value in self.result.last_tensors.values())
        return weights + sum(
            not math.isfinite(value) for value in (*self.losses, *self.changes, *self.worth)
        )

    @property
    def fall(self) -> float:
        """Ratio of the mean losses of the last and the first tenth of the steps."""
        tenth = max(1, len(self.losses) // 10)
        return statistics.mean(self.losses[-tenth:]) / statistics.mean(self.losses[:tenth])

    @property
    def growth(self) -> float:
        """Relative growth of memory use over the second half of the steps, from its first to its last tenth; NaN without.

        Before, the process keeps what batches of new sizes need.
        """
        settled = self.resident[len(self.resident) // 2 :]
        tenth = len(settled) // 10
        if not tenth:
            return math.nan
        return statistics.median(settled[-tenth:]) / statistics.median(settled[:tenth]) - 1


def try_training(
    data: PriorData, steps: int, seed: int, fabric: Fabric, progress: Progress, **changes: Any
) -> Trial:
    """Train with probes and fast-fail. Raises DistillError where the gates are dead or the training diverges."""
    trial, stop = Trial(steps), threading.Event()

    def watch(event: Any) -> None:
        if isinstance(event, WatchMetrics):
            trial.changes.append(event.change)
        elif isinstance(event, PriorMemoryMetrics):
            trial.probes += bool(event.probe)
        elif isinstance(event, PriorStepMetrics):
            trial.losses.append(event.train_loss)
            on_gpu = (
                torch.cuda.memory_allocated(fabric.device) if fabric.device.type == "cuda" else 0
            )
            trial.resident.append(float(on_gpu + psutil.Process().memory_info().rss))
            progress(event.overall_step, steps, f"steps of a training, loss {event.train_loss:.3f}")
            if event.overall_step == steps:
                stop.set()

    config = memory_config(data, steps, **{**QUICK, **changes})
    trial.training = fit_prior(
        data, config, seed, Run(fabric, observers=[watch], cancel=stop.is_set)
    )
    return trial


def cost_of_probes(data: PriorData, steps: int, seed: int, fabric: Fabric, **changes: Any) -> float:
    """Share of the time of `steps` steps with the default batch size that probes of the memory take.

    An epoch of steps without an optimizer is timed, so that the share is too large if anything.
    """
    config = memory_config(data, steps, **changes)
    model = prior_to_train(data, config, seed)
    assert isinstance(model, MemoryPrior)
    task = MemoryTask(model.to(fabric.device), data, config, seed, fabric)
    steps_taken = [_seconds(partial(_backward, task, share)) for share in task.batches(0, 0)]
    model.eval()
    quick = statistics.median(_seconds(partial(task.probe_memory, *QUICK_PROBE)) for _ in range(3))
    last = statistics.median(_seconds(task.probe_memory) for _ in range(3))
    during = sum(map(is_memory_probed, range(1, steps + 1)))
    return (during * quick + last) / (steps * statistics.mean(steps_taken))


def _backward(task: MemoryTask, share: BatchShare) -> None:
    task.losses(task.model, share)["objective"].backward()


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def recover(
    data: PriorData, fault: str, seed: int, fabric: Fabric, **changes: Any
) -> tuple[Figure, ...]:
    """Train with one injected `fault`: "learning rate", "weights" or "loss".

    It is to be noticed within two inspections and undone bit for bit. Training is to go on with new data, in order.
    """
    run = _FaultyRun(data, fault, seed, fabric, True, changes)
    run.trainer.run()
    looks = (run.first_rollback - run.task.at) / WATCH_STEPS
    in_order = run.task.used == list(range(len(run.task.used)))
    return (
        Figure(f"{fault}: looks until it is found", looks, "<=", 2),
        Figure(f"{fault}: restored bit for bit", float(run.is_restored), "=", 1),
        Figure(f"{fault}: goes on with new data", float(in_order), "=", 1),
    )


def rollbacks_of_a_lasting_fault(
    data: PriorData, seed: int, fabric: Fabric, **changes: Any
) -> tuple[int, bool]:
    """Rollbacks of a loss that stays NaN, and whether training then stopped."""
    run = _FaultyRun(data, "loss", seed, fabric, False, changes)
    try:
        stopped = bool(run.trainer.run().counts["diverged"])
    except Interrupted:
        raise
    except DistillError:
        stopped = True
    rollbacks = run.trainer.state.rollbacks
    return rollbacks, stopped and rollbacks == MAX_ROLLBACKS


class _FaultyTask(MemoryTask):
    """Task with a fault at step `at`, and from then on where it `lasts`; a loss is NaN until it is rolled back."""

    fault, at, lasts = "", 0, False

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.used: list[int] = []

    def batches(self, epoch: int, skip: int) -> Iterator[BatchShare]:
        for share in super().batches(epoch, skip):
            self.used.append(share.step)
            yield share

    def losses(self, model: nn.Module, batch: BatchShare) -> dict[str, Tensor]:
        times = MAX_BAD_STEPS if self.fault == "loss" else 1
        is_faulty = self.at <= batch.step < self.at + times or (self.lasts and batch.step > self.at)
        if is_faulty and self.fault == "weights":
            with torch.no_grad():
                for value in self.model.parameters():
                    value.add_(torch.randn_like(value) * value.abs().mean())
        losses = super().losses(model, batch)
        if is_faulty and self.fault == "loss":
            losses = {name: value * math.nan for name, value in losses.items()}
        return losses


class _FaultyTrainer(Trainer[BatchShare]):
    """Trainer with a learning rate that is far too high until the first rollback."""

    task: _FaultyTask

    def _rate_at(self, step: int) -> float:
        is_high = (
            self.task.fault == "learning rate" and self.task.at <= step and not self.state.rollbacks
        )
        return super()._rate_at(step) * (100.0 if is_high else 1.0)


class _FaultyRun:
    """Training with a fault. `is_restored`: the first rollback restored the state of an inspection bit for bit."""

    def __init__(
        self,
        data: PriorData,
        fault: str,
        seed: int,
        fabric: Fabric,
        once: bool,
        changes: Mapping[str, Any],
    ) -> None:
        config = memory_config(data, 4 * WATCH_STEPS, **{**FAULTY, **changes})
        assert config.memory is not None
        config = config.model_copy(
            update={"memory": config.memory.model_copy(update={"fast_fail": False})}
        )
        model = prior_to_train(data, config, seed)
        assert isinstance(model, MemoryPrior)
        self.task = _FaultyTask(model, data, config, seed, fabric)
        self.task.fault, self.task.at, self.task.lasts = fault, 5 * WATCH_STEPS // 2, not once
        settings = trainer_settings(config, seed, self.task.steps_per_epoch)
        self.trainer = _FaultyTrainer(self.task, settings, Run(fabric, observers=[self._compare]))
        self.first_rollback = math.inf  # the step before it
        self.is_restored, self._digests = False, {0: self._digest()}

    def _compare(self, event: object) -> None:
        if not isinstance(event, WatchMetrics | RollbackEvent):
            return
        schedule_step = self.trainer.state.schedule_step
        if isinstance(event, RollbackEvent):
            if event.rollbacks == 1:
                self.first_rollback = event.step
                self.is_restored = self._digests.get(schedule_step) == self._digest()
        elif not event.is_spike:
            self._digests[schedule_step] = self._digest()

    def _digest(self) -> str:
        return tensors_sha256(self.trainer.optimizer_step.tensors())
