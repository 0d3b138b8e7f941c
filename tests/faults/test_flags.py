"""Flags of every command with hostile values: done, or one sentence and status 2; never a traceback, never a hang."""

import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import typer

from distill.cli import main as cli
from distill.text import escaped
from unit.command import CommandLine
from unit.tiny import write_prior_model, write_tone

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes, devices and alarms of POSIX")

SECONDS = 300  # a training takes some
NUMBERS = (
    "nan", "inf", "-inf", "-1", "0", "1e308", "1e-320", "", " ", "x" * 5000, "1" * 5000, "1_0", "0x10", "１",
    "\x1b[31m",
)  # fmt: skip
TEXTS = (
    "", " ", "x" * 300, "x" * 70_000, "../x", "/", ".", "..", "a/b", "\x1b[31m", "\udcff", "a\nb", "nan",
    "NUL", "-",
)  # fmt: skip
PATHS = (
    "", "missing", "missing/missing", "folder", "text.txt", "empty", "pipe", "zero", "null", "loop", "dangling", "n" * 300,
    "d/" * 3000, "m.distill", "a.wav", "a.wav/x", "codes", "\udcff", "\x1b[31m", "a\nb", "/proc/self/x", "/dev/null/x",
)  # fmt: skip
# What each command needs besides the flag that is tried. Whatever is valid runs.
NEEDED = {
    "demo": {"folder": "made"},
    "train": {"folder": "sounds", "model_name": "new", "epochs": "1", "sample_rate": "8000", "codebook_size": "8", "rvq_levels": "1"},
    "train-prior": {"model": "m.distill", "data": "sounds", "epochs": "1", "hidden_size": "8", "layers": "1", "heads": "1", "output": "o"},
    "encode": {"model": "m.distill", "audio": "a.wav", "output": "made"},
    "decode": {"model": "m.distill", "codes": "codes", "output": "made.wav"},
    "inspect": {"model": "m.distill"},
    "verify": {"model": "m.distill"},
    "list": {"folder": "folder"},
    "generate": {"model": "m.distill", "seconds": "0.2", "out": "made"},
    "vary": {"model": "m.distill", "audio": "a.wav", "count": "1", "out": "made"},
    "morph": {"model": "m.distill", "first": "a.wav", "last": "sounds/0.wav", "steps": "2", "out": "made"},
    "extend": {"model": "m.distill", "audio": "a.wav", "after": "0.1", "out": "made"},
    "fill": {"model": "m.distill", "audio": "a.wav", "start": "0.01", "end": "0.05", "out": "made"},
    "kit": {"model": "m.distill", "out": "made", "seconds": "0.2", "per_label": "1"},
    "export": {"model": "m.distill", "output": "made"},
}  # fmt: skip
SLOW = ("demo", "train", "train-prior", "export")
ELSEWHERE = {"push", "pull", "ui"}  # they talk to others: unit/sharing, unit/ui, ui


def attempts() -> Iterator[tuple[str, str, str]]:
    """Commands, names of parameters and values."""
    group = typer.main.get_command(cli.app)
    assert set(group.commands) == NEEDED.keys() | ELSEWHERE  # type: ignore[attr-defined]
    for name in NEEDED:
        for parameter in group.commands[name].params:  # type: ignore[attr-defined]
            if getattr(parameter, "is_flag", False) or parameter.name == "help":
                continue
            kind = parameter.type_descriptor.annotation
            values = PATHS if kind in (Path, list[Path]) else NUMBERS if kind in (int, float) else TEXTS
            for value in values:
                yield name, parameter.name, value


def command_line(name: str, parameter: str, value: str) -> list[str]:
    """Arguments with the value in its place."""
    options, arguments = [], []
    for one in typer.main.get_command(cli.app).commands[name].params:  # type: ignore[attr-defined]
        given = value if one.name == parameter else NEEDED[name].get(one.name)
        if given is not None and one.param_type_name == "argument":
            arguments.append(given)
        elif given is not None:
            options += [max(one.opts, key=len), given]
    return [name, *options, "--", *arguments]


def write_inputs(shell: CommandLine) -> None:
    """What commands read, in this folder."""
    Path("folder").mkdir()
    write_prior_model(Path("m.distill"), labels=["a"])
    write_tone(Path("a.wav"))
    assert shell("encode", "m.distill", "-o", "codes", "a.wav").status == 0
    for number in range(4):
        write_tone(Path("sounds") / f"{number}.wav", pitch=200.0 + 90 * number)
    Path("text.txt").write_text("text")
    Path("empty").touch()


def fill(inputs: Path) -> None:
    """Empty this folder and put the inputs in it, a pipe, and links to devices and to nothing."""
    for path in Path().iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(inputs, Path(), dirs_exist_ok=True)
    os.mkfifo("pipe")
    # Root would replace the devices themselves.
    for name, target in {"zero": "/dev/zero", "null": "/dev/null", "loop": "loop", "dangling": "nowhere"}.items():
        Path(name).symlink_to(target)


def is_sentence(err: str) -> bool:
    lines = [line for line in err.splitlines() if line.startswith("distill: ") and "note:" not in line]
    return len(lines) == 1 and len(err) < 20_000


def test_every_flag_with_hostile_values(
    shell: CommandLine, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, exhaustive: bool
) -> None:
    def late(_: int, __: FrameType | None) -> None:
        raise AssertionError(f"no end after {SECONDS} s")

    monkeypatch.setattr(cli, "raise_on_signals", lambda: None)
    tried = list(attempts())
    assert len(tried) > 600
    if not exhaustive:
        tried = random.Random(1).sample([one for one in tried if one[0] not in SLOW], 40)
    write_inputs(shell)
    inputs = Path.cwd()
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    wrong: list[Any] = []
    seen = {0: 0, 2: 0}
    signal.signal(signal.SIGALRM, late)
    for name, parameter, value in tried:
        fill(inputs)
        signal.alarm(SECONDS)
        try:
            done = shell(*command_line(name, parameter, value))
        except BaseException as error:
            wrong.append((name, parameter, value[:40], repr(error)[:300]))
            continue
        finally:
            signal.alarm(0)
        is_plain = all(one == "\n" or escaped(one) == one for one in done.err)
        if done.status in seen and is_plain and (done.status == 0 or is_sentence(done.err)):
            seen[done.status] += 1
        else:
            wrong.append((name, parameter, value[:40], done.status, done.err[-300:]))
    assert not wrong, "\n".join(map(ascii, wrong))
    assert all(seen.values()), seen
