"""Long and much: what is repeated leaves nothing behind, see `faults.soak`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults.soak import KINDS, soak

TESTS = Path(__file__).parents[1]
MOST_MEMORY = 256 << 10  # bytes a repetition, by which memory may seem to grow in so few
LONG = {  # repetitions
    **{"generate": 1000, "take": 60, "load": 500, "encode": 1000, "vary": 200, "kit": 200},
    **{"train": 1000, "train-api": 100, "ingest": 5, "command": 100},
}
MOST_OF_ALL = 64 << 20  # bytes, by which memory may grow in all of them: MLflow keeps something of its last 1024 runs


@pytest.mark.parametrize("kind", ["generate", "load", "encode"])
def test_a_few_repetitions_leave_nothing_behind(tmp_path: Path, kind: str) -> None:
    course = soak(kind, 12, 1, tmp_path)
    assert course.uneven() == []
    assert course.slope("objects") <= 1  # what the course itself notes
    assert course.slope("memory") < MOST_MEMORY
    assert course.slope("files") == 0


@pytest.mark.parametrize("kind", LONG)
def test_many_repetitions_leave_nothing_behind(kind: str, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("takes an hour: make faults")
    flags = ["--count", str(LONG[kind]), "--every", str(max(1, LONG[kind] // 100)), "--json"]
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_", "DISTILL_"))}
    done = subprocess.run(
        [sys.executable, "-m", "faults.soak", kind, *flags],
        env={**environment, "PYTHONPATH": paths, "SOAK_RECORDINGS": "5000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    found = json.loads(done.stdout)
    assert found["uneven"] == []
    memory = found["usage"]["memory"]
    assert memory["last"] - memory["first"] < MOST_OF_ALL


def test_the_page_at_work_leaves_nothing_behind(exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("takes two hours: make faults")
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    done = subprocess.run(
        [sys.executable, "-m", "faults.soak_page", "--minutes", "120"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    found = json.loads(done.stdout.splitlines()[-1])["usage"]
    assert found["children"]["high"] == 0
    assert found["temporary"]["high"] == 0
    assert found["memory"]["last"] - found["memory"]["first"] < MOST_OF_ALL


def test_a_leak_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measure itself: an open file and an object more after each repetition."""
    kept: list[object] = []

    def leaks(folder: Path) -> object:
        (folder / "a").touch()
        return lambda _: kept.append((folder / "a").open())

    monkeypatch.setitem(KINDS, "leaks", leaks)
    course = soak("leaks", 12, 1, tmp_path)
    for file in kept:
        file.close()  # type: ignore[attr-defined]
    assert "handles" in course.uneven()
    assert course.slope("objects") > 1
