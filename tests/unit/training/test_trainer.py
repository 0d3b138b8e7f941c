"""The loop on a tiny task: exact resume, best weights, patience, cancel, interruption, budget, checkpoints."""

import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.errors import ArtifactError, DistillError, Interrupted
from distill.training import rollback as rollback_module
from distill.training import trainer as trainer_module
from distill.training.checkpoints import CheckpointStore
from distill.training.console import ToConsole
from distill.training.events import Epoch, Step, WatchMetrics
from distill.training.optimizer import learning_rate_at
from distill.training.run import tracked_run
from distill.training.task import budget_seconds
from distill.training.trainer import Trainer, is_better, is_falling
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
    whole,
)


class Poisoned(LineTask):
    """Task whose NaN losses depend on the data, not on the number of calls."""

    def batches(self, epoch: int, skip: int) -> Any:
        for number, batch in enumerate(super().batches(epoch, skip), start=epoch * self.steps_per_epoch + skip):
            yield batch * torch.nan if number in {9, 10, 11, 15, 16, 17, 21} else batch


@pytest.mark.parametrize("stop_at", [1, 17])
def test_a_run_stopped_at_any_step_ends_with_the_same_bytes(store: CheckpointStore, stop_at: int) -> None:
    expected = train(LineTask())
    seen, interruption = interrupted_at(stop_at)
    with pytest.raises(Interrupted, match=f"saved after step {stop_at} of 24") as caught:
        train(LineTask(), seen, store, interruption)
    assert caught.value.exit_code == 130
    assert whole(train(LineTask(), store=store)) == whole(expected)


@pytest.mark.usefixtures("save_always")
@pytest.mark.parametrize(
    ("kind", "kill_at"),
    [(LineTask, 22), *((Poisoned, number) for number in (9, 10, 12, 16, 22))],
)
def test_a_killed_run_resumes_from_its_last_checkpoint(
    store: CheckpointStore, kind: type[LineTask], kill_at: int, request: pytest.FixtureRequest
) -> None:
    """Also through rollbacks and skipped steps."""
    if kind is Poisoned:
        request.getfixturevalue("watchful")
    expected = train(kind())
    counts = expected.counts["rollbacks"], expected.counts["skipped_steps"]
    assert counts == ((2, 5) if kind is Poisoned else (0, 0))
    with pytest.raises(MemoryError):
        train(kind(), at_step(kill_at, kill), store)
    assert whole(train(kind(), store=store)) == whole(expected)
    assert len(list(store.folder.iterdir())) == len(store.paths) <= 5


@pytest.mark.usefixtures("save_always")
def test_five_checkpoints_are_kept_and_training_goes_on_from_any_and_past_damaged_ones(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture
) -> None:
    expected = whole(train(LineTask()))
    with pytest.raises(MemoryError):
        train(LineTask(), at_step(20, kill), store)
    names = [f"step_{step:09d}.safetensors" for step in range(15, 20)]
    assert [path.name for path in store.paths] == names
    for path in store.paths[3:]:  # go back to the third
        path.unlink()
    torn = store.paths[-1]
    changed = bytearray(torn.read_bytes())
    changed[-3] ^= 1  # a bit of a weight
    torn.write_bytes(changed)
    seen = Seen()
    assert whole(train(LineTask(), seen, store)) == expected
    assert seen.of(Step)[0].step == 17
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning == (
        f"{torn}: expected a checkpoint to resume from, found a damaged file (its contents are not those that were "
        "written); it is deleted, and training goes on from the one before, after 16 steps"
    )


def test_where_all_checkpoints_are_damaged_it_says_what_to_delete(store: CheckpointStore) -> None:
    store.folder.mkdir()
    for step in (1, 2):
        (store.folder / f"step_{step}.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(
        ArtifactError, match=r"step_2\.safetensors: expected a checkpoint .*before it; delete .*run to s"
    ):
        train(LineTask(), store=store)
    assert len(store.paths) == 2


def test_the_best_epoch_wins_and_is_what_the_model_holds() -> None:
    task = LineTask()
    result = train(task, epochs=12, learning_rate=0.3)
    losses = [row["val_loss"] for row in result.history]
    assert result.best_epoch == 1 + losses.index(min(losses))
    task.model.eval()
    assert task.validate()["val_loss"] == pytest.approx(min(losses), abs=1e-6)


