"""MIDI file reader: the intact part of a file, and the messages of all tracks sorted by time.

Standard MIDI Files 1.0 (RP-001), plain or within RIFF (RMID, RP-029). Unknown chunks are skipped.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from typing import NamedTuple

from distill.errors import ParamsError

MOST_BYTES, MOST_TRACKS = 4 << 20, 0xFFFF  # the header's number of tracks has two bytes
HEADER, TRACK, RIFF, RMID = b"MThd", b"MTrk", b"RIFF", b"RMID"
BEGINNING = 12  # bytes that identify the file format

NOTE_OFF, NOTE_ON, KEY_PRESSURE, CONTROL, PROGRAM, PRESSURE, WHEEL = range(
    0x8, 0xF
)  # upper half of a status byte
SYSEX, META = (0xF0, 0xF7), 0xFF
END_OF_TRACK, PORT, TEMPO = 0x2F, 0x21, 0x51  # types of META
TEMPO_BYTES = 4  # with the type
CUT = 0  # status of the event that ends a cut-off track
DATA_BYTES = (
    {
        status: 1 if status >> 4 in (PROGRAM, PRESSURE) else 2
        for status in range(NOTE_OFF << 4, 0xF0)
    }
    | dict.fromkeys(range(0xF1, META), 0)
    | {0xF1: 1, 0xF2: 2, 0xF3: 1}
)

CLIPPED = bytes(min(byte, 0x7F) for byte in range(256))  # translation table for data bytes


class Event(NamedTuple):
    """Message on a track, from 0: status and data bytes; for META, `data` is the type and its bytes.

    The last event of a track is END_OF_TRACK, or CUT if the bytes end early or are malformed.
    """

    ticks: int
    track: int
    status: int
    data: bytes


@dataclass(frozen=True)
class MidiFile:
    """Bytes of each track, the number of tracks that the header declares, and the ticks in a beat."""

    tracks: list[bytes]
    declared: int
    ticks_per_beat: int

    def events(self) -> Iterator[Event]:
        """Events of all tracks, sorted by ticks, then by track."""
        return merge(
            *map(_events, range(len(self.tracks)), self.tracks), key=lambda event: event.ticks
        )


def begins(beginning: bytes) -> bool:
    """Whether a file with these first BEGINNING bytes is a MIDI file."""
    return beginning.startswith(HEADER) or (beginning.startswith(RIFF) and beginning.endswith(RMID))


def damaged(path: Path) -> ParamsError:
    """Error for a file without anything to play."""
    return ParamsError(
        f"{path}: expected a MIDI file, found a damaged one; save it again with the program that made it"
    )


def read_file(path: Path) -> MidiFile:
    """Read a file. Raises ParamsError if it is too big, or has no tracks, no beats or several songs."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ParamsError(
            f"{path}: expected a MIDI file of at most {MOST_BYTES >> 20} MB, found {size >> 20} MB"
        )
    data = path.read_bytes()
    data = data[max(0, data.find(HEADER)) :]
    if not data.startswith(HEADER) or len(data) < 14:
        raise damaged(path)
    length, kind, declared, ticks_per_beat = struct.unpack_from(">IHHh", data, 4)
    place, tracks = 8 + length, list[bytes]()
    while place + 8 <= len(data) and len(tracks) < MOST_TRACKS:
        chunk, length = struct.unpack_from(">4sI", data, place)
        place += 8 + length
        if chunk == TRACK:
            tracks.append(data[place - length : place])
    if not tracks:
        raise damaged(path)
    if kind == 2 or ticks_per_beat <= 0:
        found = (
            "one of type 2"
            if kind == 2
            else "one that counts frames of film, or nothing, for beats"
        )
        raise ParamsError(
            f"{path}: expected a MIDI file of one song with beats, found {found}; save it as type 0 or 1"
        )
    return MidiFile(tracks, declared, ticks_per_beat)


def _events(track: int, body: bytes) -> Iterator[Event]:
    """Events of a track."""
    number_bytes = 4  # maximum bytes of a variable-length number
    place = ticks = running = 0

    def taken(count: int) -> bytes:
        nonlocal place
        place += count
        if place > len(body):
            raise EOFError
        return body[place - count : place]

    def number() -> int:
        value = 0
        for _ in range(number_bytes):
            (byte,) = taken(1)
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value
        raise EOFError

    try:
        while True:
            ticks += number()
            (status,) = taken(1)
            if status < 0x80:  # running status: a data byte repeats the last status
                place, status = place - 1, running
            if status in SYSEX:
                taken(number())
            elif status == META:
                data = taken(1) + taken(number())
                yield Event(ticks, track, META, data)
                if data[0] == END_OF_TRACK:
                    return
            else:
                data = taken(DATA_BYTES[status])
                if status < SYSEX[0]:
                    running = status
                    yield Event(ticks, track, status, data.translate(CLIPPED))
    except (EOFError, KeyError):  # KeyError: a data byte before any status
        yield Event(ticks, track, CUT, b"")
