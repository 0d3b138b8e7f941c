"""Instruments at notes: in tune, over all keys, with what they are in every file."""

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import distill
from distill.api import Model
from distill.errors import ArtifactError, ParamsError
from distill.kit.kit import Kit
from distill.notes import note_name
from unit.kit.tones import make_instrument
from unit.pitched import write_pitched_model

OFF = {48: 0.19, 55: -0.12, 60: 0.5, 66: 0.06}  # semitones from notes; beyond 0.2 a sound is left out


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Notes that were drawn out of tune, one of which is missing."""
    with pytest.MonkeyPatch.context() as patch:
        return make_instrument(patch, tmp_path_factory.mktemp("kit") / "kit", OFF)


def cents_off(path: Path, key: int) -> float:
    """Cents from a key to the lowest partial of a file."""
    sound, rate = soundfile.read(path)
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 19))
    expected = 440 * 2 ** ((key - 69) / 12) / rate * (1 << 19)
    near = np.arange(round(expected * 0.95), round(expected * 1.05))
    return float(1200 * np.log2(near[power[near].argmax()] / expected))


def test_all_keys_play_and_what_is_missing_is_said(kit: Kit) -> None:
    assert [(group.key, group.keys) for group in kit.groups] == [
        *((48, (0, 51)), (55, (52, 60)), (60, ()), (66, (61, 127))),
    ]
    assert kit.missing_lines == ["flute C4: 0 of 1 sounds; refused draws: 1 mistuned; its keys play other notes"]
    assert kit.json()["refused"] == {"copies": 0, "silent": 0, "repeats": 0, "mistuned": 1}
    assert [sound.file for sound in kit.sounds] == [f"samples/{key:03d}_flute_01.wav" for key in (48, 55, 66)]


def test_sounds_are_in_tune_and_wav_sfz_and_decent_sampler_agree(kit: Kit) -> None:
    sfz, preset = ((kit.folder / f"kit.{kind}").read_text() for kind in ("sfz", "dspreset"))
    for group in kit.groups:
        for sound in group.sounds:
            path, tune, loop = kit.folder / sound.file, sound.json()["tune"], sound.json()["loop"]
            assert abs(cents_off(path, group.key) + tune) < 5
            assert f"pitch_keycenter={group.key} " in sfz
            ends = (loop["start"], loop["end"])
            played = f"tune={tune} loop_mode=loop_sustain loop_start={ends[0]} loop_end={ends[1]}"
            assert f"<region> sample={sound.file} {played}\n" in sfz
            assert f'tuning="{tune / 100}" loopEnabled="true" loopStart="{ends[0]}" loopEnd="{ends[1]}"' in preset
            chunk = path.read_bytes().partition(b"smpl")[2]
            fields = struct.unpack("<16I", chunk)
            assert (fields[4], fields[12:14]) == (group.key, ends)


def test_index_text_and_table_say_notes_tunings_and_loops(kit: Kit) -> None:
    index = json.loads((kit.folder / "kit.json").read_text())
    assert index == kit.json()
    assert index["settings"]["notes"] == "48,55,60,66"
    assert [group.get("keys") for group in index["groups"]] == [[0, 51], [52, 60], None, [61, 127]]
    sound = kit.sounds[0].json()
    loop = sound["loop"]
    assert index["groups"][0]["sounds"][0]["loop"] == loop
    text = (kit.folder / "kit.txt").read_text()
    assert "\nC3    48  flute, keys 0-51\n" in text
    seconds = f"{loop['start'] / kit.sample_rate:.2f}-{loop['end'] / kit.sample_rate:.2f} s"
    assert f"velocity 1-127, 1 of 1, tune {sound['tune']:+d}, loop {seconds}  unknown" in text
    assert {"tune", "loop.start", "loop.end", "loop.correlation"} <= set(kit.table().columns)


def test_what_decays_plays_to_its_end_and_stops_with_the_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = make_instrument(monkeypatch, tmp_path / "kit", {50: 0.1}, decay=4.0)
    (sound,) = kit.sounds
    sfz = (kit.folder / "kit.sfz").read_text()
    assert f"<region> sample={sound.file} tune={sound.json()['tune']} loop_mode=no_loop\n" in sfz
    assert "<global>\nampeg_release=0.3\n" in sfz
    assert ", no loop  unknown" in (kit.folder / "kit.txt").read_text()
    assert "loop" not in kit.json()["groups"][0]["sounds"][0]


def test_notes_beyond_the_reach_of_the_sounds_have_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = dict.fromkeys(range(36, 85, 6), 0.0)
    kit = make_instrument(monkeypatch, tmp_path / "kit", notes, reach=8)  # drawn at 60, then at 42 and 78
    assert [group.key for group in kit.groups if group.sounds] == list(notes)
    assert not kit.missing_lines


def test_a_note_at_which_nothing_can_be_drawn_has_what_is_drawn_at_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = {60: 0.0, 64: 0.0, 67: 0.0}
    kit = make_instrument(monkeypatch, tmp_path / "kit", notes, undrawn=(64, 67))
    assert [len(group.sounds) for group in kit.groups] == [1, 1, 1]
    assert [group.refused["mistuned"] for group in kit.groups] == [0, 40, 0]


def test_where_nothing_can_be_drawn_no_more_than_three_notes_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = dict.fromkeys(range(36, 97), 0.0)
    with pytest.raises(
        ArtifactError,
        match=r"flute\.distill: expected sounds for the kit, found none among 120 drafts \(120 mistuned\); choose other notes,",
    ):
        make_instrument(monkeypatch, tmp_path / "kit", notes, undrawn=tuple(notes))
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return distill.load(write_pitched_model(tmp_path_factory.mktemp("model") / "m.distill"))


def test_a_model_makes_an_instrument_of_a_label(model: Model, tmp_path: Path) -> None:
    def made(name: str, **more: Any) -> Kit:
        asked = {"labels": ["string"], "notes": "C3:C5", "every": 12, "per_label": 3, "velocity_layers": 2}
        return model.kit(tmp_path / name, seed=1, **{**asked, **more})  # type: ignore[arg-type]

    kit = made("kit")
    assert [(group.note, group.keys) for group in kit.groups] == [
        *(("C3", (0, 53)), ("C4", (54, 65)), ("C5", (66, 127))),
    ]
    for group in kit.groups:
        assert [(one.low_velocity, one.position, one.round_robins) for one in group.sounds] == [
            *((1, 1, 1), (64, 1, 2), (64, 2, 2)),
        ]
        for sound in group.sounds:
            heard = model.tuner.measure(soundfile.read(kit.folder / sound.file, dtype="float32")[0])
            assert heard is not None
            assert abs(100 * (heard - group.key) + sound.json()["tune"]) < 20
    lower = made("lower", tuning=415.3, per_label=1, notes="C#3:C#5")  # at which it sounds as the recordings do
    assert (lower.recorded["tuning"], kit.recorded["tuning"]) == (415.3, 440.0)
    for group in lower.groups:
        for sound in group.sounds:
            heard = model.tuner.measure(soundfile.read(lower.folder / sound.file, dtype="float32")[0])
            assert heard is not None
            played = 440 * 2 ** ((heard + sound.json()["tune"] / 100 - 69) / 12)
            assert abs(1200 * math.log2(played / (415.3 * 2 ** ((group.key - 69) / 12)))) < 20
    listed = model.kit(tmp_path / "listed", labels=["string"], notes=[60, "C3"], per_label=1, seed=0)
    assert [group.key for group in listed.groups] == [48, 60]
    assert f"{listed.folder}  2 sounds on 2 notes, over all keys" in listed.lines(80)


def test_sounds_of_a_key_have_one_note_and_where_layers_have_others_that_is_said(model: Model, tmp_path: Path) -> None:
    """A hiss has none, and an instrument has one on each key."""
    kit = model.kit(tmp_path / "one", seed=1, labels=["string"])
    assert (kit.groups[0].heard, kit.note_lines) == ((), [])
    kit = model.kit(tmp_path / "kit", seed=1, velocity_layers=4)
    groups = {group.label: group for group in kit.groups}
    files = [kit.folder / sound.file for sound in groups["string"].sounds]
    heard = {round(model.tuner.measure(soundfile.read(file, dtype="float32")[0]) or 0) for file in files}
    assert len(heard) > 1
    assert groups["string"].heard == tuple(sorted(heard))
    assert groups["string"].json()["heard"] == sorted(heard)
    assert (groups["hiss"].heard, "heard" in groups["hiss"].json()) == ((), False)
    (line,) = kit.note_lines
    notes = f"from {note_name(min(heard))} to {note_name(max(heard))}"
    assert line.startswith(f"string {groups['string'].note}: its 4 sounds on one key have different notes, {notes}; ")
    assert f"\nnotes           {line}\n" in (kit.folder / "kit.txt").read_text()
    at_notes = model.kit(tmp_path / "at notes", labels=["string"], notes="C4,E4", per_label=1, seed=1)
    assert not at_notes.note_lines


def test_what_an_instrument_cannot_be_of_is_a_sentence(model: Model, tmp_path: Path) -> None:
    out = tmp_path / "kit"
    with pytest.raises(ArtifactError, match="note: expected recordings with the label hiss with a pitch, found that"):
        model.kit(out, labels=["hiss"], notes="C4")
    with pytest.raises(
        ParamsError, match="labels: expected one for an instrument at notes, found hiss, string; choose"
    ):
        model.kit(out, notes="C4")
    with pytest.raises(
        ParamsError, match="note C9: expected one from C2 to C6, at most an octave from those of the rec"
    ):
        model.kit(out, labels=["string"], notes="C4,C9")
    assert not out.exists()
