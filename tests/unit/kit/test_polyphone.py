"""A kit in a sampler that we did not write: Polyphone turns kit.sfz into a SoundFont, whose samples are read here."""

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import soundfile
from unit.tiny import write_prior_model

import distill

POLYPHONE = shutil.which("polyphone")
pytestmark = pytest.mark.skipif(POLYPHONE is None, reason="Polyphone is not installed (Debian package `polyphone`)")

# A SoundFont lacks round robins; the rest is progress, and what Qt says of folders.
EXPECTED = re.compile(
    r'"opcode not supported: (seqlength|seqposition) \(\d+\)"|"(Loading file .*|File loaded|Saving file .*|done)"|'
    r"QStandardPaths: .*"
)


def test_polyphone_finds_every_sound(tmp_path: Path) -> None:
    labels = ["drum/kick", "drum/snare", "open hat", "closed hat", "../x y", 'a"b<c>=$d', "ドラム", "glass", "bowed"]
    write_prior_model(tmp_path / "m.distill", labels=labels)
    kit = distill.load(tmp_path / "m.distill").kit(
        tmp_path / "a kit", per_label=3, velocity_layers=2, seconds=0.2, seed=1, formats=["sfz"]
    )
    assert POLYPHONE is not None
    folders = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "QT_QPA_PLATFORM": "offscreen"}
    command = [POLYPHONE, "-1", "-i", str(kit.folder / "kit.sfz"), "-d", str(tmp_path), "-o", "read"]
    done = subprocess.run(
        command, env={**os.environ, **folders}, capture_output=True, text=True, timeout=60, check=True
    )
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if not EXPECTED.fullmatch(line)] == []
    data = (tmp_path / "read.sf2").read_bytes()
    start = data.index(b"shdr") + 8  # sample headers; the last one ends the list (SoundFont 2.04, 7.10)
    size = int.from_bytes(data[start - 4 : start], "little")
    headers = list(struct.iter_unpack("<20sIIIIIBbHH", data[start : start + size]))[:-1]
    found = {name.rstrip(b"\0").decode("ascii"): (end - first, rate) for name, first, end, _, _, rate, *_ in headers}
    infos = {Path(sound.file).stem[:20]: soundfile.info(kit.folder / sound.file) for sound in kit.sounds}
    assert found == {name: (info.frames, info.samplerate) for name, info in infos.items()}
