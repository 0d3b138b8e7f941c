"""The loop on a tiny task: exact resume, best weights, cancel, interruption, budget, checkpoints."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from unit.training.line import (
    FABRIC,
    STEADY,
    LineTask,
    Seen,
    at_step,
    interrupted_at,
    kill,
    settings,
    train,
    trainer,
    whole,
)

from distill.errors import ArtifactError, DistillError, Interrupted
from distill.progress import ProgressReport
from distill.storage.files import identity
from distill.training import interruption as interruption_module
from distill.training import rollback as rollback_module
from distill.training import trainer as trainer_module
from distill.training.checkpoints import Checkpoint, CheckpointStore
from distill.training.events import Epoch, Step, TrainingEnd, WatchMetrics
from distill.training.interruption import StopFile, watch_for_stop
from distill.training.optimizer import learning_rate_at
from distill.training.run import Run
from distill.training.trainer import Trainer


@pytest.fixture
def save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(trainer_module, "CHECKPOINT_SHARE", float("inf"))


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "run")


@pytest.mark.parametrize("stop_at", [1, 3, 4, 5, 17, 23])
def test_a_run_stopped_at_any_step_ends_with_the_same_bytes(store: CheckpointStore, stop_at: int) -> None:
    expected = train(LineTask())
    seen, interruption = interrupted_at(stop_at)
    with pytest.raises(Interrupted, match=f"saved after step {stop_at} of 24") as caught:
        train(LineTask(), seen, store, interruption)
    assert caught.value.exit_code == 130
    assert whole(train(LineTask(), store=store)) == whole(expected)


DROPPING: dict[str, Any] = {"epochs": 30, "learning_rate": 0.5, "patience": 2, "drops": 3}


class Poisoned(LineTask):
    """Task whose NaN losses depend on the data, not on the number of calls."""

    def batches(self, epoch: int, skip: int) -> Any:
        for number, batch in enumerate(super().batches(epoch, skip), start=epoch * self.steps_per_epoch + skip):
            yield batch * torch.nan if number in {9, 10, 11, 15, 16, 17, 21} else batch


@pytest.mark.usefixtures("save_always")
@pytest.mark.parametrize(
    ("kind", "changes", "kill_at"),
    [
        *((LineTask, {}, number) for number in (2, 9, 22)),
        *((LineTask, DROPPING, number) for number in (14, 22, 30)),
        *((Poisoned, {}, number) for number in (9, 10, 11, 12, 13, 16, 21, 22)),
    ],
)
def test_a_killed_run_resumes_from_its_last_checkpoint(
    store: CheckpointStore, kind: type[LineTask], changes: dict[str, Any], kill_at: int, request: pytest.FixtureRequest
) -> None:
    """Also through drops of the learning rate, rollbacks and skipped steps."""
    if kind is Poisoned:
        request.getfixturevalue("watchful")
    undisturbed = trainer(kind(), **changes)
    expected = undisturbed.run()
    assert undisturbed.patience.drops == changes.get("drops", 0)
    assert (expected.rollbacks, expected.skipped_steps) == ((2, 5) if kind is Poisoned else (0, 0))
    with pytest.raises(MemoryError):
        train(kind(), at_step(kill_at, kill), store, **changes)
    assert whole(train(kind(), store=store, **changes)) == whole(expected)


def test_a_best_epoch_after_a_drop_is_not_combined_with_a_state_from_before(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when `best` is newer than every regular save of `last`."""
    changes = {**DROPPING, "epochs": 60}
    undisturbed = trainer(LineTask(), **changes)
    drops: list[int] = []
    restart = undisturbed._restart
    monkeypatch.setattr(undisturbed, "_restart", lambda: (drops.append(len(undisturbed.state.history)), restart()))
    expected = undisturbed.run()
    losses = [row["val_loss"] for row in expected.history]
    after = next(n for n in range(drops[0], len(losses)) if losses[n] < min(losses[:n]))
    monkeypatch.setattr(trainer_module, "CHECKPOINT_SECONDS", float("inf"))
    killed = Seen(lambda event: kill() if isinstance(event, Epoch) and event.epoch == after else None)
    with pytest.raises(MemoryError):
        train(LineTask(), killed, store, **changes)
    assert whole(train(LineTask(), store=store, **changes)) == whole(expected)


def test_a_training_that_continues_with_fewer_processes_says_so(store: CheckpointStore) -> None:
    train(LineTask(), store=store)
    last = store.newest()
    assert last is not None
    step = last.values["trainer"]["step"]
    store.save(step, last.values["patience"]["best_epoch"], Checkpoint(last.tensors, {**last.values, "processes": 2}))
    assert train(LineTask(), store=store).remarks == [
        "training continued with another number of processes: rounding and dropout differ from those of one number "
        f"alone (from step {step} on 1, before 2)"
    ]


