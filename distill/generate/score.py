"""Scores: notes with their times, of a MIDI file or of a pattern of hits written as text."""

import io
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from distill.drums import drum_keys
from distill.errors import ParamsError
from distill.text import one_line, several

MOST_NOTES, MOST_SECONDS, MOST_BYTES = 20_000, 3600.0, 4 << 20
BEATS = 4  # of a bar
GAINS = {"X": 1.0, "x": 0.7, "o": 0.35}  # of hits: an accent, a hit, a ghost note
SWUNG = 1 / 3  # of a step, by which every second one is late at a swing of 1: the last of three
DRUMS = 9  # the channel of drums, from 0
PROGRAMS, MOST_VELOCITY = 128, 127
SUSTAIN, PRESSED = 64, 64  # the controller of the pedal, and the value from which it is down
MIDI, SUFFIXES = b"MThd", (".mid", ".midi")


class Note(NamedTuple):
    """A note: its start in seconds, how long it is held, None for a hit, its gain, and its MIDI key, None for any.

    `label` is the name of the label that it is drawn with, "" where the score names none. A hit with a key has that of a
    drum on the percussion map of General MIDI.
    """

    start: float
    seconds: float | None
    gain: float
    key: int | None
    label: str = ""

    @property
    def is_drum(self) -> bool:
        """Whether its key is that of a drum."""
        return self.seconds is None and self.key is not None


@dataclass(frozen=True)
class Score:
    """Notes in the order of their starts, and the length in seconds of a loop, None for a score that ends."""

    notes: Sequence[Note]
    loop_seconds: float | None = None

    def with_drums(self, labels: Sequence[str]) -> tuple["Score", list[str]]:
        """The score with hits of labels in place of drums, and a remark where some have none. Raises ParamsError."""
        by_key: dict[int | None, str] = {}
        for label, keys in zip(labels, drum_keys(labels), strict=True):
            by_key |= {key: label for key in keys if key not in by_key}
        notes = [
            note._replace(key=None, label=by_key[note.key]) if note.is_drum else note
            for note in self.notes
            if not note.is_drum or note.key in by_key
        ]
        if not notes:
            raise ParamsError(
                "drums: expected labels that name these drums, such as kick, snare or hat, found none; choose another track, "
                "or train with folders of such names"
            )
        left_out = len(self.notes) - len(notes)
        remark = f"{several(left_out, 'hit')} of drums left out: no label names {'it' if left_out == 1 else 'them'}"
        return replace(self, notes=notes), [remark] * bool(left_out)

    @property
    def labels(self) -> list[str]:
        """The labels, each once."""
        return list(dict.fromkeys(note.label for note in self.notes))


