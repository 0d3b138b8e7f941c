"""Long and much: what is repeated leaves nothing behind, see `faults.soak`."""

import json
from pathlib import Path

import pytest
from faults.programs import printed_by
from faults.soak import KINDS, soak

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
    found = json.loads(printed_by("faults.soak", kind, *flags, SOAK_RECORDINGS="5000"))
    assert found["uneven"] == []
    memory = found["usage"]["memory"]
    assert memory["last"] - memory["first"] < MOST_OF_ALL


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