def test_the_best_epoch_wins_and_is_what_the_model_holds() -> None:
    task = LineTask()
    result = train(task, epochs=12, learning_rate=0.3)
    losses = [row["val_loss"] for row in result.history]
    assert result.best_epoch == losses.index(min(losses))
    task.model.eval()
    assert task.validate()["val_loss"] == pytest.approx(min(losses), abs=1e-6)


def test_the_last_weights_are_those_of_the_last_step() -> None:
    task = LineTask(probes=STEADY)
    result = train(task, epochs=3, learning_rate=0.3, average=0.0)
    task.model.load_state_dict(result.last_tensors)
    task.model.eval()
    assert task.validate()["val_loss"] == pytest.approx(result.history[-1]["val_loss"], abs=1e-6)


def test_the_averaged_weights_are_validated_and_kept() -> None:
    plain, averaged = (train(LineTask(), average=average) for average in (0.0, 0.9))
    for key, value in plain.last_tensors.items():
        assert torch.equal(value, averaged.last_tensors[key])  # training itself is the same
    one = trainer(LineTask(), epochs=1)
    result = one.run()
    assert one.optimizer_step.average is not None
    for key, value in one.optimizer_step.average.values.items():
        assert torch.equal(value, result.best_tensors[key])
        assert not torch.equal(value, result.last_tensors[key])


def test_the_initial_weights_may_be_the_best(store: CheckpointStore) -> None:
    def trained() -> LineTask:
        task = LineTask()
        train(task, epochs=40)
        return task

    spoilt: dict[str, Any] = {"learning_rate": 5.0, "validate_initial": True}
    task = trained()
    before = {key: value.clone() for key, value in task.model.state_dict().items()}
    result = train(task, **spoilt)
    assert min(row["val_loss"] for row in result.history) > result.best_loss
    assert result.best_epoch == -1
    assert result.best_metrics == result.start_metrics
    assert result.best_metrics["val_loss"] == result.best_loss
    assert all(torch.equal(value, before[key]) for key, value in result.best_tensors.items())
    seen, interruption = interrupted_at(6)
    with pytest.raises(Interrupted):
        train(trained(), seen, store, interruption, **spoilt)
    again = train(trained(), store=store, **spoilt)
    assert whole(again) == whole(result)
    assert again.best_metrics == result.best_metrics


START = [4.0, 4.0, 4.0, 4.0]
LUCKY = [3.0, 5.0, 3.2, 4.6]  # lower by .05, which is chance
BETTER = [3.9, 3.8, 3.9, 3.9]  # lower by .125, everywhere


class PartsTask(LineTask):
    """A task whose held-out losses, of four parts, are the next of `to_come`."""

    def __init__(self, to_come: list[list[float]]) -> None:
        super().__init__(probes=STEADY)
        self.to_come = to_come

    def validate(self) -> dict[str, float]:
        self.held_out_losses = self.to_come.pop(0)
        return {"val_loss": sum(self.held_out_losses) / len(self.held_out_losses)}


@pytest.mark.usefixtures("save_always")
@pytest.mark.parametrize(("second", "best_epoch"), [(LUCKY, -1), (BETTER, 1)])
def test_initial_weights_are_kept_where_training_gains_no_more_than_chance(
    store: CheckpointStore, second: list[float], best_epoch: int
) -> None:
    parts, changes = [START, LUCKY, second, START], {"epochs": 3, "validate_initial": True}
    task = PartsTask([*parts])
    initial = {key: value.clone() for key, value in task.model.state_dict().items()}
    expected = train(task, **changes)
    assert expected.best_epoch == best_epoch
    assert expected.best_loss == pytest.approx(4.0 if best_epoch < 0 else 3.875)
    remark = "training gained no more than chance on held-out recordings; the initial weights are kept"
    assert (remark in expected.remarks) is (best_epoch < 0)
    assert all(torch.equal(value, initial[key]) for key, value in expected.best_tensors.items()) is (best_epoch < 0)
    seen, interruption = interrupted_at(5)
    with pytest.raises(Interrupted):
        train(PartsTask(parts[:2]), seen, store, interruption, **changes)
    again = PartsTask(parts[2:])
    assert whole(train(again, store=store, **changes)) == whole(expected)
    assert all(torch.equal(value, expected.best_tensors[key]) for key, value in again.model.state_dict().items())


