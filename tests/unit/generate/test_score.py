"""Scores: notes of patterns and of MIDI files, at their times, and sentences for what is none."""

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import ParamsError
from distill.generate.score import MOST_NOTES, Note, Score, is_midi, read_midi, read_pattern, read_programs

Message, Meta = mido.Message, mido.MetaMessage


def written(path: Path, *tracks: Sequence[object], **about: int) -> Path:
    """A MIDI file of these tracks."""
    file = mido.MidiFile(**about)
    file.tracks += [mido.MidiTrack(messages) for messages in tracks]
    file.save(path)
    return path


def on(note: int, time: int = 0, velocity: int = 127, channel: int = 0) -> object:
    return Message("note_on", note=note, velocity=velocity, time=time, channel=channel)


def off(note: int, time: int = 0, channel: int = 0) -> object:
    return Message("note_off", note=note, time=time, channel=channel)


def test_steps_of_a_pattern_fill_its_bars() -> None:
    score = read_pattern("kick:x..X hi hat:o|-", bpm=120, bars=2, swing=0.0)
    assert score.loop_seconds == 4.0
    kicks = [(note.start, note.gain) for note in score.notes if note.label == "kick"]
    assert kicks == [(0.0, 0.7), (1.5, 1.0), (2.0, 0.7), (3.5, 1.0)]
    assert [note.start for note in score.notes if note.label == "hi hat"] == [0.0, 2.0]
    assert score.labels == ["kick", "hi hat"]
    assert all(note.seconds is None and note.key is None for note in score.notes)


def test_swing_makes_every_second_step_late() -> None:
    straight, swung = (read_pattern("a:xxxx", 60, 1, swing).notes for swing in (0.0, 1.0))
    late = [other.start - own.start for own, other in zip(straight, swung, strict=True)]
    assert late == pytest.approx([0, 1 / 3, 0, 1 / 3])


@pytest.mark.parametrize(
    ("text", "bars", "expected"),
    [
        (
            "",
            1,
            "pattern : expected labels and their steps, such as kick:x...x... snare:....x..., found something else; write",
        ),
        ("kick", 1, "found something else"),
        ("kick:xyz", 1, "found something else"),
        ("kick:x snare", 1, "found something else"),
        ("kick:|", 1, "found something else"),
        ("kick:....", 1, "found rests alone; add a hit"),
        ("kick:" + "x" * 1000, 21, "found 21,000"),
        ("kick:x", 2000, "bars 2000: expected at most 3600 s, found 4000 s at 120 bpm; give fewer bars"),
    ],
)
def test_what_is_no_pattern_is_a_sentence(text: str, bars: int, expected: str) -> None:
    with pytest.raises(ParamsError) as error:
        read_pattern(text, 120, bars, 0.0)
    assert expected in str(error.value)


def test_commas_and_spaces_may_part_labels() -> None:
    notes = read_pattern("kick:x.x. snare:.x", 120, 1, 0.0).notes
    for text in ("kick: x.x. snare: .x", "kick:x.x.,snare:.x", "kick:x.x.; snare:.x;"):
        assert read_pattern(text, 120, 1, 0.0).notes == notes
    with pytest.raises(ParamsError, match="found something else; write x"):
        read_pattern(" :x", 120, 1, 0.0)


def test_one_step_and_a_thousand_are_patterns() -> None:
    assert len(read_pattern("a:x", 120, 1, 0).notes) == 1
    assert len(read_pattern("a:" + "x" * 1000, 120, 1, 0).notes) == 1000


@given(st.text(st.sampled_from("ab :xXo.-|\n"), max_size=40))
def test_any_text_is_a_pattern_or_a_sentence(text: str) -> None:
    try:
        notes = read_pattern(text, 100, 1, 0.5).notes
    except ParamsError:
        return
    assert 0 < len(notes) <= MOST_NOTES
    assert sum(text.count(hit) for hit in "xXo") >= len(notes)


def test_notes_of_a_file_have_their_times_through_changes_of_tempo(tmp_path: Path) -> None:
    tempi = [Meta("set_tempo", tempo=500_000), Meta("set_tempo", tempo=1_000_000, time=960)]
    path = written(tmp_path / "a.mid", tempi, [on(60), off(60, 480), on(62, 480, 64), off(62, 480)], ticks_per_beat=480)
    first, second = read_midi(path).notes
    assert first == Note(0.0, 0.5, 1.0, 60)
    assert second == Note(1.0, 1.0, pytest.approx((64 / 127) ** 2), 62)


def test_the_pedal_holds_notes_and_what_is_played_again_ends(tmp_path: Path) -> None:
    pedal = [Message("control_change", control=64, value=value) for value in (127, 0)]
    messages = [pedal[0], on(60), off(60, 480), on(64), off(64, 480), pedal[1].copy(time=960)]
    path = written(tmp_path / "a.mid", messages, ticks_per_beat=480)
    assert [(note.key, note.start, note.seconds) for note in read_midi(path).notes] == [(60, 0.0, 2.0), (64, 0.5, 1.5)]
    again = written(tmp_path / "b.mid", [on(60), on(60, 480), off(60, 480), on(61)], ticks_per_beat=480)
    assert [(note.start, note.seconds) for note in read_midi(again).notes] == [(0.0, 0.5), (0.5, 0.5), (1.0, 0.0)]


