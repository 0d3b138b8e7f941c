"""The commands of README do what it says, one after another, as somebody with a folder of sounds would type them."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from distill.audio.write import write_audio
from distill.codec.tones.atoms import shipped_sets
from unit.codec.tonal import sound_of
from unit.command import CommandLine

README = Path(__file__).parents[2] / "README.md"
RATE = 16_000
QUICK = {"train": ("--labels", "folder", "--epochs", "1", "--tier", "small")}


def commands() -> list[list[str]]:
    """What README says to type that begins with `distill`."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = (line for block in blocks for line in block.splitlines())
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("distill ")]


def test_the_commands_of_the_readme_work_in_turn(
    shell: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tones = [sound_of(shipped_sets()[0], 48.0 + 3 * number, 0.4, 3.0).numpy() for number in range(6)]
    for number, tone in enumerate(tones):
        write_audio(tmp_path / f"my-sounds/kick/{number}.wav", tone, RATE)
    project = tmp_path / "project"
    for name in ("take1.wav", "voice.wav"):
        write_audio(project / name, np.concatenate(tones[:2]), RATE)
    monkeypatch.chdir(project)
    assert len(commands()) >= 9
    for command in commands():
        done = shell(*command, *QUICK.get(command[0], ()))
        assert done.status == 0, (command, done.err)
    assert Path("models/mine.distill").is_file()
    assert Path("my-kit/kit.sfz").is_file()