def test_the_average_of_the_weights_is_validated_and_kept_and_that_of_a_slow_version() -> None:
    plain = train(LineTask(), average=0.0, epochs=2)
    task, slow, steps = LineTask(), dict[str, torch.Tensor](), []

    def follow(event: Any) -> None:
        if isinstance(event, Step):
            steps.append(event)
            decay = min(0.9, (1 + len(steps)) / (4 + len(steps)))
            for name, value in task.model.state_dict().items():
                slow[name] = decay * slow[name] + (1 - decay) * value

    slow |= {name: value.clone() for name, value in task.model.state_dict().items()}
    result = train(task, Seen(follow), epochs=2, learning_rate=0.05)
    for name, value in plain.last_tensors.items():
        assert torch.equal(value, result.last_tensors[name])  # training itself is the same
        assert torch.allclose(result.best_tensors[name], slow[name], atol=1e-6) or result.best_epoch == 1
        assert not torch.equal(result.best_tensors[name], value)


def test_parts_learn_at_their_share_of_the_rate() -> None:
    def moved(share: float) -> list[float]:
        task = LineTask()
        before = [value.detach().clone() for value in task.model.parameters()]
        task.model.load_state_dict(train(task, epochs=1, learning_rate_factors={"0.": share}).last_tensors)
        pairs: Any = zip(task.model.parameters(), before, strict=True)
        return [float((now.detach() - then).abs().max()) for now, then in pairs]

    still, slow, normal = moved(0.0), moved(0.01), moved(1.0)
    assert still[0] == still[1] == 0.0 < still[2]
    assert 0 < slow[0] < 0.05 * normal[0]


def test_the_schedule_warms_up_and_ends_at_a_twentieth() -> None:
    rates = [learning_rate_at(step, 100, settings(warmup_steps=10, learning_rate=1.0)) for step in range(101)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.05)


START = [4.0, 4.0, 4.0, 4.0]
LUCKY = [3.0, 5.0, 3.2, 4.6]  # lower by .05, which is chance
BETTER = [3.9, 3.8, 3.9, 3.9]  # lower by .125, everywhere
WORSE = [4.5, 4.5, 4.5, 4.5]


class PartsTask(LineTask):
    """A task whose held-out losses, of four parts, are the next of `to_come`."""

    def __init__(self, to_come: list[list[float]]) -> None:
        super().__init__(probes=STEADY)
        self.to_come = to_come

    def validate(self) -> dict[str, float]:
        self.held_out_losses = self.to_come.pop(0)
        return {"val_loss": sum(self.held_out_losses) / len(self.held_out_losses)}


@pytest.mark.usefixtures("save_always")
@pytest.mark.parametrize(("first", "second", "best_epoch"), [(LUCKY, LUCKY, 0), (LUCKY, BETTER, 2), (WORSE, WORSE, 0)])
def test_initial_weights_are_kept_where_training_gains_no_more_than_chance(
    store: CheckpointStore, first: list[float], second: list[float], best_epoch: int
) -> None:
    parts, changes = [START, first, second, START], {"epochs": 3, "validate_initial": True}
    task = PartsTask([*parts])
    initial = {key: value.clone() for key, value in task.model.state_dict().items()}
    expected = train(task, **changes)
    assert expected.best_epoch == best_epoch
    assert expected.best_metrics["val_loss"] == pytest.approx(3.875 if best_epoch else 4.0)
    assert (expected.best_metrics == expected.start_metrics) is (best_epoch == 0)
    kept = "no epoch of 3 was better on held-out recordings by enough, so the weights from before training are kept"
    assert expected.remarks == [kept] * (best_epoch == 0)
    rows = [(row["epoch"], row["val_loss"], row["is_kept"]) for row in expected.rows]
    losses = [sum(losses) / 4 for losses in parts]
    assert rows == [(epoch, loss, int(epoch == best_epoch)) for epoch, loss in enumerate(losses)]
    assert all(torch.equal(value, initial[key]) for key, value in expected.best_tensors.items()) is (best_epoch == 0)
    seen, interruption = interrupted_at(5)
    with pytest.raises(Interrupted):
        train(PartsTask(parts[:2]), seen, store, interruption, **changes)
    again = PartsTask(parts[2:])
    assert whole(train(again, store=store, **changes)) == whole(expected)
    assert all(torch.equal(value, expected.best_tensors[key]) for key, value in again.model.state_dict().items())


@pytest.mark.parametrize(
    ("parts", "least_gain", "epochs", "best_epoch"),
    [
        ([BETTER, LUCKY, WORSE], 0.03, 3, 1),  # the first epoch lowers the loss from 4 to 3.875, by .031
        ([BETTER, LUCKY, WORSE], 0.04, 1, 0),
        ([WORSE, WORSE, BETTER], 0.0, 3, 3),
    ],
)
def test_training_is_left_out_where_its_first_epoch_gains_less_than_it_must(
    parts: list[list[float]], least_gain: float, epochs: int, best_epoch: int
) -> None:
    result = train(PartsTask([START, *parts]), epochs=3, validate_initial=True, least_gain=least_gain)
    assert (len(result.history), result.best_epoch) == (epochs, best_epoch)
    left_out = (
        "training is left out, as its first epoch lowered the held-out loss by less than 0.04 of it (least_gain); with "
        "a number of epochs it is not"
    )
    assert (left_out in result.remarks) is (epochs == 1)


