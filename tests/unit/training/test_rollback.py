"""Spikes and rollbacks: what is one, and that a training goes back to the same bits and goes on with other data."""

import math

import pytest
import torch
from torch import Tensor, nn

from distill.errors import DistillError
from distill.training.events import RollbackEvent, Step, TrainingResult, WatchMetrics
from distill.training.optimizer import learning_rate_at
from distill.training.rollback import SpikeDetector
from unit.training.line import STEADY, LineTask, Seen, settings, tensors_of, train, trainer


def counts(result: TrainingResult) -> tuple[float, ...]:
    """Rollbacks, skipped steps, and whether it diverged."""
    return tuple(result.counts[name] for name in ("rollbacks", "skipped_steps", "diverged"))


LATE = 10_000  # steps, from which the threshold is the lowest
FALLING = [200 * 0.9**step for step in range(60)]


def average(values: list[float]) -> float:
    """The detector's moving average of values without a spike."""
    found = values[0]
    for value in values[1:]:
        found += 0.5 * (value - found)
    return found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        *(([100.0, 100.0, last], [False, False, last > 105]) for last in (106.0, 105.1, 105.0, 104.0)),
        ([math.nan], [True]),
        ([math.inf], [True]),
        ([*FALLING, 1.06 * average(FALLING)], [False] * 60 + [True]),
        ([*FALLING, 1.04 * average(FALLING)], [False] * 61),
        ([0.0, 0.0, 0.0, 0.3, 0.3], [False] * 5),  # silence
        ([100.0, 100.0, 150.0, 150.0, math.nan, 104.0], [False, False, True, True, True, False]),  # no spike counts
    ],
)
def test_more_than_five_percent_above_is_a_spike(values: list[float], expected: list[bool]) -> None:
    detector = SpikeDetector()
    assert [detector.observe(LATE, "loss", value).is_spike for value in values] == expected


@pytest.mark.parametrize(
    ("step", "changes", "allowed"),
    [
        *((step, [], allowed) for step, allowed in ((3, 2.5), (16, 7.5 / 16), (50, 0.15), (150, 0.05), (LATE, 0.05))),
        (LATE, [-0.1, 0.12, -0.08, 0.1, -0.11, 0.12, -0.1, 0.09], 0.1748),  # changes of 12 % are common here
    ],
)
def test_a_training_that_has_just_begun_or_is_noisy_may_rise_more(
    step: int, changes: list[float], allowed: float
) -> None:
    found = SpikeDetector(100.0, 2, changes).observe(step, "loss", 140.0)
    assert found == WatchMetrics(step, "loss", 140.0, 0.4, pytest.approx(allowed, rel=0.05), allowed < 0.4, {})


@pytest.mark.usefixtures("watchful")
def test_losses_that_are_not_finite_three_times_in_a_row_are_rolled_back_and_their_data_skipped() -> None:
    """Steps 9 to 12 leave no trace: as if training had read the data of 1 to 8 and then that of 13 on."""
    kept: dict[int, dict[str, Tensor]] = {}
    seen = Seen(lambda event: kept.update({event.step: tensors_of(one)}) if isinstance(event, Step) else None)
    one = trainer(LineTask(frozenset({10, 11, 12}), probes=STEADY), seen)
    result = one.run()
    assert counts(result) == (1, 2, 0)
    assert result.remarks[0] == (
        "warning: training was rolled back 1 times; lower the learning rate (the last time at step 12: found train_loss "
        "nan, gradient_norm nan, 3 steps in a row)"
    )
    assert [(event.step, event.lost_steps) for event in seen.of(RollbackEvent)] == [(12, 2)]
    assert len(result.history) == 6
    expected = [learning_rate_at(step, 24, settings()) for step in [*range(10), 9, 9, *range(8, 20)]]
    assert seen.rates == pytest.approx(expected)
    assert all(torch.isfinite(value).all() for value in result.best_tensors.values())
    assert kept[12].keys() == kept[8].keys()
    assert all(torch.equal(value, kept[8][key]) for key, value in kept[12].items())
    assert any(not torch.equal(value, kept[8][key]) for key, value in kept[9].items())


