"""The loop on a tiny task: exact resume, best weights, patience, cancel, interruption, non-finite losses."""

import json
import math
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill.errors import ArtifactError, DistillError, Interrupted
from distill.execution import Execution
from distill.progress import ProgressReport
from distill.seeds import derive_seed
from distill.storage.files import identity
from distill.training import RollbackEvent, WatchMetrics, spike_detector
from distill.training import interruption as interruption_module
from distill.training import trainer as trainer_module
from distill.training.budget import AUTO_STEPS, budget_seconds
from distill.training.checkpoints import Checkpoint, CheckpointStore
from distill.training.fabric import make_fabric
from distill.training.interruption import Interruption, StopFile, catch_interruption, raise_on_signals, watch_for_stop
from distill.training.metrics_log import Line
from distill.training.task import Epoch, Step, TrainerSettings, TrainingResult, is_better, learning_rate_at
from distill.training.trainer import Trainer

FABRIC = make_fabric(Execution("cpu", "fp32"))


class LineTask:
    """Task that fits a line with dropout, so that a lost random state shows."""

    held_out_losses: Sequence[float] = ()

    def __init__(self, poison: frozenset[int] = frozenset(), probes: list[float] | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.steps_per_epoch = 4
        self.poison, self.count = poison, 0
        self.probes = probes

    def batches(self, epoch: int, skip: int) -> Iterator[Tensor]:
        for step in range(skip, self.steps_per_epoch):
            yield torch.randn(5, 3, generator=torch.Generator().manual_seed(derive_seed(epoch, step)))

    def losses(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        self.count += 1
        loss = (model(batch)[:, 0] - batch.sum(dim=1)).square().mean()
        return {"train_loss": loss * torch.nan if self.count in self.poison else loss}

    def probe(self) -> float | None:
        if self.probes is not None:
            return self.probes.pop(0)
        return 1 + self.validate()["val_loss"]

    def inspect(self, step: int, log: Sequence[Line]) -> dict[str, float]:  # noqa: ARG002
        return {}

    def validate(self) -> dict[str, float]:
        probe = torch.ones(1, 3)
        with torch.no_grad():
            return {"val_loss": float((self.model(probe) - 3).abs())}


def save_always(monkeypatch: Any) -> None:
    monkeypatch.setattr(trainer_module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(trainer_module, "CHECKPOINT_SHARE", float("inf"))


def settings(**changes: Any) -> TrainerSettings:
    values = {"epochs": 6, "learning_rate": 0.05, "weight_decay": 0.01, "betas": (0.9, 0.99), "gradient_clip": 1.0}
    return TrainerSettings(**{**values, "warmup_steps": 2, "patience": 0, "seed": 7, "average": 0.9, **changes})


def whole(result: TrainingResult) -> tuple[list[float], list[list[tuple[str, float]]], list[dict[str, Any]]]:
    tensors = [*sorted(result.best_tensors.items()), *sorted(result.last_tensors.items())]
    weights = [float(v) for _, t in tensors for v in t.flatten()]
    return weights, [list(row.items()) for row in result.history], result.log


@pytest.mark.parametrize("stop_at", [1, 3, 4, 5, 17, 23])
def test_a_run_stopped_at_any_step_ends_with_the_same_bytes(tmp_path: Path, stop_at: int) -> None:
    expected = Trainer(LineTask(), settings(), FABRIC).run()
    store, interruption = CheckpointStore(tmp_path / "run"), Interruption()

    def stop(step: Step) -> None:
        if step.step == stop_at:
            interruption.signal = signal.SIGINT

    with pytest.raises(Interrupted, match=f"saved after step {stop_at} of 24") as caught:
        Trainer(LineTask(), settings(), FABRIC, store, on_step=stop, interruption=interruption).run()
    assert caught.value.exit_code == 130
    again = Trainer(LineTask(), settings(), FABRIC, store).run()
    assert whole(again) == whole(expected)
    assert again.best_epoch == expected.best_epoch


@pytest.mark.parametrize("kill_at", [2, 9, 22])
def test_a_killed_run_resumes_from_its_last_checkpoint(tmp_path: Path, monkeypatch: Any, kill_at: int) -> None:
    save_always(monkeypatch)
    expected = Trainer(LineTask(), settings(), FABRIC).run()
    store = CheckpointStore(tmp_path / "run")

    def kill(step: Step) -> None:
        if step.step == kill_at:
            raise MemoryError("killed")

    with pytest.raises(MemoryError):
        Trainer(LineTask(), settings(), FABRIC, store, on_step=kill).run()
    assert whole(Trainer(LineTask(), settings(), FABRIC, store).run()) == whole(expected)


def test_a_training_that_continues_with_fewer_processes_says_so(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    task = LineTask()
    Trainer(task, settings(), FABRIC, store).run()
    last = store.newest()
    assert last is not None
    assert last.values["processes"] == 1
    store.save(
        last.values["step"], last.values["best_epoch"], Checkpoint(last.tensors, {**last.values, "processes": 2})
    )
    result = Trainer(LineTask(), settings(), FABRIC, store).run()
    line = {"step": last.values["step"], "event": "other number of processes", "reason": "2 before, 1 now"}
    assert line in result.log
    assert (
        "training continued with another number of processes: rounding and dropout differ from those of one number "
        "alone (metrics.jsonl has the step)"
    ) in result.remarks


def test_the_best_epoch_wins_and_is_what_the_model_holds() -> None:
    task = LineTask()
    result = Trainer(task, settings(epochs=12, learning_rate=0.3), FABRIC).run()
    losses = [row["val_loss"] for row in result.history]
    assert result.best_epoch == losses.index(min(losses))
    task.model.eval()
    assert task.validate()["val_loss"] == pytest.approx(min(losses), abs=1e-6)


def test_the_last_weights_are_those_of_the_last_step() -> None:
    tasks = []
    for epochs in (3, 2):
        task = LineTask(probes=[2.0] * 9)
        result = Trainer(task, settings(epochs=3, learning_rate=0.3, average=0.0), FABRIC)
        result.settings = settings(
            epochs=epochs, learning_rate=0.3, average=0.0
        )  # the schedule stays that of three epochs
        tasks.append((task, result.run()))
    (task, three), (_, two) = tasks
    task.model.load_state_dict(three.last_tensors)
    task.model.eval()
    assert task.validate()["val_loss"] == pytest.approx(three.history[-1]["val_loss"], abs=1e-6)
    assert any(not torch.equal(value, two.last_tensors[key]) for key, value in three.last_tensors.items())


def test_patience_ends_training_early() -> None:
    result = Trainer(LineTask(), settings(epochs=500, learning_rate=0.5, patience=3), FABRIC).run()
    assert len(result.history) < 500
    assert len(result.history) == result.best_epoch + 4


def test_patience_first_lowers_the_rate_and_restarts_from_the_best_weights() -> None:
    changes: dict[str, Any] = {"epochs": 500, "learning_rate": 0.5, "patience": 3}
    without = Trainer(LineTask(probes=[2.0] * 99), settings(**changes), FABRIC).run()
    rates: list[float] = []
    starts: list[dict[str, Tensor]] = []
    task = LineTask(probes=[2.0] * 99)
    trainer = Trainer(task, settings(**changes, drops=2), FABRIC, on_step=lambda step: rates.append(step.learning_rate))
    drop = trainer._drop

    def watch() -> None:
        drop()
        starts.append(trainer.optimizer_step.weights())
        assert all(torch.equal(value, trainer.best_tensors[key]) for key, value in starts[-1].items())
        assert not trainer.optimizer_step.optimizer.state

    trainer._drop = watch  # type: ignore[method-assign]
    result = trainer.run()
    assert len(starts) == 2
    assert result.history[: len(without.history)] == without.history
    steady = [learning_rate_at(step, 500 * task.steps_per_epoch, settings(**changes)) for step in range(len(rates))]
    found = [round(rate / whole_rate, 6) for rate, whole_rate in zip(rates, steady, strict=True)]
    factors = [1.0, trainer_module.DROP_FACTOR, trainer_module.DROP_FACTOR**2]
    assert list(dict.fromkeys(found)) == pytest.approx(factors)
    assert found.index(found[-1]) > len(without.history) * task.steps_per_epoch
    assert len(result.history) - 1 - max(result.best_epoch, trainer.state.dropped_after) == 3


@pytest.mark.parametrize("kill_at", [14, 22, 30])
def test_a_run_with_drops_killed_anywhere_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: Any, kill_at: int
) -> None:
    changes: dict[str, Any] = {"epochs": 30, "learning_rate": 0.5, "patience": 2, "drops": 3}
    whole_run = Trainer(LineTask(), settings(**changes), FABRIC)
    expected = whole_run.run()
    assert whole_run.state.drops == 3
    assert len(expected.history) * 4 > kill_at
    save_always(monkeypatch)
    store = CheckpointStore(tmp_path / "run")

    def kill(step: Step) -> None:
        if step.step == kill_at:
            raise MemoryError("killed")

    with pytest.raises(MemoryError):
        Trainer(LineTask(), settings(**changes), FABRIC, store, on_step=kill).run()
    assert whole(Trainer(LineTask(), settings(**changes), FABRIC, store).run()) == whole(expected)


def test_a_best_epoch_after_a_drop_is_not_combined_with_a_state_from_before(tmp_path: Path, monkeypatch: Any) -> None:
    """Killed when `best` is newer than every regular save of `last`."""
    changes: dict[str, Any] = {"epochs": 60, "learning_rate": 0.5, "patience": 2, "drops": 3}
    whole_run = Trainer(LineTask(), settings(**changes), FABRIC)
    drops: list[int] = []
    drop = whole_run._drop

    def watch() -> None:
        drops.append(len(whole_run.state.history))
        drop()

    whole_run._drop = watch  # type: ignore[method-assign]
    expected = whole_run.run()
    losses = [row["val_loss"] for row in expected.history]
    after = next(n for n in range(drops[0], len(losses)) if losses[n] < min(losses[:n]))
    monkeypatch.setattr(trainer_module, "CHECKPOINT_SECONDS", float("inf"))

    def kill(epoch: Epoch) -> None:
        if epoch.epoch == after:
            raise MemoryError("killed")

    store = CheckpointStore(tmp_path / "run")
    with pytest.raises(MemoryError):
        Trainer(LineTask(), settings(**changes), FABRIC, store, on_epoch=kill).run()
    assert whole(Trainer(LineTask(), settings(**changes), FABRIC, store).run()) == whole(expected)


def test_cancel_stops_within_a_step_and_keeps_the_best() -> None:
    cancel, seen = threading.Event(), []

    def watch(step: Step) -> None:
        seen.append(step.step)
        if step.step == 10:
            cancel.set()

    result = Trainer(LineTask(), settings(), FABRIC, on_step=watch, cancel_event=cancel).run()
    assert seen[-1] == 10
    assert result.cancelled
    assert len(result.history) == 2
    assert result.best_tensors


def test_cancel_before_the_first_epoch_still_gives_weights() -> None:
    cancel = threading.Event()
    cancel.set()
    assert Trainer(LineTask(), settings(), FABRIC, cancel_event=cancel).run().best_tensors


@pytest.fixture
def watchful(monkeypatch: Any) -> None:
    """Probes after every second step, none of which is early."""
    monkeypatch.setattr(spike_detector, "EARLY_ALLOWANCE", 0.0)
    monkeypatch.setattr(spike_detector, "WATCH_STEPS", 2)
    monkeypatch.setattr(spike_detector, "EARLY_PROBES", frozenset())


def events(result: TrainingResult) -> list[tuple[int, str]]:
    return [(int(line["step"]), str(line["event"])) for line in result.log if "event" in line]


@pytest.mark.usefixtures("watchful")
def test_losses_that_are_not_finite_three_times_in_a_row_are_rolled_back_and_their_data_skipped() -> None:
    """Steps 9 to 12 leave no trace: as if training had read the data of 1 to 8 and then that of 13 on."""
    task = LineTask(frozenset({10, 11, 12}), probes=[2.0] * 50)
    rates: list[float] = []
    result = Trainer(task, settings(), FABRIC, on_step=lambda step: rates.append(step.learning_rate)).run()
    assert result.rollbacks == 1
    assert result.remarks[0].startswith("warning: training was rolled back 1 times")
    assert not result.diverged
    assert [pair for pair in events(result) if "epoch" not in pair[1]] == [
        *[(10, "skipped step"), (11, "skipped step"), (12, "rollback")]
    ]
    line = next(line for line in result.log if line.get("event") == "rollback")
    assert line["to"] == 8
    assert str(line["reason"]) == "found train_loss nan, gradient_norm nan, 3 steps in a row"
    assert len(result.history) == 6
    expected = [learning_rate_at(step, 24, settings()) for step in [*range(10), 9, 9, *range(8, 20)]]
    assert rates == pytest.approx(expected)
    assert all(torch.isfinite(value).all() for value in result.best_tensors.values())


@pytest.mark.usefixtures("watchful")
def test_a_rollback_restores_model_and_optimiser_bitwise() -> None:
    kept: dict[int, dict[str, Tensor]] = {}
    trainer = Trainer(LineTask(frozenset({10, 11, 12})), settings(), FABRIC)

    def watch(step: Step) -> None:
        kept[step.step] = {key: value.detach().clone() for key, value in trainer.optimizer_step.tensors().items()}

    trainer.on_step = watch
    trainer.run()
    assert kept[12].keys() == kept[8].keys()
    assert all(torch.equal(value, kept[8][key]) for key, value in kept[12].items())
    assert any(not torch.equal(value, kept[8][key]) for key, value in kept[9].items())


@pytest.mark.usefixtures("watchful")
def test_a_spike_is_rolled_back_and_the_fourth_ends_training_with_the_best_weights() -> None:
    steady = [100.0, 100.0, 100.0]
    result = Trainer(LineTask(probes=[*steady, 106.0, 104.0, 120.0, 130.0, 140.0]), settings(epochs=60), FABRIC).run()
    assert [step for step, event in events(result) if event == "rollback"] == [8, 12, 14]
    assert events(result)[-1] == (16, "diverged")
    assert result.diverged
    assert result.rollbacks == 3
    assert result.remarks[0].startswith(
        "warning: training diverged again after three rollbacks and ended with the best"
    )
    losses = [row["val_loss"] for row in result.history]
    assert result.best_loss == min(losses)
    assert len(losses) == 3


@pytest.mark.usefixtures("watchful")
@pytest.mark.parametrize("kill_at", [9, 10, 11, 12, 13, 16, 21, 22])
def test_a_run_with_rollbacks_killed_anywhere_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: Any, kill_at: int
) -> None:
    class Poisoned(LineTask):
        """Task whose NaN losses depend on the data, not on the number of calls."""

        def batches(self, epoch: int, skip: int) -> Iterator[Tensor]:
            for number, batch in enumerate(super().batches(epoch, skip), start=epoch * self.steps_per_epoch + skip):
                yield batch * torch.nan if number in {9, 10, 11, 15, 16, 17, 21} else batch

    expected = Trainer(Poisoned(), settings(), FABRIC).run()
    assert (expected.rollbacks, expected.skipped_steps) == (2, 5)
    save_always(monkeypatch)
    store = CheckpointStore(tmp_path / "run")

    def kill(step: Step) -> None:
        if step.step == kill_at:
            raise MemoryError("killed")

    with pytest.raises(MemoryError):
        Trainer(Poisoned(), settings(), FABRIC, store, on_step=kill).run()
    assert whole(Trainer(Poisoned(), settings(), FABRIC, store).run()) == whole(expected)


def test_losses_that_are_never_finite_raise() -> None:
    nothing = frozenset(range(1, 40))
    with pytest.raises(
        DistillError, match=r"step 12: expected finite, falling losses, found train_loss nan.* after 3 rollbacks; lower"
    ):
        Trainer(lengthened(12, poison=nothing), settings(), FABRIC).run()
    with pytest.raises(
        DistillError, match=r"after step 2: expected finite losses in the first epoch, found none; lower learning_rate"
    ):
        Trainer(lengthened(2, poison=nothing), settings(), FABRIC).run()


def test_an_exploding_learning_rate_is_rolled_back_then_stopped(monkeypatch: Any) -> None:
    monkeypatch.setattr(spike_detector, "WATCH_STEPS", 1)
    result = Trainer(LineTask(), settings(epochs=40, learning_rate=5.0, gradient_clip=1e9), FABRIC).run()
    assert result.diverged
    assert result.rollbacks == 3
    assert math.isfinite(result.best_loss)


def lengthened(steps: int, **changes: Any) -> LineTask:
    task = LineTask(**changes)
    task.steps_per_epoch = steps
    return task


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 7, 12, 69, 150, 208])
def test_a_training_of_any_length_is_probed_four_times_and_at_its_end(steps: int) -> None:
    seen: list[WatchMetrics | RollbackEvent] = []
    task = lengthened(steps, probes=[2.0] * 99)
    result = Trainer(task, settings(epochs=1), FABRIC, on_watch=seen.append).run()
    probed = [event.step for event in seen]
    assert len(set(probed)) == len(probed) >= min(4, steps)
    assert probed[-1] == steps
    assert len(probed) <= 8 + steps // 50
    assert [line["step"] for line in result.log if "perplexity" in line] == probed