def test_cancel_stops_within_a_step_and_keeps_the_best() -> None:
    cancel = threading.Event()
    seen = at_step(10, cancel.set)
    result = train(LineTask(), seen, cancel=cancel)
    assert seen.of(Step)[-1].step == 10
    assert result.cancelled
    assert len(result.history) == 2
    assert result.best_loss == min(row["val_loss"] for row in result.history)
    assert seen.all[-1] == TrainingEnd(result.counts, result.remarks)
    assert result.remarks == ["stopped as asked after 2 epochs; the best weights so far are kept"]
    assert train(LineTask(), cancel=cancel).best_tensors  # asked before the first step


def test_a_stop_file_ends_training_with_the_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption_module, "POLL_SECONDS", 0.0)
    path = tmp_path / "stop"
    result = train(LineTask(), at_step(13, path.touch), cancel=StopFile(path))
    assert result.cancelled
    assert len(result.history) == 3
    assert not path.exists()


@pytest.mark.parametrize("is_earlier", [True, False])
def test_a_stop_file_is_for_the_training_that_it_was_made_during(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_earlier: bool
) -> None:
    """The command prepares its training meanwhile; a clock that was set back decides nothing."""
    path = tmp_path / "stop"
    before = identity(path)
    path.touch()
    os.utime(path, (0, 0))
    earlier = identity(path) if is_earlier else before
    with ProgressReport("prior") as progress:
        stop = watch_for_stop(path, earlier, progress)
    removed = "was there before training began and is removed; make it again to stop early"
    assert (removed in capsys.readouterr().err) is is_earlier
    assert path.exists() is not is_earlier
    assert train(LineTask(), cancel=stop, epochs=3 if is_earlier else 1000).cancelled is not is_earlier
    path.touch()
    stop.clear()  # asked again, too late: it does not end the next training
    stop.clear()
    assert not path.exists()


def test_epochs_report_means_of_their_steps() -> None:
    seen = Seen()
    train(LineTask(), seen, epochs=2)
    steps, epochs = seen.of(Step), seen.of(Epoch)
    mean = sum(step.losses["train_loss"] for step in steps[:4]) / 4
    assert epochs[0].metrics["train_loss"] == pytest.approx(mean)
    assert [epoch.epoch for epoch in epochs] == [0, 1]
    assert [step.step for step in steps] == list(range(1, 9))


def test_the_newest_five_checkpoints_and_the_best_are_kept(store: CheckpointStore, save_always: None) -> None:  # noqa: ARG001
    result = train(LineTask(), store=store)
    names = sorted(path.name for path in store.folder.glob("*.safetensors"))
    steps = [f"step-{step:010d}.safetensors" for step in range(20, 25)]
    assert names == [f"best-{result.best_epoch + 1:06d}.safetensors", *steps]


def test_a_damaged_checkpoint_says_what_to_delete(store: CheckpointStore) -> None:
    store.folder.mkdir()
    (store.folder / "step-0000000003.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(
        ArtifactError, match=r"step-0000000003\.safetensors: expected a checkpoint .* delete .*run to start"
    ):
        train(LineTask(), store=store)


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 7, 12, 69, 150, 208])
def test_a_training_of_any_length_is_probed_four_times_and_at_its_end(steps: int) -> None:
    seen = Seen()
    train(LineTask(probes=STEADY, steps=steps), seen, epochs=1)
    probed = [event.step for event in seen.of(WatchMetrics)]
    assert len(set(probed)) == len(probed) >= min(4, steps)
    assert probed[-1] == steps
    assert len(probed) <= 8 + steps // 50


def test_a_training_that_is_ended_early_is_probed_at_its_end() -> None:
    cancel = threading.Event()
    seen = at_step(6, cancel.set)
    train(LineTask(probes=STEADY), seen, cancel=cancel)
    assert [event.step for event in seen.of(WatchMetrics)] == [1, 2, 3, 4, 6]
    seen = Seen()
    result = train(LineTask(probes=STEADY), seen, epochs=99, learning_rate=0.5, patience=1)
    assert seen.of(WatchMetrics)[-1].step == 4 * len(result.history) < 4 * 99


def test_probes_change_nothing_in_what_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    often = train(LineTask(probes=STEADY))
    monkeypatch.setattr(rollback_module, "WATCH_STEPS", 99)
    monkeypatch.setattr(rollback_module, "EARLY_PROBES", frozenset())
    assert whole(train(LineTask(probes=STEADY))) == whole(often)


class Inspecting(LineTask):
    """A task that measures more at each probe, and ends training at the third measurement of a run."""

    def inspect(self, step: int, earlier: Any) -> dict[str, float]:
        if len(earlier) == 3:
            raise DistillError(f"enough of {[line['step'] for line in earlier]}")
        return {"more": float(step)}


