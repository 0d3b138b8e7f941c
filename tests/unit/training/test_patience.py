"""What ends a training early: patience, drops of the learning rate, a budget; and whether a gain is chance."""

from typing import Any

import pytest
import torch
from unit.training.line import STEADY, LineTask, Seen, settings, train, trainer

from distill.training import trainer as trainer_module
from distill.training.optimizer import learning_rate_at
from distill.training.patience import AUTO_STEPS, Budget, Patience, budget_seconds, is_better, is_falling


def test_patience_alone_drops_and_ends() -> None:
    patience = Patience(2, max_drops=1)
    ends: list[int] = []
    for epoch, loss in enumerate([5.0, 4.0, 4.5, 4.5, 4.5, 4.5, 4.5, 4.5]):
        if patience.is_out(epoch) and not patience.drop(epoch):
            ends.append(epoch)
            break
        if patience.is_best(loss):
            patience.keep(epoch, loss, [])
    assert (patience.best_epoch, patience.best_loss) == (1, 4.0)
    assert (patience.drops, patience.dropped_after, ends) == (1, 3, [6])
    assert not Patience(0).is_out(10_000)


def test_patience_first_lowers_the_rate_and_restarts_from_the_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: dict[str, Any] = {"epochs": 500, "learning_rate": 0.5, "patience": 3}
    without = train(LineTask(probes=[2.0] * 99), **changes)
    assert len(without.history) == without.best_epoch + 4 < 500
    seen, starts = Seen(), []
    task = LineTask(probes=[2.0] * 99)
    one = trainer(task, seen, **changes, drops=2)
    restart = one._restart

    def watch() -> None:
        restart()
        starts.append(one.optimizer_step.weights())
        assert all(torch.equal(value, one.best_tensors[key]) for key, value in starts[-1].items())
        assert not one.optimizer_step.optimizer.state

    monkeypatch.setattr(one, "_restart", watch)
    result = one.run()
    assert len(starts) == 2
    assert result.history[: len(without.history)] == without.history
    rates = seen.rates
    steady = [learning_rate_at(step, 500 * task.steps_per_epoch, settings(**changes)) for step in range(len(rates))]
    found = [round(rate / whole_rate, 6) for rate, whole_rate in zip(rates, steady, strict=True)]
    factors = [1.0, trainer_module.DROP_FACTOR, trainer_module.DROP_FACTOR**2]
    assert list(dict.fromkeys(found)) == pytest.approx(factors)
    assert found.index(found[-1]) > len(without.history) * task.steps_per_epoch
    assert len(result.history) - 1 - max(result.best_epoch, one.patience.dropped_after) == 3


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
    said = "training ended at its last epoch, 10, while held-out loss still fell: more epochs may be better"
    assert result.remarks == [said] * expected
    stopped = train(LineTask(probes=STEADY, held_out=[*losses, 9.0]), epochs=len(losses) + 1, patience=1)
    assert not stopped.was_still_falling


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


def test_auto_bounds_trainings_of_days_alone() -> None:
    assert budget_seconds("auto", 300 * 2475) == 8 * 3600
    assert budget_seconds("auto", AUTO_STEPS) == 0
    assert budget_seconds(90.0, 10) == 5400
    assert budget_seconds(0.0, 10**9) == 0


def test_a_budget_counts_on_from_what_was_spent() -> None:
    now = [100.0]
    budget = Budget(60.0, lambda: now[0])
    budget.start(15.0)
    now[0] += 30.0
    assert (budget.spent, budget.share) == (45.0, 0.75)
    now[0] += 60.0
    assert budget.share == 1.0
    assert Budget(0.0, lambda: now[0]).share == 0.0


def test_the_schedule_warms_up_and_ends_at_a_twentieth() -> None:
    rates = [learning_rate_at(step, 100, settings(warmup_steps=10, learning_rate=1.0)) for step in range(101)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.05)
