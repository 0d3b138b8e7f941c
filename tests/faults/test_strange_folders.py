"""Folders of strangers: names of every kind, links, pipes, archives; files that vanish, change or grow."""

import io
import json
import os
import shutil
import socket
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from faults.strange_audio import wrong
from unit.command import CommandLine
from unit.tiny import write_model, write_prior_model

from distill.audio import decode as decoder_module
from distill.audio.corpus import read_manifest
from distill.audio.ingest import ingest
from distill.storage.work import Here
from distill.text import escaped

RATE = 16_000
NAMES = (
    "\udcff\udc80.wav", "new\nline.wav", "tab\t\r.wav", "\x1b[31m\x1b]0;title\x07.wav", "bidi\u202egnp.wav",
    "iso\u2066x.wav", "😀👨‍👩‍👧.wav", "a" * 251 + ".wav", "-n.wav", "--out.wav", " spaces .wav", "CON.wav",
    "dots....wav", "e\u0301.wav", "\u00e9.wav", "CASE.wav", "case.wav", ";$(touch reached).wav", "`touch reached`.wav",
    "<img src=x onerror=alert(1)>.wav", "&lt;b&gt;.wav", "[red]x[bold].wav", "[link=x].wav", "{0}%s$HOME.wav",
    "'quote\".wav", "back\\slash.wav", "=cmd|' !A0.wav", "NaN.wav", "\u2028line.wav", "\x7f\x01.wav", ",;,.wav",
)  # fmt: skip
linux = pytest.mark.skipif(sys.platform != "linux", reason="names and devices of Linux")


def sound(number: int, seconds: float = 0.3) -> bytes:
    """A WAV file; equal numbers give equal ones."""
    rng = np.random.default_rng(number)
    time = np.arange(round(seconds * RATE))
    samples = 0.5 * np.sin(time * (0.05 + 0.01 * number)) * np.exp(-time / 2000) + rng.uniform(-0.01, 0.01, len(time))
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format="WAV")
    return stream.getvalue()


def is_safe(text: str) -> bool:
    """Whether a terminal shows every character of a text, and in order."""
    return all(character == "\n" or escaped(character) == character for character in text)


def write_strange(folder: Path) -> int:
    """A folder of sounds under every name among what is no sound; returns the sounds, some of them links or copies."""
    folder.mkdir()
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(sound(number))
    deep = folder
    for level in range(30):
        deep /= f"<b>\x1b[2J{level}"
        deep.mkdir()
    (deep / "deep.wav").write_bytes(sound(100))
    (folder / "loop").symlink_to(folder)
    (folder / "copy").symlink_to(deep.parent)
    for name, target in {
        "l1": "l2.wav",
        "l2": "l1.wav",
        "dead": "nowhere",
        "zero": "/dev/zero",
        "null": "/dev/null",
    }.items():
        (folder / f"{name}.wav").symlink_to(target)
    os.mkfifo(folder / "pipe.wav")
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket is short
    listener.bind("socket.wav")
    os.chdir(here)
    listener.close()
    (folder / "empty.wav").touch()
    (folder / "folder.wav").mkdir()
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../reached.wav", bytes(50_000_000))
    with tarfile.open(folder / "bomb.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../reached.wav"))
    (folder / "zip.wav").write_bytes((folder / "bomb.zip").read_bytes())
    return len(NAMES) + 1


