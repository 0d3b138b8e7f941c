"""Notes of a MIDI file, as its channels play them: pedals, bends, volumes and programs."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType

from distill.errors import ParamsError
from distill.generate.scores import midi
from distill.generate.scores.score import Contour, Note, Score, checked
from distill.text import one_line, several

DRUMS = 9  # drum channel, counted from 0
PROGRAMS, MOST_VALUE = 128, 127
NO_PROGRAM = 0  # program of drums
VOLUME = 100  # initial volume of a channel
PRESSED = 64  # minimum value of a pedal that is down
SUFFIXES = (".mid", ".midi", ".rmi")


def is_midi(path: Path) -> bool:
    """Whether a file is a MIDI file, by its first bytes. Raises ParamsError if only its suffix says so."""
    begins, is_file = b"", False
    with suppress(OSError, ValueError):
        is_file = path.is_file()  # reading a pipe may block
        if is_file:
            with path.open("rb") as file:
                begins = file.read(midi.BEGINNING)
    if not midi.begins(begins) and path.suffix.lower() in SUFFIXES:
        found = "another kind of file" if is_file else "none"
        raise ParamsError(
            f"{path}: expected a MIDI file, found {found}; check the path or name another one"
        )
    return midi.begins(begins)


def read_programs(text: str) -> dict[int, str]:
    """Read labels of General MIDI programs, from 1 on, from a text such as "1=piano,34=bass". Raises ParamsError."""
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


def read_midi(
    path: Path, track: int | None = None, programs: Mapping[int, str] = MappingProxyType({})
) -> Score:
    """Read all tracks of a MIDI file, or one `track` from 1 on, with remarks on missing tracks and ignored messages.

    Gains are the square of the velocity, as in samplers. Notes on the drum channel are hits; other notes get the label
    of their program in `programs`, from 1 on. Raises ParamsError.
    """
    file = midi.read_file(path)
    if track is not None and not 1 <= track <= len(file.tracks):
        raise ParamsError(
            f"track {track}: expected one of {path}, from 1 to {len(file.tracks)}, found none; choose another"
        )
    performance = _performed(file, path, programs)
    chosen = range(len(file.tracks)) if track is None else range(track - 1, track)
    notes = [note for number in chosen for note in performance.ended.get(number, [])]
    if performance.cuts and not notes:
        raise midi.damaged(path)
    channels = [
        channel
        for channel in performance.channels.values()
        if any(number in chosen for number in channel.used)
    ]
    used = {
        program
        for channel in channels
        for number in chosen
        for program in channel.used.get(number, ())
    }
    if unused := sorted(programs.keys() - used):
        known = ", ".join(map(str, sorted(used - {NO_PROGRAM}))) or "none"
        raise ParamsError(
            f"program {unused[0]}: expected one that {path} plays, {known}, found another; correct it"
        )
    left_out = sum((channel.left_out for channel in channels), Counter[str]())
    return Score(
        checked(notes, str(path)),
        remarks=[*_missing(file, performance.cuts), *_left_out(left_out)],
    )


def _missing(file: midi.MidiFile, cuts: Mapping[int, float]) -> Iterator[str]:
    """Remarks on missing tracks, and on tracks cut off after the seconds in `cuts`."""
    if file.declared != len(file.tracks):
        counted = several(file.declared, "track")
        yield f"its header counts {counted}, found {len(file.tracks)}: all that were found are played"
    for track, seconds in [*cuts.items()][:1]:
        others = f", {several(len(cuts) - 1, 'other track')} elsewhere" * (len(cuts) > 1)
        yield f"track {track + 1} is cut off or damaged after {seconds:.2f} s{others}: what comes before is played"


def _left_out(counts: Mapping[str, int]) -> list[str]:
    """Remark on kinds of messages that are ignored, with their counts."""
    kinds = ", ".join(f"{name} ({count:,})" for name, count in sorted(counts.items()))
    return [f"MIDI messages that change nothing here: {kinds}"] * bool(kinds)


Sounding = tuple[int, Note]  # track, from 0, and a note on it
Place = tuple[int, int]  # key, and track from 0


@dataclass
class _Performance:
    """Result of a file's events: channels by port and number, ended notes by track, and ends of cut-off tracks."""

    channels: dict[tuple[int, int], "_Channel"] = field(default_factory=dict)
    ended: dict[int, list[Note]] = field(default_factory=dict)
    cuts: dict[int, float] = field(default_factory=dict)  # seconds


