"""A kit in samplers that we did not write: Polyphone turns kit.sfz into a SoundFont, which is read and FluidSynth plays."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from docs import kit_scale
from docs.kit_scale import FLUIDSYNTH, POLYPHONE, cents_off, play, scale

import distill
from unit.kit.tones import make_instrument
from unit.tiny import write_prior_model

pytestmark = pytest.mark.skipif(POLYPHONE is None, reason="Polyphone is not installed (Debian package `polyphone`)")

# A SoundFont lacks round robins; the rest is progress, and what Qt says of folders.
EXPECTED = re.compile(
    r'"opcode not supported: (seqlength|seqposition) \(\d+\)"|"(Loading file .*|File loaded|Saving file .*|done)"|'
    r"QStandardPaths: .*"
)


def soundfont_of(folder: Path, tmp_path: Path) -> Path:
    """The SoundFont of the kit in a folder, where Polyphone understood all of it."""
    soundfont, printed = kit_scale.soundfont_of(folder, tmp_path)
    assert [line for line in printed.splitlines() if not EXPECTED.fullmatch(line)] == []
    return soundfont


def sample_headers(soundfont: Path) -> list[tuple[str, int, int, int, int, int, int]]:
    """Name, start, end, start and end of the loop, sample rate and key of each sample (SoundFont 2.04, 7.10)."""
    data = soundfont.read_bytes()
    start = data.index(b"shdr") + 8  # the last one ends the list
    size = int.from_bytes(data[start - 4 : start], "little")
    headers = list(struct.iter_unpack("<20sIIIIIBbHH", data[start : start + size]))[:-1]
    return [(name.rstrip(b"\0").decode("ascii"), *numbers) for name, *numbers, _, _, _ in headers]


def test_polyphone_finds_every_sound(tmp_path: Path) -> None:
    labels = ["drum/kick", "drum/snare", "open hat", "closed hat", "../x y", 'a"b<c>=$d', "ドラム", "glass", "bowed"]
    write_prior_model(tmp_path / "m.distill", labels=labels)
    kit = distill.load(tmp_path / "m.distill").kit(
        tmp_path / "a kit", per_label=3, velocity_layers=2, seconds=0.2, seed=1, formats=["sfz"]
    )
    headers = sample_headers(soundfont_of(kit.folder, tmp_path))
    found = {name: (end - first, rate) for name, first, end, _, _, rate, _ in headers}
    infos = {Path(sound.file).stem[:20]: soundfile.info(kit.folder / sound.file) for sound in kit.sounds}
    assert found == {name: (info.frames, info.samplerate) for name, info in infos.items()}


@pytest.mark.skipif(FLUIDSYNTH is None, reason="FluidSynth is not installed (Debian package `fluidsynth`)")
def test_a_scale_is_in_tune_and_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes that were drawn up to 20 cents off, the keys between them, and those beyond; each lasts as long as it is held."""
    kit = make_instrument(monkeypatch, tmp_path / "kit", {48: 0.19, 55: -0.12, 60: 0.5, 66: 0.06})
    soundfont, keys, seconds, gap = soundfont_of(kit.folder, tmp_path), [45, 48, 51, 53, 55, 59, 61, 66, 69], 4.0, 1.0
    loops = [group.sounds[0].json()["loop"] for group in kit.groups if group.sounds]
    read = [(low - first, end - first) for _, first, _, low, end, _, _ in sample_headers(soundfont)]
    assert read == [(loop["start"], loop["end"] + 1) for loop in loops]  # a SoundFont has the first sample after it
    rate = 16000
    sound = play(soundfont, scale(keys, seconds, gap), rate, tmp_path)
    for number, key in enumerate(keys):
        begin = gap + number * (gap + seconds)
        held = sound[round((begin + 0.2) * rate) : round((begin + seconds - 0.2) * rate)]
        assert abs(cents_off(held, rate, key)) < 5
        levels = 20 * np.log10([part.std() for part in np.array_split(held, 18)])
        assert np.ptp(levels) < 1
        after = sound[round((begin + seconds + 0.4) * rate) : round((begin + seconds + gap - 0.1) * rate)]
        assert np.abs(after).max() < 0.01 * np.abs(held).max()
