"""Disks that fill up under commands and the pipeline: see `faults.disk`."""

import json
from pathlib import Path

import pytest
from faults.disk import mount_works
from faults.programs import printed_by
from faults.sweep import COMMANDS

pytestmark = pytest.mark.skipif(not mount_works(), reason="needs Linux, and root to mount a small disk")


def found_by(module: str, *arguments: str) -> list[dict[str, object]]:
    """What a program of this folder finds, in a mount namespace of its own."""
    printed = printed_by(module, *arguments, within=("unshare", "-m"))
    return [json.loads(line) for line in printed.splitlines()]


def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path: Path, exhaustive: bool) -> None:
    chosen = [command.name for command in COMMANDS] if exhaustive else ["ingest"]
    found = found_by("faults.disk", str(tmp_path), "--points", "20" if exhaustive else "1", "--commands", *chosen)
    assert sorted(str(one["command"]) for one in found) == sorted(chosen)
    assert [one["wrong"] for one in found if one["wrong"]] == []
    assert all(one["refused"] for one in found)


def test_the_pipeline_goes_on_when_there_is_room_again(tmp_path: Path, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("takes many minutes: make faults")
    (found,) = found_by("faults.disk", str(tmp_path), "--commands", "--pipeline", "6")
    assert found["wrong"] == []


@pytest.mark.parametrize("kind", ["size", "handles", "read-only"])
def test_limits_are_sentences_and_lose_nothing(tmp_path: Path, kind: str, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("takes many minutes: make faults")
    found = found_by("faults.limited", str(tmp_path), "--points", "10", "--kinds", kind)
    assert [one["wrong"] for one in found if one["wrong"]] == []