def _performed(file: midi.MidiFile, path: Path, programs: Mapping[int, str]) -> _Performance:
    """Play a file's events. Notes without an end last to the end of the track; pedals hold notes to the file's end."""
    default_tempo = 500_000  # microseconds in a beat if a file sets no tempo
    performance, ports, ends = _Performance(), Counter[int](), dict[int, float]()
    changed_ticks, changed, now, rate = 0, 0.0, 0.0, default_tempo / 1e6 / file.ticks_per_beat

    def end(notes: Iterable[Sounding], seconds: float) -> None:
        for track, note in notes:
            performance.ended.setdefault(track, []).append(note.ended(seconds))

    for ticks, track, status, data in file.events():
        now = ends[track] = changed + (ticks - changed_ticks) * rate
        if status == midi.CUT:
            performance.cuts[track] = now
        elif status != midi.META:
            number = status & 0xF
            channel = performance.channels.get((ports[track], number)) or _Channel(
                number == DRUMS, programs
            )
            performance.channels[ports[track], number] = channel
            end(channel.receive(status >> 4, data, track, now), now)
        elif data[0] == midi.PORT:
            ports[track] = int.from_bytes(data[1:])
        elif data[0] == midi.TEMPO and len(data) == midi.TEMPO_BYTES:
            tempo = int.from_bytes(data[1:])
            if not tempo:
                raise ParamsError(
                    f"{path}: expected a tempo, found beats that last no time; save it with another tempo"
                )
            changed_ticks, changed, rate = ticks, now, tempo / 1e6 / file.ticks_per_beat
    for channel in performance.channels.values():
        for track, note in channel.never_ended():
            end([(track, note)], ends[track])
        end(channel.all_off(), now)
    return performance


class Control(IntEnum):
    """Controllers with an effect."""

    DATA, VOLUME, EXPRESSION, DATA_FINE = 6, 7, 11, 38
    SUSTAIN, SOSTENUTO = 64, 66
    OTHER_PARAMETER_FINE, OTHER_PARAMETER, PARAMETER_FINE, PARAMETER = 98, 99, 100, 101
    ALL_SOUND_OFF, RESET, ALL_NOTES_OFF, OMNI_OFF, OMNI_ON, MONO, POLY = (
        120,
        121,
        123,
        124,
        125,
        126,
        127,
    )


BEND_RANGE, FINE_TUNING, COARSE_TUNING, NO_PARAMETER = (0, 0), (0, 1), (0, 2), (127, 127)
AFTERTOUCH, OTHER_CONTROLLERS = "aftertouch", "other controllers"
LEFT_OUT = {
    **dict.fromkeys((0, 32), "bank select"),
    **dict.fromkeys((1, 33), "modulation"),
    **dict.fromkeys((5, 37, 65, 84), "portamento"),
    **dict.fromkeys((10, 42), "pan"),
    **{67: "soft pedal", 91: "reverb", 93: "chorus"},
}
AT_REST = {10: 64}  # neutral values of controllers, if not 0


