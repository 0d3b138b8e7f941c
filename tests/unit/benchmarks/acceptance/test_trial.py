"""Instrumented trainings, and trainings with injected faults."""

import math
from typing import Any

import pytest
from unit.training.coded import FABRIC, data, repeating

from benchmarks.acceptance import check, trial
from benchmarks.acceptance.check import check_memory
from benchmarks.acceptance.trial import Recovery, Trial, recover
from distill.errors import DistillError
from distill.prior.data import PriorData
from distill.prior.memory import task as memory_task

SIZES = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "depth_layers": 1}
SMALL: dict[str, Any] = {**SIZES, "context_seconds": 0.4, "learning_rate": 3e-3}


def returning() -> PriorData:
    """Recordings of random codes that repeat."""
    recordings = repeating(0, 14, rounds=4)
    return data(recordings[:10], recordings[10:])


def test_what_a_trial_says_of_itself() -> None:
    losses = [*[4.0] * 100, *[2.0] * 900]
    seconds = [1.0] * 1000
    seconds[49::50] = [1.5] * 20
    seconds[999] = 11.5
    seen = Trial(1000, losses, seconds, [*[50.0] * 100, *[100.0] * 450, *[110.0] * 450])
    assert seen.fall == 0.5
    assert seen.growth == pytest.approx(0.1)
    assert seen.probe_share == pytest.approx(10 / sum(seconds))
    short = Trial(1000, [1.0] * 60, [1.0] * 60, [1.0] * 60)
    assert not short.is_whole
    assert math.isnan(short.growth)
    assert math.isnan(short.probe_share)


# A shallow network that learns fast recovers from noise in its weights before anything looks at it.
DEEPER_AND_SLOWER = {"num_layers": 3, "learning_rate": 3e-4}


@pytest.mark.parametrize(("fault", "changes"), [("learning rate", {}), ("weights", DEEPER_AND_SLOWER)])
def test_a_fault_is_found_undone_and_not_met_again(fault: str, changes: dict[str, Any]) -> None:
    found = recover(returning(), fault, 0, FABRIC, **{**SMALL, **changes})
    assert found == Recovery(fault, found.looks, True, True)
    assert found.passed


def test_no_rollback_is_reported_where_there_was_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "RATE_TIMES", 1.0)
    assert not recover(returning(), "learning rate", 0, FABRIC, **SMALL).passed


def test_all_seven_points_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "LENGTH", 300)
    monkeypatch.setattr(check, "ROUNDS", 1)
    monkeypatch.setattr(check, "FAULTS", ("loss",))
    for module in (trial, memory_task):
        monkeypatch.setattr(module, "PROBE_STEPS", 100)
    points = list(check_memory(returning(), 120, 0, FABRIC, **SMALL))
    assert sorted(point.number for point in points) == [1, 2, 3, 4, 5, 6, 7]
    by_number = {point.number: point for point in points}
    assert all(by_number[number].passed for number in (3, 6, 7))
    assert "120 done, none undone or missing, all finite" in by_number[4].found
    assert not by_number[2].found.startswith("0.00%")
    assert "mechanism 0.8" in by_number[5].found


def test_dead_gates_miss_their_points_and_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*_: Any, **__: Any) -> None:
        raise DistillError("training stopped at step 100: expected gates that differ")

    monkeypatch.setattr(check, "LENGTH", 64)
    monkeypatch.setattr(check, "ROUNDS", 1)
    monkeypatch.setattr(check, "FAULTS", ())
    monkeypatch.setattr(check, "rollbacks_of_a_lasting_fault", lambda *_, **__: (3, True))
    monkeypatch.setattr(check, "try_training", dead)
    points = list(check_memory(returning(), 1000, 0, FABRIC, **SMALL))
    assert [(point.number, point.passed) for point in points[4:]] == [(4, False), (2, False), (5, False)]
    assert points[6].found == "training stopped at step 100: expected gates that differ"
