"""Interleaved work in separate processes, without warm-up rounds."""

import os
from pathlib import Path

import pytest

from benchmarks.turns import Turn, in_turn

WORKER = """
import time
from pathlib import Path
from benchmarks.turns import serve
count = [0]
def work():
    count[0] += 1
    time.sleep(0.01)
    Path("{name}").write_text(str(count[0]))
serve(work)
"""


def test_every_worker_does_its_share_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[3]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(root)]))
    for name in ("one", "two"):
        (tmp_path / f"worker_{name}.py").write_text(WORKER.format(name=name))
    turns = {name: Turn(f"worker_{name}") for name in ("one", "two")}
    seconds = in_turn(turns, rounds=3, times=2, first=4)
    assert {name: len(found) for name, found in seconds.items()} == {"one": 3, "two": 3}
    assert min(min(found) for found in seconds.values()) >= 0.02
    assert [(tmp_path / name).read_text() for name in ("one", "two")] == ["10", "10"]
    assert all(turn.process.returncode == 0 for turn in turns.values())