def test_a_training_that_is_ended_early_is_probed_at_its_end() -> None:
    cancel, seen = threading.Event(), []

    def watch(step: Step) -> None:
        if step.step == 6:
            cancel.set()

    task = LineTask(probes=[2.0] * 9)
    Trainer(task, settings(), FABRIC, on_step=watch, cancel_event=cancel, on_watch=seen.append).run()
    assert [event.step for event in seen] == [1, 2, 3, 4, 6]
    task = LineTask(probes=[2.0] * 9)
    seen.clear()
    patient = settings(epochs=99, learning_rate=0.5, patience=1)
    result = Trainer(task, patient, FABRIC, on_watch=seen.append).run()
    assert seen[-1].step == 4 * len(result.history) < 4 * 99


def test_probes_change_nothing_in_what_is_learnt(monkeypatch: Any) -> None:
    often = Trainer(LineTask(probes=[2.0] * 99), settings(), FABRIC).run()
    monkeypatch.setattr(spike_detector, "WATCH_STEPS", 99)
    monkeypatch.setattr(spike_detector, "EARLY_PROBES", frozenset())
    seldom = Trainer(LineTask(probes=[2.0]), settings(), FABRIC).run()
    assert whole(often)[:2] == whole(seldom)[:2]


def test_a_spike_in_a_short_training_is_found_early_and_announced_at_once() -> None:
    seen: list[Any] = []
    task = lengthened(12, probes=[100.0, 99.0, 98.5, 98.0, 200.0, *[98.0] * 9])
    result = Trainer(task, settings(epochs=1), FABRIC, on_step=seen.append, on_watch=seen.append).run()
    assert result.rollbacks == 1
    order = [(type(event), event.step) for event in seen[8:15]]
    watch, step = WatchMetrics, Step
    assert order == [(step, 5), (step, 6), (step, 7), (watch, 8), (RollbackEvent, 8), (step, 8), (step, 9)]
    found = seen[11]
    assert (found.figure, found.value, found.threshold, found.is_spike) == ("perplexity", 200.0, 7.5 / 8, True)
    assert found.change == pytest.approx(200 / 98.5 - 1)
    assert seen[12] == RollbackEvent(
        *(8, 4, 1, False),
        "found a perplexity of 200 on training data, 103% above its moving average (allowed 94%)",
    )
    assert seen[12].message.startswith("warning: step 8: training goes back 4 steps, rollback 1: found a perplexity")