@linux
def test_sounds_under_every_name_are_used_and_nothing_else(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    sounds = write_strange(folder)
    report = ingest(folder, output, RATE, 0.5, Here(2))
    rows = read_manifest(output / "manifest.parquet")
    assert report.used + report.warned == sounds
    assert {row.path for row in rows if row.status == "rejected"} == {
        f"{name}.wav" for name in ("l1", "l2", "dead", "zero", "null", "pipe", "socket", "empty", "zip")
    }
    assert len({row.path for row in rows}) == len({row.recording_id for row in rows}) == len(rows)
    assert is_safe("".join(f"{row.path}{row.label}{row.reason}" for row in rows))
    assert is_safe((output / "report.json").read_text(encoding="utf-8"))
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_files_that_vanish_change_and_grow_cost_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in the middle of its turn: after it was listed, and after its bandwidth was measured."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.wav").write_bytes(sound(number))

    def becomes_a_folder(path: Path) -> None:
        path.unlink()
        path.mkdir()

    changes: dict[str, Callable[[Path], object]] = {
        "01.wav": Path.unlink,
        "02.wav": lambda path: path.write_bytes(sound(50, 0.7)),
        "03.wav": lambda path: path.write_bytes(path.read_bytes() + bytes(100_000)),
        "04.wav": lambda path: path.write_bytes(path.read_bytes()[:100]),
        "05.wav": becomes_a_folder,
        "06.wav": lambda path: path.write_text("not audio any more"),
    }
    decoded = decoder_module.Decoder.decoded

    def after_a_change(decoder: decoder_module.Decoder, path: Path, rate: int) -> object:
        if path.name in changes:
            changes[path.name](path)
        return decoded(decoder, path, rate)

    monkeypatch.setattr(decoder_module.Decoder, "decoded", after_a_change)
    report = ingest(folder, tmp_path / "out", RATE, 0.5, Here(2))
    rows = {row.path: row for row in read_manifest(tmp_path / "out" / "manifest.parquet")}
    assert {path for path, row in rows.items() if row.status == "rejected"} == {"01.wav", "04.wav", "05.wav", "06.wav"}
    assert report.used + report.warned == 8
    assert rows["02.wav"].seconds == pytest.approx(0.7, abs=0.01)


def test_a_file_that_grows_while_it_is_read(tmp_path: Path) -> None:
    folder, stop = tmp_path / "in", threading.Event()
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.wav").write_bytes(sound(number))

    def grow() -> None:
        while not stop.wait(0.001):
            with (folder / "0.wav").open("ab") as file:
                file.write(bytes(1000))

    growing = threading.Thread(target=grow)
    growing.start()
    try:
        report = ingest(folder, tmp_path / "out", RATE, 0.5, Here(2))
    finally:
        stop.set()
        growing.join()
    assert report.used + report.warned == 4


def test_poisoned_files_among_good_ones_cost_only_themselves(tmp_path: Path, exhaustive: bool) -> None:
    """Every wrong file at once; the good ones are used, with the same samples as alone."""
    folder, count = tmp_path / "in", 500 if exhaustive else 10
    folder.mkdir()
    for number in range(count):
        (folder / f"good{number}.wav").write_bytes(sound(number))
    alone = ingest(folder, tmp_path / "alone", RATE, 0.0, Here(2))
    before = {row.path: row.pcm_sha256 for row in read_manifest(tmp_path / "alone" / "manifest.parquet")}
    poison = list(wrong())[:: 1 if exhaustive else 4]
    for one in poison:
        (folder / one.name).write_bytes(one.data)
    ingest(folder, tmp_path / "out", RATE, 1.0, Here(2))
    rows = {row.path: row for row in read_manifest(tmp_path / "out" / "manifest.parquet")}
    assert alone.used + alone.warned == count
    assert {name: rows[name].pcm_sha256 for name in before} == before
    assert all(rows[name].status != "rejected" for name in before)
    assert len(rows) == count + len(poison)


@linux
def test_commands_print_every_name_safely(shell: CommandLine, exhaustive: bool) -> None:
    """Of recordings, of what is missing, of models and of folders: on stderr, and in JSON."""
    write_model(Path("m.distill"))
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
    assert not Path("reached").exists()


@linux
def test_sounds_and_models_under_every_name(shell: CommandLine, exhaustive: bool) -> None:
    """A model is listed and used under every name, or its name is refused; sounds go to folders of every name."""
    write_prior_model(Path("m.distill"))
    generate = ("generate", "--seconds", "0.2", "--seed", "1", "--json", *(("--pictures",) if exhaustive else ()))
    for name in NAMES if exhaustive else NAMES[:2]:
        folder, model = name.removesuffix(".wav"), name.removesuffix(".wav")[:200] + ".distill"
        shutil.copy("m.distill", model)
        for arguments in (("--out", folder, "--", "m.distill"), ("--out", "g", "--", model)):
            done = shell(*generate, *arguments)
            is_refused = done.status == 2 and "expected a path in UTF-8" in done.err and "\udcff" in arguments[-1]
            assert is_refused or (done.status == 0 and json.loads(done.out)["sounds"]), ascii(done.err)
            assert is_safe(done.err), ascii(done.err)
    assert is_safe(shell("list", ".").out)
