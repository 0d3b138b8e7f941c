"""A kit in a sampler that we did not write: Polyphone turns kit.sfz into a SoundFont, which is read here."""

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
from unit.tiny import write_prior_model

import distill

POLYPHONE = shutil.which("polyphone")
pytestmark = pytest.mark.skipif(POLYPHONE is None, reason="Polyphone is not installed (Debian package `polyphone`)")

KEY_RANGE, VELOCITY_RANGE, INSTRUMENT, SAMPLE, ROOT_KEY = 43, 44, 41, 53, 58  # generators, SoundFont 2.04, 8.1.2
NO_ROUND_ROBINS = re.compile(r'"opcode not supported: (seqlength|seqposition) \(\d+\)"')  # a SoundFont lacks them
PROGRESS = re.compile(r'"(Loading file .*|File loaded|Saving file .*|done)"')

Zone = dict[int, tuple[int, int]]  # generator to its two bytes


@dataclass(frozen=True)
class Region:
    sample: int
    keys: tuple[int, int]
    velocities: tuple[int, int]
    root: int


def chunks(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Identifier and content of every RIFF chunk, those within lists too."""
    while start + 8 <= end:
        name, size = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "little")
        if name in (b"RIFF", b"LIST"):
            yield from chunks(data, start + 12, start + 8 + size)
        else:
            yield name, data[start + 8 : start + 8 + size]
        start += 8 + size + size % 2


def records(form: str, data: bytes) -> list[tuple[int, ...]]:
    """Records of a chunk without the last one, which ends the list."""
    return list(struct.iter_unpack(form, data))[:-1]


def zones(bags: bytes, generators: bytes, first: int, last: int) -> list[Zone]:
    """The zones of a preset or an instrument: its own generators, each over those of its global zone."""
    starts = [start for start, _ in struct.iter_unpack("<HH", bags)]
    values = list(struct.iter_unpack("<HBB", generators))
    found: list[Zone] = [
        {name: (low, high) for name, low, high in values[starts[bag] : starts[bag + 1]]} for bag in range(first, last)
    ]
    common = found.pop(0) if found and not found[0].keys() & {INSTRUMENT, SAMPLE} else {}
    return [{**common, **zone} for zone in found]


def within(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), min(one[1], other[1])


def soundfont(path: Path) -> tuple[list[tuple[str, int, int]], list[Region]]:
    """Samples (name, length, rate) of a SoundFont, and regions as its presets and instruments together give them."""
    data = path.read_bytes()
    parts = dict(chunks(data, 0, len(data)))
    headers = list(struct.iter_unpack("<20sIIIIIBbHH", parts[b"shdr"]))[:-1]
    samples = [(name.rstrip(b"\0").decode("ascii"), end - start, rate) for name, start, end, _, _, rate, *_ in headers]
    presets = [bag for _, _, _, bag, *_ in struct.iter_unpack("<20sHHHIII", parts[b"phdr"])]
    instruments = [bag for _, bag in struct.iter_unpack("<20sH", parts[b"inst"])]
    regions = []
    whole = (0, 127)
    for outer in zones(parts[b"pbag"], parts[b"pgen"], presets[0], presets[-1]):
        number = outer[INSTRUMENT][0] + 256 * outer[INSTRUMENT][1]
        for inner in zones(parts[b"ibag"], parts[b"igen"], instruments[number], instruments[number + 1]):
            keys, velocities = (
                within(outer.get(name, whole), inner.get(name, whole)) for name in (KEY_RANGE, VELOCITY_RANGE)
            )
            regions.append(Region(inner[SAMPLE][0] + 256 * inner[SAMPLE][1], keys, velocities, inner[ROOT_KEY][0]))
    return samples, regions


def convert(kit: Path, folder: Path) -> list[str]:
    """Have Polyphone write read.sf2 into a folder, and return the lines that it printed."""
    assert POLYPHONE is not None
    done = subprocess.run(
        [POLYPHONE, "-1", "-i", str(kit / "kit.sfz"), "-d", str(folder), "-o", "read"],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if not line.startswith("QStandardPaths: ")]  # of Qt, on folders


@pytest.mark.parametrize("layers", [1, 2])
def test_polyphone_finds_every_sound_on_its_key(tmp_path: Path, layers: int) -> None:
    labels = ["drum/kick", "drum/snare", "open hat", "closed hat", "../x y", 'a"b<c>=$d', "ドラム", "glass", "bowed"]
    write_prior_model(tmp_path / "m.distill", labels=labels)
    kit = distill.load(tmp_path / "m.distill").kit(
        tmp_path / "a kit", per_label=3, velocity_layers=layers, seconds=0.2, seed=1, formats=["sfz"]
    )
    assert (len(kit.sounds), kit.missing) == (27, 0)
    said = [line for line in convert(kit.folder, tmp_path) if not PROGRESS.fullmatch(line)]
    assert [line for line in said if not NO_ROUND_ROBINS.fullmatch(line)] == []
    samples, regions = soundfont(tmp_path / "read.sf2")
    assert len(samples) == len(kit.sounds)
    infos = {Path(sound.file).stem[:20]: soundfile.info(kit.folder / sound.file) for sound in kit.sounds}
    assert {name: (length, rate) for name, length, rate in samples} == {
        name: (info.frames, info.samplerate) for name, info in infos.items()
    }
    expected = sorted(
        (Path(sound.file).stem[:20], (group.key.number,) * 2, (sound.low_velocity, sound.high_velocity))
        for group in kit.groups
        for sound in group.sounds
    )
    assert sorted((samples[one.sample][0], one.keys, one.velocities) for one in regions) == expected
    assert all(one.root == one.keys[0] for one in regions)