@pytest.mark.parametrize(
    ("losses", "start", "expected"),
    [
        ([1.0], [1.1], True),
        ([1.0], [1.0], False),
        ([0.9, 0.9], [1.0, 1.0], True),
        ([0.5, 1.1], [1.0, 1.0], False),  # gains of .5 and -.1: .2, and a standard error of .3
        ([0.5, 0.9], [1.0, 1.0], True),  # .5 and .1: .3 and .2
    ],
)
def test_better_is_by_more_than_the_standard_error(losses: list[float], start: list[float], expected: bool) -> None:
    assert is_better(losses, start) is expected


def test_patience_ends_training_after_epochs_without_a_notable_gain() -> None:
    """A gain of a thousandth renews patience; smaller ones do not, and are kept all the same."""
    held_out = [1.0, 0.9995, 0.9985, 0.998, 0.9979, 0.9978]
    result = train(LineTask(probes=STEADY, held_out=[*held_out, 9.0]), epochs=7, patience=3, average=0.0)
    assert (len(result.history), result.best_epoch) == (6, 6)
    changes: dict[str, Any] = {"epochs": 500, "learning_rate": 0.5, "patience": 3}
    risen = train(LineTask(probes=STEADY, held_out=[1.0] + [2.0] * 9), epochs=10, patience=2, average=0.0)
    assert (len(risen.history), risen.best_epoch) == (3, 1)
    assert len(train(LineTask(probes=[2.0] * 99), **changes).history) < 500


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2 - 0.1 * epoch for epoch in range(10)], True),
        ([1.0] * 9 + [0.999], False),
        ([1.0] * 5 + [0.5] * 5, False),
        ([2.0, 1.0, 0.5], False),  # too few epochs to say
    ],
)
def test_a_training_that_ends_while_the_loss_falls_says_so(losses: list[float], expected: bool) -> None:
    assert is_falling(losses) is expected
    result = train(LineTask(probes=STEADY, held_out=losses), epochs=len(losses), average=0.0)
    said = "held-out loss still fell when training ended: more epochs or minutes may be better"
    assert result.remarks == [said] * expected
    stopped = train(LineTask(probes=STEADY, held_out=[*losses, 9.0]), epochs=len(losses) + 1, patience=1)
    assert not stopped.counts["was_still_falling"]


def test_cancel_stops_within_a_step_and_keeps_the_best() -> None:
    cancel = threading.Event()
    seen = at_step(10, cancel.set)
    result = train(LineTask(), seen, cancel=cancel.is_set)
    assert seen.of(Step)[-1].step == 10
    assert [event.step for event in seen.of(WatchMetrics)] == [1, 2, 3, 4, 8, 10]  # also at its end
    assert result.counts["stopped_as_asked"]
    assert len(result.history) == 2
    assert result.best_metrics["val_loss"] == min(row["val_loss"] for row in result.history)
    assert seen.all[-1] is result
    assert result.remarks == ["stopped as asked after 2 epochs; the best weights so far are kept"]
    assert train(LineTask(), cancel=cancel.is_set).best_tensors  # asked before the first step