def test_tracks_programs_and_drums(tmp_path: Path) -> None:
    bass = [Message("program_change", program=33), on(36), off(36, 480)]
    drums = [on(36, channel=9), off(36, 10, channel=9), on(56, channel=9), off(56, 10, channel=9)]
    path = written(tmp_path / "a.mid", [on(60), off(60, 480)], bass, drums, ticks_per_beat=480)
    score, remarks = read_midi(path, programs=read_programs("1=keys, 34=bass")).with_drums(["keys", "my kick"])
    assert {(note.key, note.label) for note in score.notes} == {(60, "keys"), (36, "bass"), (None, "my kick")}
    assert remarks == ["1 hit of drums left out: no label names it"]
    assert [note.key for note in read_midi(path, track=2).notes] == [36]
    with pytest.raises(
        ParamsError, match="drums: expected labels that name these drums, such as kick, snare or hat, found "
    ):
        read_midi(path, track=3).with_drums([])
    with pytest.raises(
        ParamsError, match=r"track 4: expected one of .*a\.mid, from 1 to 3, found none; choose another"
    ):
        read_midi(path, track=4)


@pytest.mark.parametrize("text", ["", "1", "0=a", "129=a", "a=b", "1=", "1=a,1=b", "1=a,", "1" * 5000 + "=a"])
def test_what_names_no_programs_is_a_sentence(text: str) -> None:
    with pytest.raises(
        ParamsError, match="expected programs, from 1 to 128, each once, and their labels, such as 1=pia"
    ):
        read_programs(text)


def test_hostile_files_are_sentences(tmp_path: Path) -> None:
    good = io.BytesIO()
    mido.MidiFile(tracks=[mido.MidiTrack([on(60), off(60, 480)])]).save(file=good)
    whole = good.getvalue()
    header = struct.pack(">4sIHHH", b"MThd", 6, 1, 1, 480)
    slow = struct.pack(">4sIHHH", b"MThd", 6, 1, 1, 0x8000 | 0x6750)
    running = header + b"MTrk" + struct.pack(">I", 4) + bytes([0, 60, 100, 0])
    damaged = {
        "cut": (whole[:23], "expected a MIDI file, found a damaged one"),
        "header": (whole[:9], "found a damaged one"),
        "running": (running, "found a damaged one; save it again with the program that made it"),
        "film": (
            slow + whole[14:],
            "found one that counts frames of film, or nothing, for beats; save it as type 0 or 1",
        ),
        "two": (whole[:9] + b"\2" + whole[10:], "expected a MIDI file of one song with beats, found one of type 2"),
        "big": (whole + bytes(5 << 20), "expected a MIDI file of at most 4 MB, found 5 MB"),
    }
    for name, (data, expected) in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ParamsError) as error:
            read_midi(tmp_path / name)
        assert expected in str(error.value), name
    with pytest.raises(
        ParamsError, match="expected a tempo, found beats that last no time; save it with another tempo"
    ):
        read_midi(written(tmp_path / "tempo", [Meta("set_tempo", tempo=0), on(60), off(60, 1)]))
    with pytest.raises(ParamsError, match="expected from 1 to 20,000 notes, found none"):
        read_midi(written(tmp_path / "none", []))
    with pytest.raises(ParamsError, match="expected from 1 to 20,000 notes, found 20,001"):
        read_midi(written(tmp_path / "many", [message for _ in range(20_001) for message in (on(60, 1), off(60, 1))]))
    with pytest.raises(ParamsError, match="expected notes that last 3600 s at most, found "):
        read_midi(written(tmp_path / "long", [on(60), off(60, 1 << 27)]))
    unended = whole[:-4].replace(struct.pack(">I", len(whole) - 22), struct.pack(">I", len(whole) - 26))
    (tmp_path / "unended").write_bytes(unended)  # without an end of track
    assert len(read_midi(tmp_path / "unended").notes) == 1


def test_what_is_no_midi_file_but_is_called_one_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.mid").write_text("notes")
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    assert not is_midi(tmp_path / "b.wav")
    assert not is_midi(tmp_path / "none.wav")
    assert is_midi(written(tmp_path / "c", [on(60)]))
    for name, found in (("a.mid", "another kind of file"), ("none.MIDI", "none")):
        with pytest.raises(
            ParamsError, match=f"expected a MIDI file, found {found}; check the path or name another one"
        ):
            is_midi(tmp_path / name)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_changed_byte_gives_a_score_or_a_sentence(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = io.BytesIO()
    messages = [
        Meta("key_signature", key="C"),
        Meta("set_tempo", tempo=400_000),
        on(60),
        off(60, 480),
        on(61),
        off(61, 9),
    ]
    mido.MidiFile(tracks=[mido.MidiTrack(messages)]).save(file=file)
    whole = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("midi") / "a.mid"
    path.write_bytes(whole)
    try:
        score = read_midi(path)
    except ParamsError:
        return
    assert isinstance(score, Score)
    assert score.notes