def test_the_last_rollback_is_announced_as_the_end() -> None:
    seen: list[Any] = []
    task = lengthened(400, probes=[100.0, 100.0, *[1e4] * 9])
    with pytest.raises(DistillError, match="after 3 rollbacks"):
        Trainer(task, settings(epochs=1), FABRIC, on_watch=seen.append).run()
    messages = [event.message for event in seen if isinstance(event, RollbackEvent)]
    assert len(messages) == 4
    assert messages[-1].startswith(
        "warning: step 16: training ends with its best weights, after 3 rollbacks: found a perplexity of 1e+04"
    )


def test_a_single_step_that_is_not_finite_is_skipped() -> None:
    kept: dict[int, dict[str, Tensor]] = {}
    rates: list[float] = []
    trainer = Trainer(LineTask(frozenset({6, 9, 10}), probes=[2.0] * 9), settings(), FABRIC)

    def watch(step: Step) -> None:
        rates.append(step.learning_rate)
        kept[step.step] = {key: value.detach().clone() for key, value in trainer.optimizer_step.tensors().items()}

    trainer.on_step = watch
    result = trainer.run()
    assert (result.rollbacks, result.skipped_steps) == (0, 3)
    for skipped in (6, 9, 10):
        assert all(torch.equal(value, kept[skipped - 1][key]) for key, value in kept[skipped].items())
    assert any(not torch.equal(value, kept[6][key]) for key, value in kept[7].items())
    assert rates == pytest.approx(
        [learning_rate_at(step, 24, settings()) for step in [*range(6), 5, 6, 7, 7, 7, *range(8, 21)]]
    )
    assert [pair for pair in events(result) if "epoch" not in pair[1]] == [
        (step, "skipped step") for step in (6, 9, 10)
    ]
    assert result.remarks == ["3 steps whose loss or gradient was not finite were skipped (metrics.jsonl has them)"]
    assert result.counts["skipped_steps"] == 3


