"""Instrumented trainings, and trainings with injected faults."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.acceptance import __main__ as command
from benchmarks.acceptance import check
from benchmarks.acceptance.check import check_memory
from benchmarks.acceptance.codes import loss_of_the_demo
from benchmarks.acceptance.point import Figure, Point
from benchmarks.acceptance.trial import recover
from benchmarks.report import PAGE, RESULTS, read
from distill.errors import DistillError
from distill.execution import Execution
from distill.prior.data import PriorData
from unit.training.coded import FABRIC, data, repeating

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
    figures = recover(returning(), fault, 0, FABRIC, **{**SMALL, **changes})
    assert [figure.passed for figure in figures] == [True] * 3


def test_all_seven_points_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "LENGTH", 300)
    monkeypatch.setattr(check, "ROUNDS", 1)
    monkeypatch.setattr(check, "FAULTS", ("loss",))
    points = list(check_memory(returning(), 120, 0, FABRIC, **SMALL))
    assert sorted(point.number for point in points) == [1, 2, 3, 4, 5, 6, 7]
    by_number = {point.number: point for point in points}
    assert all(by_number[number].passed for number in (3, 6, 7))
    values = {figure.name: figure.value for point in points for figure in point.figures}
    assert (values["steps done"], values["rollbacks"], values["losses and weights that are not finite"]) == (120, 0, 0)
    assert values["changes of perplexity on record"] == 10  # after 1, 2, 3, 4, 8, 16, 32, 50, 100 and 120 steps
    assert math.isfinite(values["held-out perplexity with the memory ablated, less that with it"])
    assert values["probes"] == 5  # after 1, 2, 3 and 4 steps, and at the end
    assert values["share of time"] > 0
    assert 0.8 < values["mechanism"] < 0.9


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
    assert points[6].problem == "training stopped at step 100: expected gates that differ"


FOUND = [
    Point(3, "norm", (Figure("ratio", 1.2, "<", 3),)),
    Point(5, "retrieval", (Figure("top 1", 0.82, ">=", 0.8), Figure("top1, absent", math.nan, "<", 0.2))),
]


def test_a_memory_that_cannot_be_checked_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path / "none")]) == 2
    assert "none: expected a folder of recordings, found none; check" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--steps", "10", "a whole number from 1000 on"),
        ("--device", "gpu", "auto, cpu, cuda"),
        ("--device", "mps", "auto, cpu, cuda"),
    ],
)
def test_a_wrong_value_is_refused(flag: str, value: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main([flag, value])
    assert f"{flag}: expected {expected}, found {value}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"), [([], "cpu"), (["--device", "auto"], "auto"), (["--device", "cuda"], "cuda")]
)
def test_the_device_is_that_of_the_flag_or_of_the_environment(
    flags: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Execution] = []
    monkeypatch.setenv("DISTILL_DEVICE", "cpu")
    monkeypatch.setattr(command, "check_recordings", lambda *given: used.append(given[3]) or iter(FOUND))
    command.main(flags)
    assert used[0].device == expected


def test_a_missed_point_is_an_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "check_recordings", lambda *_: iter(FOUND))
    assert command.main(["--write", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "3 reached norm: ratio 1.2 (< 3)",
        "5 MISSED  retrieval: top 1 0.82 (>= 0.8); top1, absent nan (< 0.2)",
        "1/2; missed: 5",
    ]
    assert read(tmp_path / "memory_codes.csv").rows[0][::2] == ("motifs", f"{loss_of_the_demo():.6f}")
    assert read(tmp_path / "memory.csv").rows[1] == ("motifs", "5", "retrieval", "top 1", "0.82", ">= 0.8")
    assert command.main(["--json"]) == 1
    point = json.loads(capsys.readouterr().out)["points"][1]
    assert (point["passed"], point["figures"][1]["found"]) == (False, None)
    monkeypatch.setattr(command, "check_recordings", lambda *_: iter(FOUND[:1]))
    assert command.main([]) == 0


BOUNDS = {
    "relative difference of chunks of 8 to 256": "<= 0.0001",
    "share of time": "< 0.01",
    "probes": ">= 5",
    "ratio of norms at 1 and 2048 positions": "< 3",
    "steps done": "= 1000",
    "growth of memory in use over the second half": "<= 0.05",
    "changes of perplexity on record": ">= 20",
    "held-out perplexity with the memory ablated, less that with it": ">= 0",
    **dict.fromkeys(("mechanism", "in_situ", "top1", "ranked"), ">= 0.8"),
    **dict.fromkeys(("in_situ_blocks_ablated", "top1_blocks_ablated", "ranked_blocks_ablated"), ">= 0.8"),
    **dict.fromkeys(("top1_retrieval_ablated", "ranked_retrieval_ablated"), ">= 0"),
    **dict.fromkeys(("in_situ_absent", "top1_absent", "ranked_absent"), "< 0.2"),
    **dict.fromkeys(("top1_ablated above chance", "ranked_ablated above chance"), "<= 0.05"),
    "rollbacks until a permanent fault stops it": "= 3",
    "gradient at other shards": "= 0",
}


def test_the_last_measurement_is_of_the_codes_of_today() -> None:
    """A failure says: the codes of the demo changed, so measure again with `make check-memory ARGS="--write"`."""
    (day, loss), *_ = (row[1:] for row in read(RESULTS / "memory_codes.csv").rows if row[0] == "motifs")
    assert float(loss) == pytest.approx(loss_of_the_demo(), rel=0.001)
    assert f"last, on {day}:" in (PAGE.parent / "long-memory.md").read_text(encoding="utf-8")


def test_the_last_measurement_reached_all_seven_points_and_the_page_has_its_figures() -> None:
    rows = [row[1:] for row in read(RESULTS / "memory.csv").rows if row[0] == "motifs"]
    assert {point for point, *_ in rows} == set("1234567")
    for _, _, name, found, bound in rows:
        sign, value = bound.split()
        assert Figure(name, float(found), sign, float(value)).passed, name
    kept = {name: (found, bound) for _, _, name, found, bound in rows}
    assert {name: kept[name][1] for name in BOUNDS} == BOUNDS
    page = (PAGE.parent / "long-memory.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\d) \| .* \| `(.+)` \| (.+) \| (.+) \|$", page, flags=re.MULTILINE)
    assert {point for point, *_ in shown} == set("1234567")
    assert all(kept[name] == (found, bound) for _, name, found, bound in shown)
