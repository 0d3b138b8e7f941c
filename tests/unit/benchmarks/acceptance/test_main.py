"""`make check-memory`: what is printed, and the exit status."""

import json
from pathlib import Path

import pytest

from benchmarks.acceptance import __main__ as command
from benchmarks.acceptance.check import Point

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
