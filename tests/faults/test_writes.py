"""Every write of a command as a place to die, and as one that fails: see `faults.sweep`."""

import json
import sys
from pathlib import Path

import pytest
from faults.programs import printed_by
from faults.strace import strace_works
from faults.sweep import COMMANDS


@pytest.mark.skipif(sys.platform != "linux" or not strace_works(), reason="needs strace: apt-get install strace")
@pytest.mark.parametrize("how", ["kill", "stop", "fail"])
def test_nothing_is_lost_at_any_write(tmp_path: Path, how: str, exhaustive: bool) -> None:
    if how == "stop" and not exhaustive:
        pytest.skip("takes seconds for each point; the tests of training and of the pipeline try Ctrl-C: make faults")
    commands = [command.name for command in COMMANDS] if exhaustive else ["ingest"]
    points = {"kill": 300, "stop": 60, "fail": 60} if exhaustive else {"kill": 2, "fail": 2}
    flags = ("--points", str(points[how]), "--jobs", "2", "--commands", *commands)
    found = [json.loads(line) for line in printed_by("faults.sweep", str(tmp_path), how, *flags).splitlines()]
    assert sorted(one["command"] for one in found) == sorted(commands)
    assert [one["wrong"] for one in found if one["wrong"]] == []
    assert all(one["refused" if how == "fail" else "killed"] > 0 for one in found)
