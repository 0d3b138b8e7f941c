"""`distill kit` as people type it."""

import json
from pathlib import Path

import pytest
from unit.command import CommandLine
from unit.tiny import write_prior_model

QUICK = ("--per-label", "2", "--seconds", "0.2", "--seed", "3")


@pytest.fixture
def run(shell: CommandLine) -> CommandLine:
    """The shell, in a folder with a model."""
    write_prior_model(Path("m.distill"), labels=["drum/kick", "bell"])
    return shell


def test_a_kit_is_made_and_replaced_with_the_flag(run: CommandLine) -> None:
    done = run("kit", "m.distill", "--out", "kit", *QUICK)
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[:3] == ["C1    24  2 x bell", "C2    36  2 x drum/kick", "kit  4 sounds on 2 keys"]
    assert lines[3].startswith("verdicts ")
    assert lines[4] == "seed 3"
    assert sorted(path.name for path in Path("kit").iterdir()) == [
        *("kit.dspreset", "kit.json", "kit.png", "kit.sfz", "kit.txt", "samples")
    ]
    assert sorted(path.name for path in Path().iterdir()) == ["kit", "m.distill"]
    assert run("kit", "m.distill", "--out", "kit", *QUICK, "--label", "bell", "--replace").status == 0
    assert sorted(path.name for path in Path("kit/samples").iterdir()) == ["024_bell_01.wav", "024_bell_02.wav"]


def test_json_is_one_document_and_formats_are_chosen(run: CommandLine) -> None:
    done = run("kit", "m.distill", "--out", "kit", *QUICK, "--format", " sfz", "--label", "kick", "--json")
    report = json.loads(done.out)
    assert (report["folder"], report["settings"]["seed"]) == ("kit", 3)
    assert [(group["label"], group["key"], group["note"]) for group in report["groups"]] == [("drum/kick", 36, "C2")]
    assert {key: value for key, value in report.items() if key != "folder"} == json.loads(
        Path("kit/kit.json").read_text(encoding="utf-8")
    )
    assert not Path("kit/kit.dspreset").exists()


def test_places_that_stay_empty_are_warned_of(run: CommandLine) -> None:
    """With a sure choice of every code, a draw repeats another until all attempts are spent."""
    done = run(
        "kit", "m.distill", "--out", "kit", *QUICK[2:], "--per-label", "9", "--label", "bell", "--temperature", "0.01"
    )
    assert done.status == 0, done.err
    report = json.loads(Path("kit/kit.json").read_text(encoding="utf-8"))
    assert report["missing"] > 0
    kept = 9 - report["missing"]
    line = f"bell: {kept} of 9 sounds; refused draws: "
    assert f"distill: warning: {line}" in done.err
    assert f"missing     {line}" in Path("kit/kit.txt").read_text(encoding="utf-8")