@pytest.mark.parametrize("is_watched", [True, False])
def test_a_stop_file_ends_the_training_that_it_is_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_watched: bool
) -> None:
    """One from before is for this training where somebody watches the command, and has removed an earlier one."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if is_watched:
        monkeypatch.setenv("DISTILL_STATUS", str(tmp_path))
    stop = tmp_path / "stop"
    stop.touch()
    with tracked_run("train_prior", {}, {}, {}, (), ToConsole, FABRIC, tmp_path, None) as run:
        assert stop.exists() is is_watched
        result = Trainer(LineTask(), settings(), replace(run, observers=[at_step(13, stop.touch)])).run()
        assert result.counts["stopped_as_asked"]
        assert len(result.history) == (1 if is_watched else 3)
    assert not stop.exists()  # it does not end the next training
    removed = "was there before training began and is removed; make it again to stop early"
    assert (removed in capsys.readouterr().err) is not is_watched


def test_a_signal_after_the_last_step_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows in the same command, such as training a prior, does not begin."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ended = pytest.raises(Interrupted, match="interrupted by SIGINT: training is done and saved; run the same command")
    with ended as caught, tracked_run("train_prior", {}, {}, {}, (), ToConsole, FABRIC, tmp_path, None) as run:
        Trainer(LineTask(), settings(), replace(run, observers=[])).run()
        signal.raise_signal(signal.SIGINT)
    assert caught.value.exit_code == 130


def test_epochs_report_means_of_their_steps() -> None:
    seen = Seen()
    train(LineTask(), seen, epochs=2)
    steps, epochs = seen.of(Step), seen.of(Epoch)
    mean = sum(step.losses["train_loss"] for step in steps[:4]) / 4
    assert epochs[0].metrics["train_loss"] == pytest.approx(mean)
    assert [epoch.epoch for epoch in epochs] == [0, 1]
    assert [step.step for step in steps] == list(range(1, 9))


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 69, 150])
def test_a_training_of_any_length_is_probed_four_times_and_at_its_end(steps: int) -> None:
    seen = Seen()
    train(LineTask(probes=STEADY, steps=steps), seen, epochs=1)
    probed = [event.step for event in seen.of(WatchMetrics)]
    assert len(set(probed)) == len(probed) >= min(4, steps)
    assert probed[-1] == steps
    assert len(probed) <= 8 + steps // 50


def test_probes_change_nothing_in_what_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    often = train(LineTask(probes=STEADY))
    monkeypatch.setattr(rollback_module, "WATCH_STEPS", 99)
    monkeypatch.setattr(rollback_module, "EARLY_PROBES", frozenset())
    assert whole(train(LineTask(probes=STEADY))) == whole(often)


def test_work_beside_the_checkpoints_is_kept_and_done_again_where_its_file_is_damaged(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.keep("fitted", {"a": torch.arange(3)}, {"gain": 0.1})
    tensors, values = store.kept("fitted")
    assert (tensors["a"].tolist(), values, store.paths) == ([0, 1, 2], {"gain": 0.1}, [])
    assert store.kept("other") == ({}, {})
    (store.folder / "fitted.safetensors").write_bytes(b"not a file of ours")
    assert store.kept("fitted") == ({}, {})
    assert "fitted.safetensors: expected earlier work, found a damaged file (" in caplog.text
    assert caplog.text.rstrip().endswith("; it is done again")
    assert not list(store.folder.iterdir())


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
    """A clock that a training which it sees moves by a minute a step."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def seen(self, then: Callable[[Any], object] = lambda _: None) -> Seen:
        def tick(event: Any) -> None:
            self.now += 60.0 * isinstance(event, Step)
            then(event)

        return Seen(tick)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(trainer_module, "time", clock)
    return clock


def test_a_budget_ends_training_with_its_best_weights_and_a_low_rate(clock: Clock) -> None:
    bounded, seen = {"budget_seconds": 600.0, "learning_rate": 0.1}, clock.seen()
    result = train(LineTask(), seen, **bounded)
    rates = seen.rates
    assert len(result.history) == 3  # the third epoch, of half the steps, is validated, too
    assert result.best_metrics["val_loss"] == min(row["val_loss"] for row in result.history)
    assert rates == pytest.approx([learning_rate_at(step, 24, settings(**bounded), step / 10) for step in range(10)])
    assert rates[-1] < 0.1 * max(rates)
    assert result.remarks == ["the budget of 10 minutes ended training in epoch 3; the best weights so far are kept"]
    assert result.counts["out_of_time"] == 1


def test_a_budget_counts_the_time_before_an_interruption(store: CheckpointStore, clock: Clock) -> None:
    bounded = {"budget_seconds": 600.0}
    seen, interruption = interrupted_at(7)
    later, nothing = clock.seen(), clock.seen()
    with pytest.raises(Interrupted):
        train(LineTask(), clock.seen(seen), store, interruption, **bounded)
    clock.now = 5.0  # of another computer
    result = train(LineTask(), later, store, **bounded)
    assert len(later.rates) == 3
    assert whole(result) == whole(train(LineTask(), clock.seen(), **bounded))
    assert whole(train(LineTask(), nothing, store, **bounded)) == whole(result)
    assert not nothing.rates


def test_a_budget_that_is_not_spent_says_nothing_and_one_that_ends_while_the_loss_falls_does(clock: Clock) -> None:
    seen = clock.seen()
    result = train(LineTask(), seen, budget_seconds=1440.0)
    assert (len(seen.rates), result.remarks, result.counts["out_of_time"]) == (24, [], 0)
    task = LineTask(probes=STEADY, held_out=[2 - 0.1 * epoch for epoch in range(10)])
    result = train(task, clock.seen(), epochs=99, budget_seconds=39 * 60.0, average=0.0)
    assert result.remarks == [
        "the budget of 39 minutes ended training in epoch 10; the best weights so far are kept",
        "held-out loss still fell when training ended: more epochs or minutes may be better",
    ]


def test_auto_bounds_trainings_of_days_alone() -> None:
    found = [budget_seconds("auto", 300 * 2475), budget_seconds("auto", 200_000), budget_seconds(90.0, 10)]
    assert found == [8 * 3600, 0, 5400]