class _Channel:
    """State of a channel: keys that are down, notes held by pedals, and controllers.

    `used` holds the programs of notes by track; `left_out` counts ignored messages.
    """

    def __init__(self, is_drums: bool, programs: Mapping[int, str]) -> None:
        self.down: dict[int, dict[int, Note]] = {}  # by key and track, oldest first
        self.used: dict[int, set[int]] = {}
        self.left_out = Counter[str]()
        self._sustained: dict[Place, Note] = {}
        self._caught: dict[Place, Note] = {}  # held by the sostenuto pedal after their keys are up
        self._is_sustained, self._catching = (
            False,
            -math.inf,
        )  # _catching: time at which sostenuto went down
        self._is_drums, self._programs, self._program = (
            is_drums,
            programs,
            NO_PROGRAM if is_drums else 1,
        )
        self._volume, self._expression, self._wheel = VOLUME, MOST_VALUE, 0.0
        self._parameter = NO_PARAMETER
        self._parameters = {BEND_RANGE: [2, 0], FINE_TUNING: [64, 0], COARSE_TUNING: [64, 0]}
        self._bend, self._level = Contour([0.0], [0.0]), Contour([0.0], [1.0])

    def receive(self, kind: int, data: bytes, track: int, now: float) -> Iterable[Sounding]:
        """Apply a message and return the notes that it ends."""
        first, last = data[0], data[-1]
        if kind == midi.NOTE_ON and last:
            return self._start(first, track, last, now)
        if kind in (midi.NOTE_ON, midi.NOTE_OFF):
            return self._stop(first, track, now)
        if kind == midi.CONTROL:
            return self._control(first, last, now)
        if kind == midi.PROGRAM:
            self._program = NO_PROGRAM if self._is_drums else last + 1
        elif kind == midi.WHEEL:
            self._wheel = (last << 7 | first) / 8192 - 1
            self._follow(now)
        else:
            self.left_out[AFTERTOUCH] += 1
        return ()

    def _start(self, key: int, track: int, velocity: int, now: float) -> list[Sounding]:
        """Start a note, and end the note with the same key and track."""
        tracks, place = self.down.setdefault(key, {}), (key, track)
        before = [
            tracks.pop(track, None),
            self._sustained.pop(place, None),
            self._caught.pop(place, None),
        ]
        whole = 0 if self._is_drums else round(self._bend.values[-1])
        tracks[track] = Note(
            now,
            None if self._is_drums else 0.0,
            (velocity / MOST_VALUE) ** 2,
            key + whole,
            self._programs.get(self._program, ""),
            replace(self._bend, origin=whole),
            self._level,
        )
        self.used.setdefault(track, set()).add(self._program)
        return [(track, note) for note in before if note]

    def _stop(self, key: int, track: int, now: float) -> list[Sounding]:
        """Release a key of the track, or else of the track with the oldest note; pedals hold notes on."""
        tracks = self.down.get(key, {})
        owner = track if track in tracks else next(iter(tracks), track)
        if owner not in tracks or (owner != track and tracks[owner].start == now):
            return []
        return self._released(key, owner, tracks.pop(owner))

    def _released(self, key: int, track: int, note: Note) -> list[Sounding]:
        """End a note after its key is released, unless a pedal holds it."""
        if note.start <= self._catching:
            self._caught[key, track] = note
        elif self._is_sustained:
            self._sustained[key, track] = note
        else:
            return [(track, note)]
        return []

    def _control(self, number: int, value: int, now: float) -> Iterable[Sounding]:
        """Apply a controller and return the notes that it ends."""
        match number:
            case Control.SUSTAIN:
                self._is_sustained = value >= PRESSED
                return self._lifted()
            case Control.SOSTENUTO:
                pressed = now if self._catching == -math.inf else self._catching
                self._catching = pressed if value >= PRESSED else -math.inf
                return self._lifted()
            case Control.ALL_SOUND_OFF:
                return self.all_off()
            case (
                Control.ALL_NOTES_OFF
                | Control.OMNI_OFF
                | Control.OMNI_ON
                | Control.MONO
                | Control.POLY
            ):
                down = [
                    (key, *sounding)
                    for key, tracks in self.down.items()
                    for sounding in tracks.items()
                ]
                self.down.clear()
                return [ended for note in down for ended in self._released(*note)]
            case Control.RESET:  # volume and program stay (RP-015)
                self._is_sustained, self._catching = False, -math.inf
                self._expression, self._wheel, self._parameter = MOST_VALUE, 0.0, NO_PARAMETER
            case Control.VOLUME:
                self._volume = value
            case Control.EXPRESSION:
                self._expression = value
            case Control.PARAMETER:
                self._parameter = (value, self._parameter[1])
            case Control.PARAMETER_FINE:
                self._parameter = (self._parameter[0], value)
            case Control.OTHER_PARAMETER | Control.OTHER_PARAMETER_FINE:
                self._parameter = NO_PARAMETER
            case Control.DATA | Control.DATA_FINE if self._parameter in self._parameters:
                self._parameters[self._parameter][number == Control.DATA_FINE] = value
            case _ if value != AT_REST.get(number, 0):
                self.left_out[LEFT_OUT.get(number, OTHER_CONTROLLERS)] += 1
        self._follow(now)
        return self._lifted()

    def _follow(self, now: float) -> None:
        """Update level and bend from the controllers; volumes are squared, 40 log10 in dB, as in General MIDI."""
        self._level.change(now, (self._volume / VOLUME * self._expression / MOST_VALUE) ** 2)
        (most, cents), (tuning, fine), (keys, _) = self._parameters.values()
        tuned = keys - 64 + (tuning << 7 | fine) / 8192 - 1
        self._bend.change(now, self._wheel * (most + cents / 100) + tuned)

    def _lifted(self) -> list[Sounding]:
        """Remove and return the notes that pedals no longer hold."""
        if self._catching == -math.inf:
            self._sustained.update(self._caught)
            self._caught.clear()
        return [] if self._is_sustained else _taken(self._sustained)

    def never_ended(self) -> list[Sounding]:
        """Remove and return the notes whose keys are down."""
        down = [sounding for tracks in self.down.values() for sounding in tracks.items()]
        self.down.clear()
        return down

    def all_off(self) -> list[Sounding]:
        """Remove and return all sounding notes."""
        return self.never_ended() + _taken(self._sustained) + _taken(self._caught)


def _taken(notes: dict[Place, Note]) -> list[Sounding]:
    """Clear `notes` and return its notes with their tracks."""
    taken = [(track, note) for (_, track), note in notes.items()]
    notes.clear()
    return taken
