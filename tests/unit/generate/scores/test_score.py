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
from distill.generate.scores.pattern import read_pattern
from distill.generate.scores.performance import is_midi, read_midi, read_programs
from distill.generate.scores.score import MOST_NOTES, Note, Score

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


def led(control: int, value: int, time: int = 0, channel: int = 0) -> object:
    return Message("control_change", control=control, value=value, time=time, channel=channel)


def bent(semitones: float, time: int = 0, channel: int = 0) -> object:
    return Message("pitchwheel", pitch=min(round(8192 * semitones / 2), 8191), time=time, channel=channel)


def held(path: Path, track: int | None = None) -> list[tuple[int | None, float, float | None]]:
    """Key, start and length in beats of each note of a file, of two beats in a second."""
    return [(note.key, 2 * note.start, note.seconds and 2 * note.seconds) for note in read_midi(path, track).notes]


@settings(deadline=None)
@given(data=st.data())
def test_notes_without_controllers_are_those_of_their_tracks(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As a slow reader has them, which looks for the end of each note in its track alone."""
    event = st.tuples(st.booleans(), st.integers(60, 62), st.sampled_from([0, 9]), st.sampled_from([0, 1, 256, 512]))
    tracks, expected = [], []
    for _ in range(data.draw(st.integers(1, 3))):
        messages, down, sound = list[object](), set[tuple[int, int]](), list[tuple[int, int, int, bool]]()
        ticks = 0
        for is_on, key, channel, time in data.draw(st.lists(event, max_size=12)):
            if is_on or (key, channel) in down:
                ticks += time
                messages.append(on(key, time, channel=channel) if is_on else off(key, time, channel))
                (down.add if is_on else down.discard)((key, channel))
                sound.append((ticks, key, channel, is_on))
        for number, (start, key, channel, is_on) in enumerate(sound):
            later = [other[0] for other in sound[number + 1 :] if other[1:3] == (key, channel)]
            seconds = None if channel == 9 else ([*later, ticks][0] - start) / 1024
            expected += [Note(start / 1024, seconds, 1.0, key)] * is_on
        tracks.append(messages)
    path = written(tmp_path_factory.mktemp("midi") / "a.mid", *tracks, ticks_per_beat=512)
    if expected:
        assert sorted(read_midi(path).notes, key=str) == sorted(expected, key=str)


def test_a_channel_is_one_over_all_tracks(tmp_path: Path) -> None:
    pedal = [led(64, 127), led(64, 0, 1920)]
    other = written(tmp_path / "pedal.mid", pedal, [on(52), off(52, 240)])
    assert held(other) == held(written(tmp_path / "same.mid", [pedal[0], on(52), off(52, 240), led(64, 0, 1680)]))
    assert held(other) == [(52, 0, 4)]
    assert held(other, track=2) == [(52, 0, 4)]
    program = written(tmp_path / "program.mid", [Message("program_change", program=33)], [on(52), off(52, 240)])
    assert [note.label for note in read_midi(program, 2, {34: "bass"}).notes] == ["bass"]
    ended = written(tmp_path / "ended.mid", [on(52)], [off(52, 240), on(57, 1440), off(57, 240)])
    assert held(ended) == [(52, 0, 0.5), (57, 3.5, 0.5)]


def test_a_key_in_two_tracks_of_a_channel_is_two_notes(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mid", [on(52), off(52, 960)], [on(52, 480), off(52, 960)])
    assert held(path) == [(52, 0, 2), (52, 1, 2)]
    again = written(tmp_path / "b.mid", [on(52), off(52, 480), on(52), off(52, 480)], [off(52, 480)])
    assert held(again) == [(52, 0, 1), (52, 1, 1)]  # what ends as one begins does not end that one


def test_ports_have_channels_of_their_own(tmp_path: Path) -> None:
    port = Meta("midi_port", port=1)
    path = written(
        tmp_path / "a.mid", [led(64, 127), on(52), off(52, 480), led(64, 0, 480)], [port, on(57), off(57, 480)]
    )
    assert held(path) == [(52, 0, 2), (57, 0, 1)]


@pytest.mark.parametrize("control", [120, 123, 124, 125, 126, 127])
def test_notes_end_where_all_are_turned_off(tmp_path: Path, control: int) -> None:
    late = [on(57, 1440), off(57, 240)]
    path = written(tmp_path / "a.mid", [on(52), led(control, 0, 480), *late])
    assert held(path) == [(52, 0, 1), (57, 4, 0.5)]
    pedal = written(tmp_path / "b.mid", [led(64, 127), on(52), led(control, 0, 480), led(64, 0, 480)])
    assert held(pedal) == [(52, 0, 1 if control == 120 else 2)]


def test_controllers_are_reset(tmp_path: Path) -> None:
    before = [led(64, 127), led(11, 0), led(7, 50), bent(2), on(52), off(52, 240)]
    path = written(tmp_path / "a.mid", [*before, led(121, 0, 240), on(57, 1440), off(57, 240)])
    assert held(path) == [(54, 0, 1), (57, 4, 0.5)]
    assert [note.gain for note in read_midi(path).notes] == [0.0, 0.25]  # the volume stays


def test_the_sostenuto_pedal_holds_the_keys_that_are_down(tmp_path: Path) -> None:
    notes = [on(52), led(66, 127, 240), on(57, 240), off(52), off(57, 240), led(66, 0, 720)]
    assert held(written(tmp_path / "a.mid", notes)) == [(52, 0, 3), (57, 1, 0.5)]
    both = [on(52), led(66, 127), led(64, 127), off(52, 480), led(66, 0, 480), led(64, 0, 480)]
    assert held(written(tmp_path / "b.mid", both)) == [(52, 0, 3)]
    other = [on(52), led(66, 127), led(64, 127), off(52, 480), led(64, 0, 480), led(66, 0, 480)]
    assert held(written(tmp_path / "c.mid", other)) == [(52, 0, 3)]


def test_what_never_ends_lasts_to_the_end_of_its_track_or_pedal(tmp_path: Path) -> None:
    silence = [Meta("text", text="end", time=1920)]
    assert held(written(tmp_path / "a.mid", [on(52), led(1, 0, 480)], silence)) == [(52, 0, 1)]
    assert held(written(tmp_path / "b.mid", [led(64, 127), on(52), off(52, 480)], silence)) == [(52, 0, 4)]


def test_volume_and_expression_are_factors_of_the_gain(tmp_path: Path) -> None:
    usual = [led(7, 100), led(11, 127), on(52), off(52, 480)]
    assert read_midi(written(tmp_path / "a.mid", usual)).notes == [Note(0.0, 0.5, 1.0, 52)]
    steady = [led(7, 0), on(52), off(52, 480), led(7, 127), on(53), off(53, 480), led(11, 64), on(54), off(54, 480)]
    gains = [note.gain for note in read_midi(written(tmp_path / "b.mid", steady)).notes]
    assert gains == pytest.approx([0, 1.27**2, (1.27 * 64 / 127) ** 2])
    (swell,) = read_midi(written(tmp_path / "c.mid", [led(11, 0), on(52), led(11, 127, 240), off(52, 240)])).notes
    level = swell.level.between(swell.start, 0.5)
    assert (swell.gain, level.seconds, level.values) == (1.0, [0.0, 0.25], [0.0, 1.0])


def test_a_bend_moves_a_note_to_the_nearest_key_and_on_from_there(tmp_path: Path) -> None:
    (note,) = read_midi(written(tmp_path / "a.mid", [bent(1.5), on(52), bent(-2, 240), off(52, 240)])).notes
    bend = note.bend.between(note.start, 0.5)
    assert (note.key, bend.origin, bend.seconds, bend.values) == (54, 2, [0.0, 0.25], [1.5, -2.0])
    drums = read_midi(written(tmp_path / "b.mid", [bent(2, channel=9), on(36, channel=9), off(36, 9, channel=9)]))
    assert [(drum.key, drum.bend.values[-1]) for drum in drums.notes] == [(36, pytest.approx(2, abs=1e-3))]


@pytest.mark.parametrize(
    ("parameter", "data", "key"),
    [
        ((0, 0), (12, 0), 64),  # the range of bends
        ((0, 1), (127, 127), 55),  # the fine tuning, of almost a semitone
        ((0, 2), (76, 0), 66),  # the tuning by semitones
        ((127, 127), (12, 0), 54),
    ],
)
def test_registered_parameters_tune_a_channel(
    tmp_path: Path, parameter: tuple[int, int], data: tuple[int, int], key: int
) -> None:
    chosen = [led(101, parameter[0]), led(100, parameter[1]), led(6, data[0]), led(38, data[1])]
    path = written(tmp_path / "a.mid", [*chosen, bent(2), on(52), off(52, 480)])
    assert [note.key for note in read_midi(path).notes] == [key]
    other = [led(101, 0), led(100, 0), led(99, 1), led(6, 12), bent(2), on(52), off(52, 480)]
    assert [note.key for note in read_midi(written(tmp_path / "b.mid", other)).notes] == [54]


def test_messages_that_change_nothing_are_counted(tmp_path: Path) -> None:
    init = [led(0, 0), led(10, 64), led(1, 0), led(91, 40)]
    messages = [*init, on(52), Message("aftertouch", value=9), Message("polytouch", note=52), led(1, 9), led(10, 0)]
    score = read_midi(written(tmp_path / "a.mid", [*messages, led(65, 127), led(20, 1), led(0, 8), off(52, 480)]))
    assert score.remarks == [
        "MIDI messages that change nothing here: aftertouch (2), bank select (1), modulation (1), other controllers (1), "
        "pan (1), portamento (1), reverb (1)"
    ]
    assert not read_midi(written(tmp_path / "b.mid", [*init[:3], on(52), off(52, 480)])).remarks


def test_what_is_missing_of_a_file_is_said(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.mid", [on(52), off(52, 480), on(57, 480), off(57, 480)]).read_bytes()
    (tmp_path / "cut.mid").write_bytes(whole[:-6])
    assert held(tmp_path / "cut.mid") == [(52, 0, 1), (57, 2, 1)]
    cut = "track 1 is cut off or damaged after 1.50 s"
    assert read_midi(tmp_path / "cut.mid").remarks == [f"{cut}: what comes before is played"]
    (tmp_path / "counted.mid").write_bytes(whole[:11] + b"\3" + whole[12:])
    counted = "its header counts 3 tracks, found 1: all that were found are played"
    assert read_midi(tmp_path / "counted.mid").remarks == [counted]
    unended = b"MTrk" + struct.pack(">I", len(whole) - 26) + whole[22:-4]
    (tmp_path / "both.mid").write_bytes(whole[:11] + b"\2" + whole[12:14] + unended + unended)
    both = f"{cut}, 1 other track elsewhere: what comes before is played"
    assert read_midi(tmp_path / "both.mid").remarks == [both]


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
    (tmp_path / "d").write_bytes(b"RIFF\0\0\0\0RMID")
    assert is_midi(tmp_path / "d")
    for name, found in (("a.mid", "another kind of file"), ("none.MIDI", "none"), ("none.rmi", "none")):
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
