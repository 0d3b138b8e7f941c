"""README is short, and its figures are those of the run in `metrics/`."""

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def summary() -> dict[str, str]:
    """What `make repro` printed: a name and its value on each line, a value that goes on is indented."""
    found = re.search(r"<!-- summary -->\n```\n(.*?)```\n<!-- end -->", README, re.DOTALL)
    assert found
    rows: dict[str, str] = {}
    for line in re.sub(r"\n {3,}", " ", found[1]).splitlines():
        name, value = re.split(r" {2,}", line.strip(), maxsplit=1)
        rows[name] = value
    return rows


def test_it_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) < 130
    assert not [line for line in lines if len(line) > 120]


def test_the_summary_names_every_stage() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert re.findall(r"(\w+) \d+ s", summary()["stages run"]) == list(stages)


def test_figures_are_those_of_the_run() -> None:
    rows = summary()
    stages = ("ingest", "train_vqvae", "train_prior", "audition")
    ingest, codec, prior, audition = (json.loads((ROOT / f"metrics/{name}.json").read_text()) for name in stages)
    usable = ingest["used"] + ingest["warned"] - ingest["duplicates"]
    assert rows["recordings"] == f"{usable} usable, {ingest['rejected']} rejected, {ingest['seconds']:.1f} s"
    assert f"learn the {usable} recordings in data/demo" in README
    assert rows["held-out sound"] == (
        f"perplexity {prior['val_perplexity']:.1f}, {prior['val_bits_per_second']:.0f} bits per second of audio "
        f"(best epoch {prior['best_epoch'] + 1} of {prior['epochs_trained']})"
    )
    levels = sorted(key for key in codec if key.endswith("/utilization"))
    shares = [f"level {number} {codec[key]:.0%}" for number, key in enumerate(levels)]
    assert rows["codewords used"] == ", ".join(shares)
    assert rows["generated"] == (
        f"{audition['sounds']} sounds: {audition['new']} new, {audition['close']} close, {audition['copies']} copies"
    )
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert rows["model"] == f"models/{params['bundle']['name']}.distill"