def read_pattern(text: str, bpm: float, bars: int, swing: float) -> Score:
    """The score of a pattern such as "kick:x...x... snare:....x...": of each label the steps of a bar, as many as there are.

    `x` is a hit, `X` a louder and `o` a softer one, `.` or `-` a rest. It goes on for so many bars of four beats, of which
    there are `bpm` in a minute, and every second step is late by `swing`, from 0 to 1. Raises ParamsError.
    """
    shown = one_line(text, 60)
    lines = list(_lines(text))
    if not any(step in GAINS for _, steps in lines for step in steps):
        found = (
            "rests alone; add a hit" if lines else "something else; write x, X, o, . or - after each label and a colon"
        )
        raise ParamsError(
            f"pattern {shown}: expected labels and their steps, such as kick:x...x... snare:....x..., found {found}"
        )
    bar = BEATS * 60 / bpm
    if bars * bar > MOST_SECONDS:
        raise ParamsError(
            f"bars {bars}: expected at most {MOST_SECONDS:.0f} s, found {bars * bar:.0f} s at {bpm:g} bpm; give fewer bars"
        )
    notes = []
    for label, steps in lines:
        for number, step in enumerate(steps):
            late = SWUNG * swing * (number % 2)
            notes += [
                Note((repeat + (number + late) / len(steps)) * bar, None, GAINS[step], None, label)
                for repeat in range(bars)
                if step in GAINS
            ]
    return Score(_checked(notes, f"pattern {shown}"), bars * bar)


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Labels and steps of a pattern; none where a part of it is neither."""
    part = re.compile(rf"[\s,;]*([^:\s,;][^:]*):\s*([{''.join(GAINS)}.|-]+)(?=[\s,;]|$)")
    found, place = [], 0
    while place < len(text.rstrip(" ,;\t\n")):
        match = part.match(text, place)
        steps = match[2].replace("|", "") if match else ""
        if match is None or not steps:
            return
        found.append((match[1].strip(), steps))
        place = match.end()
    yield from found


def is_midi(path: Path) -> bool:
    """Whether a file is a MIDI file, by its first bytes. Raises ParamsError where only its name says so."""
    begins, is_file = b"", False
    with suppress(OSError, ValueError):
        is_file = path.is_file()  # a pipe may never say anything
        if is_file:
            with path.open("rb") as file:
                begins = file.read(len(MIDI))
    if begins != MIDI and path.suffix.lower() in SUFFIXES:
        found = "another kind of file" if is_file else "none"
        raise ParamsError(f"{path}: expected a MIDI file, found {found}; check the path or name another one")
    return begins == MIDI


def read_programs(text: str) -> dict[int, str]:
    """Labels of General MIDI's programs, from 1 on, of a text such as "1=piano,34=bass". Raises ParamsError."""
    programs: dict[int, str] = {}
    for part in text.split(","):
        number, _, label = map(str.strip, part.partition("="))
        if (
            not (re.fullmatch(r"[0-9]{1,3}", number) and 1 <= int(number) <= PROGRAMS and label)
            or int(number) in programs
        ):
            raise ParamsError(
                f"program {one_line(text, 60)}: expected programs, from 1 to {PROGRAMS}, each once, and their labels, such "
                f"as 1=piano,34=bass, found {one_line(part, 40) or 'nothing'}"
            )
        programs[int(number)] = label
    return programs


def read_midi(path: Path, track: int | None = None, programs: Mapping[int, str] = MappingProxyType({})) -> Score:
    """The score of a MIDI file, of all tracks or of one, from 1 on: notes, velocities, the pedal and changes of tempo.

    A gain is the square of the velocity, as samplers have it. Notes of the channel of drums are hits; others have the
    labels of their `programs`, from 1 on. Raises ParamsError.
    """
    file = _parsed(path)
    tracks, seconds_at = file.tracks, _clock(file, path)
    if track is not None:
        if not 1 <= track <= len(tracks):
            raise ParamsError(
                f"track {track}: expected one of {path}, from 1 to {len(tracks)}, found none; choose another"
            )
        tracks = [tracks[track - 1]]
    used = set[int]()
    notes = [note for messages in tracks for note in _notes(messages, seconds_at, programs, used)]
    if unused := sorted(programs.keys() - used):
        known = ", ".join(map(str, sorted(used))) or "none"
        raise ParamsError(f"program {unused[0]}: expected one that {path} plays, {known}, found another; correct it")
    return Score(_checked(notes, str(path)))


def _checked(notes: Sequence[Note], name: str) -> list[Note]:
    """Notes in the order of their starts. Raises ParamsError for none, for too many, and for too long a score."""
    if not 0 < len(notes) <= MOST_NOTES:
        found = f"{len(notes):,}" if notes else "none"
        remedy = "play fewer bars, or one track" if notes else "choose another file, or another track"
        raise ParamsError(f"{name}: expected from 1 to {MOST_NOTES:,} notes, found {found}; {remedy}")
    ordered = sorted(notes, key=lambda note: (note.start, note.key or 0))
    last = max(note.start + (note.seconds or 0) for note in ordered)
    if not last <= MOST_SECONDS:
        raise ParamsError(f"{name}: expected notes that last {MOST_SECONDS:.0f} s at most, found {last:.0f} s; cut it")
    return ordered


