"""What the README tells people to type exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands(tool: str) -> list[str]:
    blocks = "\n".join(re.findall(r"```(?:bash|sh|console)\n(.*?)```", README, flags=re.DOTALL))
    inline = re.findall(r"`([^`\n]+)`", README)
    lines = [line.strip() for line in blocks.splitlines()] + inline
    return [line for line in lines if line.startswith(tool + " ")]


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {word for line in commands("make") for word in line.split("#")[0].split()[1:2] if "=" not in word}
    assert {"repro", "test", "check", "ui"} <= named
    assert named <= targets


DISTILL_COMMANDS = (
    *("demo", "train", "train-prior", "check-memory"),
    *("encode", "decode", "inspect", "verify", "generate"),
)


@pytest.mark.parametrize("name", DISTILL_COMMANDS)
def test_distill_commands_and_flags_exist(name: str) -> None:
    lines = [line for line in commands("distill") if line.split()[1] == name]
    assert lines, f"README shows no `distill {name}`"
    shown = subprocess.run(
        [sys.executable, "-m", "distill", name, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    for line in lines:
        for flag in re.findall(r"(?<=\s)--?[a-z-]+", line.split("#")[0]):
            assert flag in shown, f"{flag} in: {line}"


def test_no_other_distill_command_is_promised() -> None:
    assert {line.split()[1] for line in commands("distill")} <= {*DISTILL_COMMANDS, "--help"}


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_settings_named_with_a_section_exist() -> None:
    import yaml

    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, key in re.findall(r"`(corpus|vqvae|split|prior|bundle|audition)\.(\w+)", README):
        assert key in values[section], f"{section}.{key}"


def test_the_tier_table_is_that_of_the_code() -> None:
    from distill.params import TIERS

    for tier in TIERS:
        vqvae = [str(tier.vqvae[key]) for key in ("epochs", "learning_rate", "dropout", "ema_decay")]
        frame = {**tier.prior, **tier.frame}
        prior = [str(frame[key]) for key in ("hidden_size", "num_layers", "num_heads", "dropout")]
        course = [str(frame[key]) for key in ("epochs", "learning_rate")]
        recordings = f"up to {tier.max_recordings}" if tier.max_recordings else "more"
        cells = [tier.name, recordings, str(tier.vqvae["codebook_size"]), *map(" / ".join, (vqvae, prior, course))]
        plan = " / ".join(str(tier.prior[key]) for key in ("hidden_size", "num_layers", "num_heads", "dropout"))
        if frame["learning_rate"] != tier.prior["learning_rate"]:
            plan += f", {tier.prior['learning_rate']}"
        cells.append(plan if tier.frame else "the same")
        assert f"| {' | '.join(cells)} |" in README