@pytest.mark.usefixtures("watchful")
def test_a_spike_is_rolled_back_and_the_fourth_ends_training_with_the_best_weights() -> None:
    seen = Seen()
    task = LineTask(probes=[100.0, 100.0, 100.0, 106.0, 104.0, 120.0, 130.0, 140.0])
    result = train(task, seen, epochs=60)
    assert [(event.step, event.is_last) for event in seen.of(RollbackEvent)] == [
        *((8, False), (12, False), (14, False)),
        (16, True),
    ]
    assert seen.of(RollbackEvent)[-1].message.startswith(
        "warning: step 16: training ends with its best weights, after 3 rollbacks: found a perplexity of 140"
    )
    assert counts(result) == (3, 0, 1)
    assert result.remarks[0].startswith(
        "warning: training diverged again after three rollbacks and ended with the best weights before; lower the "
        "learning rate (at step 16: found a perplexity of 140 on training data"
    )
    losses = [row["val_loss"] for row in result.history]
    assert result.best_metrics["val_loss"] == min(losses)
    assert len(losses) == 3


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (12, r"after step 12: expected finite, falling losses, found train_loss nan.* after 3 rollbacks; lower"),
        (2, r"after step 2: expected finite losses in the first epoch, found none; lower learning_rate"),
    ],
)
def test_losses_that_are_never_finite_raise(steps: int, message: str) -> None:
    with pytest.raises(DistillError, match=message):
        train(LineTask(poison=frozenset(range(1, 40)), steps=steps))


def test_a_spike_in_a_short_training_is_found_early_and_announced_at_once() -> None:
    seen = Seen()
    task = LineTask(probes=[100.0, 99.0, 98.5, 98.0, 200.0, *[98.0] * 9], steps=12)
    assert counts(train(task, seen, epochs=1)) == (1, 0, 0)
    order = [(type(event), event.step) for event in seen.all[8:15]]
    watch, step = WatchMetrics, Step
    assert order == [(step, 5), (step, 6), (step, 7), (watch, 8), (RollbackEvent, 8), (step, 8), (step, 9)]
    found = seen.all[11]
    assert (found.figure, found.value, found.threshold, found.is_spike) == ("perplexity", 200.0, 7.5 / 8, True)
    assert found.change == pytest.approx(200 / 98.5 - 1)
    assert seen.all[12] == RollbackEvent(
        *(8, 4, 1, False),
        "found a perplexity of 200 on training data, 103% above its moving average (allowed 94%)",
    )
    assert seen.all[12].message.startswith(
        "warning: step 8: training goes back 4 steps, rollback 1: found a perplexity"
    )


def test_a_single_step_that_is_not_finite_is_skipped() -> None:
    kept: dict[int, dict[str, Tensor]] = {}
    seen = Seen(lambda event: kept.update({event.step: tensors_of(one)}) if isinstance(event, Step) else None)
    one = trainer(LineTask(frozenset({6, 9, 10}), probes=STEADY), seen)
    result = one.run()
    assert counts(result) == (0, 3, 0)
    for skipped in (6, 9, 10):
        assert all(torch.equal(value, kept[skipped - 1][key]) for key, value in kept[skipped].items())
    assert any(not torch.equal(value, kept[6][key]) for key, value in kept[7].items())
    assert seen.rates == pytest.approx(
        [learning_rate_at(step, 24, settings()) for step in [*range(6), 5, 6, 7, 7, 7, *range(8, 21)]]
    )
    assert result.remarks == [
        "3 steps whose loss or gradient was not finite were skipped (the last one at step 10: found train_loss nan, "
        "gradient_norm nan)"
    ]


def test_a_step_that_spoils_a_moving_average_is_rolled_back_at_once() -> None:
    class Spoiling(LineTask):
        def __init__(self) -> None:
            super().__init__(frozenset({6}), probes=STEADY)
            self.model.register_buffer("mean", torch.zeros(2))

        def losses(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
            found = super().losses(model, batch)
            self.model.get_buffer("mean").lerp_(found["train_loss"].detach().expand(2), 0.1)
            return found

    seen = Seen()
    result = train(Spoiling(), seen)
    assert counts(result) == (1, 0, 0)
    assert [event.step for event in seen.of(RollbackEvent)] == [6]
    assert all(value.isfinite().all() for value in result.last_tensors.values())
