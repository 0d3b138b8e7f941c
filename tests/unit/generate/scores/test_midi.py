"""MIDI files as bytes: the messages that mido reads, and what is whole of files that it refuses."""

import io
import struct
from pathlib import Path
from typing import Any

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import ParamsError
from distill.generate.scores import midi
from distill.generate.scores.midi import Event, MidiFile, begins, read_file

BYTE, TICKS = st.integers(0, 126), st.integers(0, 300_000)
CHANNEL_MESSAGES = [
    st.builds(mido.Message, st.just(kind), channel=st.integers(0, 15), time=TICKS, **values)
    for kind, values in {
        "note_on": {"note": BYTE, "velocity": BYTE},
        "note_off": {"note": BYTE, "velocity": BYTE},
        "polytouch": {"note": BYTE, "value": BYTE},
        "control_change": {"control": BYTE, "value": BYTE},
        "program_change": {"program": BYTE},
        "aftertouch": {"value": BYTE},
    }.items()
]
OTHERS = [
    st.builds(mido.Message, st.just("sysex"), data=st.lists(BYTE, max_size=200), time=TICKS),
    st.builds(mido.MetaMessage, st.just("text"), text=st.text("abc", max_size=100), time=TICKS),
    st.builds(mido.MetaMessage, st.just("set_tempo"), tempo=st.integers(0, 0xFFFFFF), time=TICKS),
]
TRACKS = st.lists(st.lists(st.one_of(*CHANNEL_MESSAGES, *OTHERS), max_size=12), min_size=1, max_size=3)
NOTE = b"\x00\x90\x34\x64\x83\x60\x80\x34\x00"  # one of a beat of 480 ticks
END = b"\x00\xff\x2f\x00"


def header(tracks: int, kind: int = 1) -> bytes:
    return struct.pack(">4sIHHH", b"MThd", 6, kind, tracks, 480)


def chunk(body: bytes, name: bytes = b"MTrk") -> bytes:
    return name + struct.pack(">I", len(body)) + body


WHOLE = header(1) + chunk(NOTE + END)


def file_of(folder: Path, data: bytes) -> MidiFile:
    (folder / "a.mid").write_bytes(data)
    return read_file(folder / "a.mid")


def saved(tracks: list[list[Any]]) -> bytes:
    stream = io.BytesIO()
    mido.MidiFile(tracks=[mido.MidiTrack(messages) for messages in tracks]).save(file=stream)
    return stream.getvalue()


@given(TRACKS)
def test_messages_are_those_that_mido_reads(tracks: list[list[Any]]) -> None:
    expected = []
    for number, messages in enumerate(mido.MidiFile(file=io.BytesIO(saved(tracks))).tracks):
        ticks = 0
        for message in messages:
            ticks += message.time
            if message.type != "sysex":
                data = message.bytes()
                shown = bytes([data[1], *data[-data[2] or len(data) :]]) if data[0] == midi.META else bytes(data[1:])
                expected.append(Event(ticks, number, data[0], shown))
    chunks = saved(tracks)[14:].split(b"MTrk")[1:]
    found = MidiFile([body[4:] for body in chunks], len(chunks), 480).events()
    assert list(found) == sorted(expected, key=lambda event: event.ticks)


@settings(deadline=None)
@given(TRACKS, st.data())
def test_a_file_that_is_cut_has_the_messages_before(tracks: list[list[Any]], data: st.DataObject) -> None:
    (body,) = saved(tracks[:1])[14:].split(b"MTrk")[1:]
    whole = list(MidiFile([body[4:]], 1, 480).events())
    size = data.draw(st.integers(0, len(body) - 5))
    *before, last = MidiFile([body[4 : 4 + size]], 1, 480).events()
    assert before == whole[: len(before)]
    assert last.status == midi.CUT
    assert last.ticks <= whole[len(before)].ticks


@pytest.mark.parametrize(
    ("data", "declared", "tracks"),
    [
        (b"RIFF\x40\0\0\0RMIDdata\x23\0\0\0" + WHOLE + b"\0", 1, 1),
        (header(1) + chunk(b"abcd", b"XFIH") + chunk(NOTE + END) + chunk(b"abc", b"XFKM"), 1, 1),
        (header(3) + chunk(NOTE + END), 3, 1),
        (header(1) + chunk(NOTE + END) * 2, 1, 2),
        (header(1)[:7] + b"\x08" + header(1)[8:] + b"\0\0" + chunk(NOTE + END), 1, 1),
        (WHOLE + b"more", 1, 1),
    ],
)
def test_tracks_are_found_in_any_container(tmp_path: Path, data: bytes, declared: int, tracks: int) -> None:
    file = file_of(tmp_path, data)
    assert (file.declared, file.ticks_per_beat) == (declared, 480)
    notes = [event for event in file.events() if event.status != midi.META]
    assert len(file.tracks) == tracks
    expected = {Event(0, 0, 0x90, b"\x34\x64"), Event(480, 0, 0x80, b"\x34\x00")}
    assert {event._replace(track=0) for event in notes} == expected


@pytest.mark.parametrize(
    "body", [b"", b"\0", b"\0\x90\x34", b"\0\x34\x64", b"\xff" * 9, b"\0\xff\x01\x7f", b"\x60\x90"]
)
def test_a_track_ends_where_its_bytes_make_no_sense(body: bytes) -> None:
    note, *others = MidiFile([NOTE[:4] + body + END[:2]], 1, 480).events()
    assert note == Event(0, 0, 0x90, b"\x34\x64")
    assert others[-1].status == midi.CUT


def test_a_status_goes_on_after_other_messages_and_large_data_are_clipped() -> None:
    body = b"\0\x90\x34\x64" + b"\0\xf0\x02\x7e\xf7" + b"\0\xff\x01\x01A" + b"\0\xf8" + b"\x10\x35\xff" + END
    *notes, _ = (event for event in MidiFile([body], 1, 480).events() if event.status != midi.META or event.data[0] > 1)
    assert notes == [Event(0, 0, 0x90, b"\x34\x64"), Event(16, 0, 0x90, b"\x35\x7f")]


def test_the_first_bytes_tell_a_midi_file() -> None:
    assert begins(WHOLE[:12])
    assert begins(b"RIFF\0\0\0\0RMID")
    assert not begins(b"RIFF\0\0\0\0WAVE")
    assert not begins(b"")


@pytest.mark.parametrize("data", [b"RIFF\0\0\0\0RMIDdata", header(1), header(0), WHOLE[:17]])
def test_a_file_without_tracks_is_damaged(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ParamsError, match="expected a MIDI file, found a damaged one; save it again with the program"):
        file_of(tmp_path, data)
