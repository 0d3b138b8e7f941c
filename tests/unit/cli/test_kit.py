"""`distill kit` as people type it."""

import json
from pathlib import Path

from unit.command import CommandLine
from unit.tiny import write_prior_model

KIT = ("kit", "m.distill", "--out", "kit", "--seconds", "0.2", "--seed", "3")


def test_a_kit_is_made_replaced_with_the_flag_and_warns_of_places_that_stay_empty(shell: CommandLine) -> None:
    write_prior_model(Path("m.distill"), labels=["drum/kick", "bell"])
    done = shell(*KIT, "--per-label", "2")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[:3] == ["C1    24  2 x bell", "C2    36  2 x drum/kick", "kit  4 sounds on 2 keys"]
    assert (lines[3].partition(" ")[0], lines[4]) == ("verdicts", "seed 3")
    made = ["kit.dspreset", "kit.json", "kit.png", "kit.sfz", "kit.txt", "samples"]
    assert sorted(path.name for path in Path("kit").iterdir()) == made
    assert sorted(path.name for path in Path().iterdir()) == ["kit", "m.distill"]

    done = shell(*KIT, "--per-label", "1", "--format", " sfz", "--label", "kick", "--replace", "--json")
    report = json.loads(done.out)
    assert [(group["label"], group["key"], group["note"]) for group in report["groups"]] == [("drum/kick", 36, "C2")]
    assert report == {"folder": "kit", **json.loads(Path("kit/kit.json").read_text(encoding="utf-8"))}
    assert not Path("kit/kit.dspreset").exists()

    # With a sure choice of every code, a draw repeats another until all attempts are spent.
    done = shell(*KIT, "--per-label", "9", "--label", "bell", "--temperature", "0.01", "--replace")
    missing = json.loads(Path("kit/kit.json").read_text(encoding="utf-8"))["missing"]
    line = f"bell: {9 - missing} of 9 sounds; refused draws: "
    assert missing > 0
    assert f"distill: warning: {line}" in done.err
    assert f"missing     {line}" in Path("kit/kit.txt").read_text(encoding="utf-8")