def _parsed(path: Path) -> Any:
    """The file as mido reads it. Raises ParamsError."""
    import mido
    from mido.midifiles.meta import KeySignatureError

    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ParamsError(f"{path}: expected a MIDI file of at most {MOST_BYTES >> 20} MB, found {size >> 20} MB")
    try:
        file = mido.MidiFile(file=io.BytesIO(path.read_bytes()), clip=True)
    except (EOFError, LookupError, OSError, ValueError, KeySignatureError, struct.error) as error:
        raise ParamsError(
            f"{path}: expected a MIDI file, found a damaged one; save it again with the program that made it"
        ) from error
    if file.type == 2 or file.ticks_per_beat <= 0:
        kind = "one of type 2" if file.type == 2 else "one that counts frames of film, or nothing, for beats"
        raise ParamsError(f"{path}: expected a MIDI file of one song with beats, found {kind}; save it as type 0 or 1")
    return file


def _clock(file: Any, path: Path) -> "_Clock":
    """Seconds of ticks, by the changes of tempo in all tracks. Raises ParamsError for a tempo of 0."""
    changes = {0: 500_000}  # microseconds of a beat, where a file names none
    for messages in file.tracks:
        ticks = 0
        for message in messages:
            ticks += message.time
            if message.type == "set_tempo":
                changes[ticks] = message.tempo
    if 0 in changes.values():
        raise ParamsError(f"{path}: expected a tempo, found beats that last no time; save it with another tempo")
    return _Clock(sorted(changes.items()), file.ticks_per_beat)


class _Clock:
    """Turns ticks into seconds, given the ticks from which on beats last so many microseconds."""

    def __init__(self, changes: Sequence[tuple[int, int]], ticks_per_beat: int) -> None:
        self._ticks = [ticks for ticks, _ in changes]
        self._seconds_per_tick = [tempo / 1e6 / ticks_per_beat for _, tempo in changes]
        self._seconds = [0.0]
        for (first, second), rate in zip(
            zip(self._ticks, self._ticks[1:], strict=False), self._seconds_per_tick, strict=False
        ):
            self._seconds.append(self._seconds[-1] + (second - first) * rate)

    def __call__(self, ticks: int) -> float:
        """Seconds at so many ticks."""
        place = bisect_right(self._ticks, ticks) - 1
        return self._seconds[place] + (ticks - self._ticks[place]) * self._seconds_per_tick[place]


def _notes(messages: Any, seconds_at: _Clock, programs: Mapping[int, str], used: set[int]) -> Iterator[Note]:
    """The notes of a track, whose programs are added to those that are `used`.

    One that is played again ends before; what never ends lasts to the end of the track.
    """
    sounding: dict[tuple[int, int], Note] = {}  # by channel and key
    held: dict[tuple[int, int], None] = {}  # keys that only the pedal holds
    pedals: set[int] = set()
    playing: dict[int, int] = {}  # programs of channels
    ticks = 0

    def ended(which: tuple[int, int]) -> Iterator[Note]:
        held.pop(which, None)
        if which in sounding:
            note = sounding.pop(which)
            yield note._replace(seconds=None if which[0] == DRUMS else seconds_at(ticks) - note.start)

    for message in messages:
        ticks += message.time
        if message.type == "program_change":
            playing[message.channel] = message.program + 1
        elif message.type == "control_change" and message.control == SUSTAIN:
            if message.value >= PRESSED:
                pedals.add(message.channel)
            else:
                pedals.discard(message.channel)
                for which in [which for which in held if which[0] == message.channel]:
                    yield from ended(which)
        elif message.type in ("note_on", "note_off"):
            which = (message.channel, message.note)
            if message.type == "note_on" and message.velocity:
                yield from ended(which)
                label = ""
                if message.channel != DRUMS:
                    program = playing.get(message.channel, 1)
                    label = programs.get(program, "")
                    used.add(program)
                gain = (message.velocity / MOST_VELOCITY) ** 2
                sounding[which] = Note(seconds_at(ticks), None, gain, message.note, label)
            elif message.channel in pedals:
                held[which] = None
            else:
                yield from ended(which)
    for which in list(sounding):
        yield from ended(which)
