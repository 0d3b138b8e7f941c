"""Instrumented trainings, and trainings with injected faults."""

import json
from pathlib import Path
from typing import Any

import pytest
from unit.training.coded import FABRIC, data, repeating

from benchmarks.acceptance import __main__ as command
from benchmarks.acceptance import check, trial
from benchmarks.acceptance.check import Point, check_memory
from benchmarks.acceptance.trial import Recovery, recover
from distill.errors import DistillError
from distill.prior.data import PriorData
from distill.prior.memory import task as memory_task

SIZES = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "depth_layers": 1}
SMALL: dict[str, Any] = {**SIZES, "context_seconds": 0.4, "learning_rate": 3e-3}


def returning() -> PriorData:
    """Recordings of random codes that repeat."""
    recordings = repeating(0, 14, rounds=4)
    return data(recordings[:10], recordings[10:])


# A shallow network that learns fast recovers from noise in its weights before anything looks at it.
DEEPER_AND_SLOWER = {"num_layers": 3, "learning_rate": 3e-4}


@pytest.mark.parametrize(("fault", "changes"), [("learning rate", {}), ("weights", DEEPER_AND_SLOWER)])
def test_a_fault_is_found_undone_and_not_met_again(fault: str, changes: dict[str, Any]) -> None:
    found = recover(returning(), fault, 0, FABRIC, **{**SMALL, **changes})
    assert found == Recovery(fault, found.looks, True, True)
    assert found.passed


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


FOUND = [Point(3, "norm", True, "as it should be"), Point(5, "retrieval", False, "nothing found")]


def test_a_memory_that_cannot_be_checked_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path / "none")]) == 2
    assert "none: expected a folder of recordings, found none; check" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        command.main(["--steps", "10"])
    assert "--steps: expected a whole number from 1000 on, found 10" in capsys.readouterr().err


def test_a_missed_point_is_an_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "check_recordings", lambda *_: iter(FOUND))
    assert command.main([]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == ["5 MISSED  retrieval: nothing found", "1/2; missed: 5"]
    assert command.main(["--json"]) == 1
    assert json.loads(capsys.readouterr().out)["points"][1]["passed"] is False
    monkeypatch.setattr(command, "check_recordings", lambda *_: iter(FOUND[:1]))
    assert command.main([]) == 0
