"""Model files that were damaged or forged."""

import json
import os
import subprocess
import sys
from pathlib import Path

from faults.programs import printed_by

TESTS = Path(__file__).parents[1]


def test_files_made_to_harm_are_refused_and_do_nothing(tmp_path: Path, exhaustive: bool) -> None:
    """Every field wrong, names that climb, sizes beyond reason, pickles; and random mutants of a model."""
    mutants = 10_000 if exhaustive else 400
    command = [sys.executable, "-m", "faults.hostile", str(tmp_path), str(mutants)]
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["files"] >= mutants + 200
    assert found["refused"] >= mutants / 2  # the others differ from a model in nothing that matters
    assert (found["loaded"], found["wrong"], found["seen"], found["reached"]) == ([], [], [], False)
    assert found["controls"] >= 3  # it would have seen
    assert found["slowest"] < 2


def test_forged_models_are_refused_or_used(tmp_path: Path, exhaustive: bool) -> None:
    """Numbers, types, shapes and settings that contradict each other, with hashes that fit."""
    count = 10_000 if exhaustive else 24
    found = json.loads(printed_by("faults.forged_models", str(tmp_path), str(count)))
    assert found["wrong"] == {}
    assert found["used"] + found["refused"] == count
    assert min(found["used"], found["refused"]) > count / 5
    assert found["slowest"] < 60
    assert found["megabytes"] < 2000