def test_a_step_that_spoils_a_moving_average_is_rolled_back_at_once() -> None:
    class Spoiling(LineTask):
        def __init__(self) -> None:
            super().__init__(frozenset({6}), probes=[2.0] * 9)
            self.model.register_buffer("mean", torch.zeros(2))

        def losses(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
            found = super().losses(model, batch)
            self.model.get_buffer("mean").lerp_(found["train_loss"].detach().expand(2), 0.1)
            return found

    task = Spoiling()
    result = Trainer(task, settings(), FABRIC).run()
    assert (result.rollbacks, result.skipped_steps) == (1, 0)
    assert (6, "rollback") in events(result)
    assert all(value.isfinite().all() for value in result.last_tensors.values())


class Clock:
    """A clock that a training moves by a minute a step."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.rates: list[float] = []

    def __call__(self) -> float:
        return self.now

    def tick(self, step: Step) -> None:
        self.now += 60.0
        self.rates.append(step.learning_rate)


def test_a_budget_ends_training_with_its_best_weights_and_a_low_rate() -> None:
    clock, bounded = Clock(), settings(budget_seconds=600.0, learning_rate=0.1)
    result = Trainer(LineTask(), bounded, FABRIC, on_step=clock.tick, clock=clock).run()
    assert len(clock.rates) == 10
    assert len(result.history) == 3  # the third epoch, of half the steps, is validated, too
    assert result.best_loss == min(row["val_loss"] for row in result.history)
    assert clock.rates == pytest.approx([learning_rate_at(step, 24, bounded, step / 10) for step in range(10)])
    assert clock.rates[-1] < 0.1 * max(clock.rates)
    assert (10, "out of time") in events(result)
    assert result.remarks == ["the budget of 10 minutes ended training in epoch 3; the best weights so far are kept"]
    assert (result.spent_minutes, result.counts["out_of_time"]) == (10.0, 1.0)


def test_a_budget_counts_the_time_before_an_interruption(tmp_path: Path) -> None:
    bounded = settings(budget_seconds=600.0)
    store, interruption, clock = CheckpointStore(tmp_path / "run"), Interruption(), Clock()

    def stop(step: Step) -> None:
        clock.tick(step)
        if step.step == 7:
            interruption.signal = signal.SIGINT

    with pytest.raises(Interrupted):
        Trainer(LineTask(), bounded, FABRIC, store, on_step=stop, interruption=interruption, clock=clock).run()
    later = Clock(5.0)  # of another computer
    result = Trainer(LineTask(), bounded, FABRIC, store, on_step=later.tick, clock=later).run()
    assert len(later.rates) == 3
    assert result.spent_minutes == 10
    whole_clock = Clock()
    assert whole(result) == whole(
        Trainer(LineTask(), bounded, FABRIC, on_step=whole_clock.tick, clock=whole_clock).run()
    )
    nothing = Clock()
    again = Trainer(LineTask(), bounded, FABRIC, store, on_step=nothing.tick, clock=nothing).run()
    assert not nothing.rates
    assert whole(again) == whole(result)


def test_a_budget_that_is_not_spent_says_nothing() -> None:
    clock = Clock()
    result = Trainer(LineTask(), settings(budget_seconds=1440.0), FABRIC, on_step=clock.tick, clock=clock).run()
    assert len(clock.rates) == 24
    assert result.remarks == []
    assert result.counts["out_of_time"] == 0


def test_a_budget_that_ends_while_the_loss_falls_says_so() -> None:
    clock = Clock()
    task = FallingTask([2 - 0.1 * epoch for epoch in range(10)])
    bounded = settings(epochs=99, budget_seconds=39 * 60.0, average=0.0)
    result = Trainer(task, bounded, FABRIC, on_step=clock.tick, clock=clock).run()
    assert result.remarks == [
        "the budget of 39 minutes ended training in epoch 10; held-out loss still fell: more minutes may be better"
    ]


def test_auto_bounds_trainings_of_days_alone() -> None:
    assert budget_seconds("auto", 300 * 2475) == 8 * 3600
    assert budget_seconds("auto", AUTO_STEPS) == 0
    assert budget_seconds(90.0, 10) == 5400
    assert budget_seconds(0.0, 10**9) == 0


@pytest.mark.usefixtures("watchful")
def test_the_metrics_log_can_be_read_while_training_runs(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "run")
    seen: list[int] = []
    result = Trainer(
        LineTask(), settings(), FABRIC, store, on_step=lambda _: seen.append(len(read_lines(store.log)))
    ).run()
    assert seen[:6] == [0, 1, 1, 2, 3, 4]
    lines = read_lines(store.log)
    assert lines == result.log
    assert set(lines[0]) == {"step", "loss", "perplexity", "ppl_delta", "ppl_threshold"}
    assert [line["step"] for line in lines if line.get("event")] == [4, 8, 12, 16, 20, 24]


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_newest_five_checkpoints_and_the_best_are_kept(tmp_path: Path, monkeypatch: Any) -> None:
    save_always(monkeypatch)
    store = CheckpointStore(tmp_path / "run")
    result = Trainer(LineTask(), settings(), FABRIC, store).run()
    names = sorted(path.name for path in store.folder.glob("*.safetensors"))
    steps = [f"step-{step:010d}.safetensors" for step in range(20, 25)]
    assert names == [f"best-{result.best_epoch + 1:06d}.safetensors", *steps]


def test_a_stop_file_ends_training_with_the_best_weights(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(interruption_module, "POLL_SECONDS", 0.0)
    path = tmp_path / "stop"

    def ask(step: Step) -> None:
        if step.step == 13:
            path.touch()

    result = Trainer(LineTask(), settings(), FABRIC, on_step=ask, cancel_event=StopFile(path)).run()
    assert result.cancelled
    assert len(result.history) == 3
    assert result.best_loss == min(row["val_loss"] for row in result.history)
    assert events(result)[-1] == (13, "stopped as asked")
    assert result.remarks == ["stopped as asked after 3 epochs; the best weights so far are kept"]
    assert not path.exists()


def test_an_earlier_stop_file_is_removed_and_reported(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "stop"
    path.touch()
    with ProgressReport("prior") as progress:
        stop = watch_for_stop(path, identity(path), progress)
    assert not stop.is_set()
    assert not path.exists()
    assert "was there before training began and is removed; make it again to stop early" in capsys.readouterr().err


def test_a_stop_file_made_while_the_command_prepares_its_training_ends_it(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "stop"
    earlier = identity(path)
    path.touch()
    os.utime(path, (0, 0))  # a clock that was set back decides nothing
    with ProgressReport("prior") as progress:
        stop = watch_for_stop(path, earlier, progress)
    result = Trainer(LineTask(), settings(epochs=1000), FABRIC, cancel_event=stop).run()
    assert result.cancelled
    assert len(result.history) < 1000
    assert not path.exists()
    assert "removed" not in capsys.readouterr().err


def test_asking_twice_does_not_end_the_next_training(tmp_path: Path) -> None:
    path = tmp_path / "stop"
    stop = StopFile(path)
    path.touch()
    stop.clear()
    assert not path.exists()
    stop.clear()


def test_epochs_report_means_of_their_steps() -> None:
    steps: list[Step] = []
    epochs: list[Epoch] = []
    Trainer(LineTask(), settings(epochs=2), FABRIC, on_step=steps.append, on_epoch=epochs.append).run()
    mean = sum(step.losses["train_loss"] for step in steps[:4]) / 4
    assert epochs[0].metrics["train_loss"] == pytest.approx(mean)
    assert [epoch.epoch for epoch in epochs] == [0, 1]
    assert [step.step for step in steps] == list(range(1, 9))


def test_the_schedule_warms_up_and_ends_at_a_twentieth() -> None:
    rates = [learning_rate_at(step, 100, settings(warmup_steps=10, learning_rate=1.0)) for step in range(101)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.05)


def test_a_damaged_checkpoint_says_what_to_delete(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "step-0000000003.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(
        ArtifactError, match=r"step-0000000003\.safetensors: expected a checkpoint .* delete .*run to start"
    ):
        Trainer(LineTask(), settings(), FABRIC, store).run()


def test_a_signal_becomes_a_request_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with catch_interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert interruption.signal == signal.SIGTERM
        with pytest.raises(Interrupted, match="interrupted by SIGTERM: all is saved") as caught:
            interruption.raise_interrupted(signal.SIGTERM, "all is saved")
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_terminal_that_closes_is_ignored_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_interruption() as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert interruption.signal is None
        raise_on_signals()
        signal.raise_signal(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        raise_on_signals()
        with pytest.raises(Interrupted, match="interrupted by SIGHUP; nothing half-written was kept") as caught:
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert caught.value.exit_code == 129


def test_seeds_differ_in_every_part() -> None:
    seeds = {derive_seed(a, b, c) for a in range(8) for b in range(8) for c in range(8)}
    assert len(seeds) == 512
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_initial_weights_may_be_the_best(tmp_path: Path) -> None:
    def trained() -> LineTask:
        task = LineTask()
        Trainer(task, settings(epochs=40), FABRIC).run()
        return task

    spoilt = settings(learning_rate=5.0, validate_initial=True)
    task = trained()
    before = {key: value.clone() for key, value in task.model.state_dict().items()}
    result = Trainer(task, spoilt, FABRIC).run()
    assert min(row["val_loss"] for row in result.history) > result.best_loss
    assert result.best_epoch == -1
    assert result.best_metrics["val_loss"] == result.best_loss
    assert all(torch.equal(value, before[key]) for key, value in result.best_tensors.items())
    store, interruption = CheckpointStore(tmp_path / "run"), Interruption()

    def stop(step: Step) -> None:
        if step.step == 6:
            interruption.signal = signal.SIGINT

    with pytest.raises(Interrupted):
        Trainer(trained(), spoilt, FABRIC, store, on_step=stop, interruption=interruption).run()
    again = Trainer(trained(), spoilt, FABRIC, store).run()
    assert whole(again) == whole(result)
    assert again.best_metrics == result.best_metrics


def test_parts_learn_at_their_share_of_the_rate() -> None:
    def moved(share: float) -> list[float]:
        task = LineTask()
        before = [value.detach().clone() for value in task.model.parameters()]
        result = Trainer(task, settings(epochs=1, rate_shares={"0.": share}), FABRIC).run()
        task.model.load_state_dict(result.last_tensors)
        return [
            float((now.detach() - then).abs().max()) for now, then in zip(task.model.parameters(), before, strict=True)
        ]

    still, slow, normal = moved(0.0), moved(0.01), moved(1.0)
    assert still[0] == still[1] == 0.0
    assert 0 < slow[0] < 0.05 * normal[0]
    assert still[2] > 0


def test_the_averaged_weights_are_validated_and_kept() -> None:
    plain, averaged = (Trainer(LineTask(), settings(average=average), FABRIC).run() for average in (0.0, 0.9))
    for key, value in plain.last_tensors.items():
        assert torch.equal(value, averaged.last_tensors[key])  # training itself is the same
    trainer = Trainer(LineTask(), settings(epochs=1), FABRIC)
    result = trainer.run()
    assert trainer.optimizer_step.average is not None
    for key, value in trainer.optimizer_step.average.values.items():
        assert torch.equal(value, result.best_tensors[key])
        assert not torch.equal(value, result.last_tensors[key])


class FallingTask(LineTask):
    """A task whose held-out loss is the next of `losses_to_come`."""

    def __init__(self, losses_to_come: list[float]) -> None:
        super().__init__(probes=[2.0] * 99)
        self.losses_to_come = losses_to_come

    def validate(self) -> dict[str, float]:
        return {"val_loss": self.losses_to_come.pop(0)}


@pytest.mark.parametrize(
    ("losses", "is_falling"),
    [
        ([2 - 0.1 * epoch for epoch in range(10)], True),
        ([1.0] * 9 + [0.999], False),
        ([1.0] * 5 + [0.5] * 5, False),
        ([2.0, 1.0, 0.5], False),  # too few epochs to say
    ],
)
def test_a_training_that_ends_while_the_loss_falls_says_so(losses: list[float], is_falling: bool) -> None:
    result = Trainer(FallingTask([*losses]), settings(epochs=len(losses), average=0.0), FABRIC).run()
    said = "training ended at its last epoch, 10, while held-out loss still fell: more epochs may be better"
    assert result.remarks == [said] * is_falling
    stopped = Trainer(FallingTask([*losses, 9.0]), settings(epochs=len(losses) + 1, patience=1), FABRIC).run()
    assert not stopped.was_still_falling


@pytest.mark.usefixtures("watchful")
def test_going_back_to_the_best_weights_is_no_spike() -> None:
    """Perplexity on training data rises where training goes on from earlier weights with a lower rate."""
    task = FallingTask([1.0] + [2.0] * 9)
    task.probes = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, *[8.0] * 20]  # three epochs of two probes, then a drop
    result = Trainer(task, settings(epochs=10, patience=2, drops=1, average=0.0), FABRIC).run()
    assert len(result.history) == 5
    assert result.rollbacks == 0


class PartsTask(LineTask):
    """A task whose held-out losses, of four parts, are the next of `to_come`."""

    def __init__(self, to_come: list[list[float]]) -> None:
        super().__init__(probes=[2.0] * 99)
        self.to_come = to_come

    def validate(self) -> dict[str, float]:
        self.held_out_losses = self.to_come.pop(0)
        return {"val_loss": sum(self.held_out_losses) / len(self.held_out_losses)}


START = [4.0, 4.0, 4.0, 4.0]
LUCKY = [3.0, 5.0, 3.2, 4.6]  # lower by .05, which is chance
BETTER = [3.9, 3.8, 3.9, 3.9]  # lower by .125, everywhere


@pytest.mark.parametrize(("second", "best_epoch"), [(LUCKY, -1), (BETTER, 1)])
def test_initial_weights_are_kept_where_training_gains_no_more_than_chance(
    tmp_path: Path, monkeypatch: Any, second: list[float], best_epoch: int
) -> None:
    save_always(monkeypatch)
    parts, values = [START, LUCKY, second, START], settings(epochs=3, validate_initial=True)
    task = PartsTask([*parts])
    initial = {key: value.clone() for key, value in task.model.state_dict().items()}
    whole = Trainer(task, values, FABRIC).run()
    assert whole.best_epoch == best_epoch
    assert whole.best_loss == pytest.approx(4.0 if best_epoch < 0 else 3.875)
    remark = "training gained no more than chance on held-out recordings; the initial weights are kept"
    assert (remark in whole.remarks) is (best_epoch < 0)
    assert all(torch.equal(value, initial[key]) for key, value in whole.best_tensors.items()) is (best_epoch < 0)
    store, interruption = CheckpointStore(tmp_path), Interruption()

    def stop(step: Step) -> None:
        if step.epoch == 1:
            interruption.signal = signal.SIGINT

    with pytest.raises(Interrupted):
        Trainer(PartsTask(parts[:2]), values, FABRIC, store, on_step=stop, interruption=interruption).run()
    again = PartsTask(parts[2:])
    halves = Trainer(again, values, FABRIC, store).run()
    assert (halves.best_epoch, halves.best_loss) == (whole.best_epoch, whole.best_loss)
    assert all(torch.equal(value, halves.best_tensors[key]) for key, value in whole.best_tensors.items())
    assert all(torch.equal(value, whole.best_tensors[key]) for key, value in again.model.state_dict().items())


@pytest.mark.parametrize(
    ("losses", "start", "expected"),
    [
        ([1.0], [1.1], True),
        ([1.1], [1.0], False),
        ([1.0], [1.0], False),
        ([0.9, 0.9], [1.0, 1.0], True),
        ([0.8, 1.1], [1.0, 1.0], False),
        ([0.5, 1.1], [1.0, 1.0], False),  # gains of .5 and -.1: .2, and a standard error of .3
        ([0.5, 0.9], [1.0, 1.0], True),  # .5 and .1: .3 and .2
    ],
)
def test_better_is_by_more_than_the_standard_error(losses: list[float], start: list[float], expected: bool) -> None:
    assert is_better(losses, start) is expected
