"""Folders of strangers: names of every kind, links, pipes, archives; files that vanish, change or grow."""

import io
import json
import os
import shutil
import socket
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from distill.audio import decode as decoder_module
from distill.audio.corpus import ManifestRow, read_manifest
from distill.audio.ingest import ingest
from distill.storage.work import Executor
from distill.text import escaped
from unit.command import CommandLine
from unit.tiny import write_prior_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names and devices of Linux")
RATE = 16_000
NAMES = (
    "\udcff\udc80.wav", "new\nline.wav", "tab\t\r.wav", "\x1b[31m\x1b]0;title\x07.wav", "bidi\u202egnp.wav",
    "iso\u2066x.wav", "😀👨‍👩‍👧.wav", "a" * 251 + ".wav", "-n.wav", "--out.wav", " spaces .wav", "CON.wav",
    "dots....wav", "caf\udcff.wav", "caf\\xff.wav", "e\u0301.wav", "\u00e9.wav", "CASE.wav", "case.wav",
    ";$(touch reached).wav", "`touch reached`.wav", "<img src=x onerror=alert(1)>.wav", "&lt;b&gt;.wav",
    "[red]x[bold].wav", "[link=x].wav", "{0}%s$HOME.wav", "'quote\".wav", "back\\slash.wav",
    "=cmd|' !A0.wav", "NaN.wav", "\u2028line.wav", "\x7f\x01.wav", ",;,.wav",
)  # fmt: skip
LINKS = {"l1": "l2.wav", "l2": "l1.wav", "dead": "nowhere", "zero": "/dev/zero", "null": "/dev/null"}


def sound(number: int, seconds: float = 0.3) -> bytes:
    """A WAV file; equal numbers give equal ones."""
    rng = np.random.default_rng(number)
    time = np.arange(round(seconds * RATE))
    samples = 0.5 * np.sin(time * (0.05 + 0.01 * number)) * np.exp(-time / 2000) + rng.uniform(-0.01, 0.01, len(time))
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format="WAV")
    return stream.getvalue()


def write_sounds(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:02}.wav").write_bytes(sound(number))


def is_safe(text: str) -> bool:
    """Whether a terminal shows every character of a text, and in order."""
    return all(character == "\n" or escaped(character) == character for character in text)


def ingested(folder: Path, output: Path, max_rejected: float = 0.5) -> dict[str, ManifestRow]:
    """The rows of a corpus by the paths of its recordings."""
    ingest(folder, output, RATE, max_rejected, Executor(2))
    return {row.path: row for row in read_manifest(output / "manifest.parquet")}


def used(rows: dict[str, ManifestRow]) -> set[str]:
    return {path for path, row in rows.items() if row.status != "rejected"}


def test_sounds_under_every_name_are_used_and_nothing_else(tmp_path: Path) -> None:
    """Among links, a pipe, a socket, devices and an archive; deep below folders, too."""
    folder, output = tmp_path / "in", tmp_path / "out"
    deep = folder.joinpath(*(f"<b>\x1b[2J{level}" for level in range(30)))
    deep.mkdir(parents=True)
    for number, path in enumerate((*(folder / name for name in NAMES), deep / "deep.wav")):
        path.write_bytes(sound(number))
    (folder / "loop").symlink_to(folder)
    (folder / "copy").symlink_to(deep.parent)
    for name, target in LINKS.items():
        (folder / f"{name}.wav").symlink_to(target)
    os.mkfifo(folder / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # the path of a socket is short
        listener.bind("socket.wav")
        os.chdir(here)
    (folder / "empty.wav").touch()
    (folder / "folder.wav").mkdir()
    with zipfile.ZipFile(folder / "zip.wav", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../reached.wav", bytes(50_000_000))
    rows = ingested(folder, output)
    assert len(used(rows)) == len(NAMES) + 1
    assert rows.keys() - used(rows) == {f"{name}.wav" for name in (*LINKS, "pipe", "socket", "empty", "zip")}
    assert len({row.recording_id for row in rows.values()}) == len(rows)
    assert is_safe("".join(f"{row.path}{row.label}{row.reason}" for row in rows.values()))
    assert is_safe((output / "report.json").read_text(encoding="utf-8"))
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_files_that_vanish_change_and_grow_cost_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in the middle of its turn: after it was listed, and after its bandwidth was measured."""
    write_sounds(tmp_path / "in", 8)
    changes: dict[str, Callable[[Path], object]] = {
        "01.wav": Path.unlink,
        "02.wav": lambda path: path.write_bytes(sound(50, 0.7)),
        "03.wav": lambda path: path.write_bytes(path.read_bytes() + bytes(100_000)),
        "04.wav": lambda path: path.write_bytes(path.read_bytes()[:100]),
        "05.wav": lambda path: (path.unlink(), path.mkdir()),
        "06.wav": lambda path: path.write_text("not audio any more"),
    }
    decoded = decoder_module.Decoder.decoded

    def after_a_change(decoder: decoder_module.Decoder, path: Path, **settings: Any) -> object:
        if path.name in changes:
            changes[path.name](path)
        return decoded(decoder, path, **settings)

    monkeypatch.setattr(decoder_module.Decoder, "decoded", after_a_change)
    rows = ingested(tmp_path / "in", tmp_path / "out")
    assert used(rows) == {"00.wav", "02.wav", "03.wav", "07.wav"}
    assert rows["02.wav"].seconds == pytest.approx(0.7, abs=0.01)


def test_commands_print_every_name_safely(shell: CommandLine, exhaustive: bool) -> None:
    """Of recordings, of what is missing, of models and of folders: on stderr, and in JSON."""
    write_prior_model(Path("m.distill"))
    names = NAMES if exhaustive else NAMES[:3]
    for number, name in enumerate(names):
        Path(name).write_bytes(sound(number))
    for key, arguments in {
        "recordings": ("encode", "m.distill", "-o", "codes", "--json", "--", *names),
        "sounds": ("decode", "m.distill", "codes", "-o", "decoded", "--json"),
    }.items():
        done = shell(*arguments)
        assert (done.status, is_safe(done.err)) == (0, True), done.err
        made = json.loads(done.out)[key]
        assert (made if isinstance(made, int) else len(made)) == len(names)
    assert {path.parent for path in Path("decoded").rglob("*")} == {Path("decoded")}
    assert all(is_safe(path.name) for path in Path("decoded").iterdir())
    for name in names:
        for command in (("encode", "m.distill", "-o", "codes"), ("inspect",), ("verify",)):
            done = shell(*command, "--", f"no{name}")
            assert (done.status, done.out, is_safe(done.err)) == (2, "", True), ascii(done.err)
            assert done.err.startswith("distill: "), done.err
        folder, model = name.removesuffix(".wav"), name.removesuffix(".wav")[:200] + ".distill"
        shutil.copy("m.distill", model)
        for arguments in (("--out", folder, "--", "m.distill"), ("--out", "g", "--", model)):
            done = shell("generate", "--seconds", "0.2", "--seed", "1", "--json", *arguments)
            is_refused = done.status == 2 and "expected a path in UTF-8" in done.err and "\udcff" in arguments[-1]
            assert is_refused or (done.status == 0 and json.loads(done.out)["sounds"]), ascii(done.err)
            assert is_safe(done.err), ascii(done.err)
    assert is_safe(shell("list", ".").out)
    assert not Path("reached").exists()