def test_a_task_sees_what_it_inspected_before_also_after_it_resumed(store: CheckpointStore) -> None:
    seen, interruption = interrupted_at(2)
    with pytest.raises(Interrupted):
        train(Inspecting(), seen, store, interruption)
    assert [event.inspected for event in seen.of(WatchMetrics)] == [{"more": 1.0}, {"more": 2.0}]
    with pytest.raises(DistillError, match=r"enough of \[1, 2, 3\]"):
        train(Inspecting(), store=store)


class Clock:
    """A clock that a training moves by a minute a step."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.seen = Seen(lambda event: self.tick() if isinstance(event, Step) else None)

    def __call__(self) -> float:
        return self.now

    def tick(self) -> None:
        self.now += 60.0


def test_a_budget_ends_training_with_its_best_weights_and_a_low_rate() -> None:
    clock, bounded = Clock(), {"budget_seconds": 600.0, "learning_rate": 0.1}
    result = train(LineTask(), clock.seen, clock=clock, **bounded)
    rates = clock.seen.rates
    assert len(rates) == 10
    assert len(result.history) == 3  # the third epoch, of half the steps, is validated, too
    assert result.best_loss == min(row["val_loss"] for row in result.history)
    assert rates == pytest.approx([learning_rate_at(step, 24, settings(**bounded), step / 10) for step in range(10)])
    assert rates[-1] < 0.1 * max(rates)
    assert result.remarks == ["the budget of 10 minutes ended training in epoch 3; the best weights so far are kept"]
    assert (result.spent_minutes, result.counts["out_of_time"]) == (10.0, 1.0)


def test_a_budget_counts_the_time_before_an_interruption(store: CheckpointStore) -> None:
    bounded = {"budget_seconds": 600.0}
    seen, interruption = interrupted_at(7)
    clock, later, alone, nothing = Clock(), Clock(5.0), Clock(), Clock()  # `later` is that of another computer
    both = Seen(lambda event: [one.on_event(event) for one in (seen, clock.seen)])
    with pytest.raises(Interrupted):
        train(LineTask(), both, store, interruption, clock=clock, **bounded)
    result = train(LineTask(), later.seen, store, clock=later, **bounded)
    assert len(later.seen.rates) == 3
    assert result.spent_minutes == 10
    assert whole(result) == whole(train(LineTask(), alone.seen, clock=alone, **bounded))
    assert whole(train(LineTask(), nothing.seen, store, clock=nothing, **bounded)) == whole(result)
    assert not nothing.seen.rates


def test_a_budget_that_is_not_spent_says_nothing() -> None:
    clock = Clock()
    result = train(LineTask(), clock.seen, clock=clock, budget_seconds=1440.0)
    assert len(clock.seen.rates) == 24
    assert result.remarks == []
    assert result.counts["out_of_time"] == 0


def test_a_budget_that_ends_while_the_loss_falls_says_so() -> None:
    clock = Clock()
    task = LineTask(probes=STEADY, held_out=[2 - 0.1 * epoch for epoch in range(10)])
    result = train(task, clock.seen, clock=clock, epochs=99, budget_seconds=39 * 60.0, average=0.0)
    assert result.remarks == [
        "the budget of 39 minutes ended training in epoch 10; held-out loss still fell: more minutes may be better"
    ]


def test_parts_learn_at_their_share_of_the_rate() -> None:
    def moved(share: float) -> list[float]:
        task = LineTask()
        before = [value.detach().clone() for value in task.model.parameters()]
        task.model.load_state_dict(train(task, epochs=1, rate_shares={"0.": share}).last_tensors)
        pairs: Any = zip(task.model.parameters(), before, strict=True)
        return [float((now.detach() - then).abs().max()) for now, then in pairs]

    still, slow, normal = moved(0.0), moved(0.01), moved(1.0)
    assert still[0] == still[1] == 0.0
    assert 0 < slow[0] < 0.05 * normal[0]
    assert still[2] > 0


def test_a_part_of_a_run_has_checkpoints_of_its_own_and_nobody_who_watches(store: CheckpointStore) -> None:
    seen, (_, interruption) = Seen(), interrupted_at(1)
    run = Run(FABRIC, store, (seen,), interruption, threading.Event()).part("fold-0")
    result = Trainer(LineTask(), settings(), run).run()
    assert whole(result) == whole(train(LineTask()))
    assert seen.all == []
    assert [path.name for path in store.folder.iterdir()] == ["fold-0"]
    assert run.interruption is interruption
