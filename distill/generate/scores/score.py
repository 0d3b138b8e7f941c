"""Scores: timed notes from a MIDI file, or from a text pattern of hits."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from distill.drums import drum_keys
from distill.errors import ParamsError
from distill.text import several

MOST_NOTES, MOST_SECONDS = 20_000, 3600.0


@dataclass
class Contour:
    """Step function: each value, minus `origin`, holds from its time in seconds on; a channel's notes share it."""

    seconds: list[float]
    values: list[float]
    origin: float = 0.0

    def change(self, seconds: float, value: float) -> None:
        """Set the value from `seconds` on."""
        if value != self.values[-1]:
            self.seconds.append(seconds)
            self.values.append(value)

    def positions(self, start: float, end: float) -> range:
        """Indices of the values that hold between `start` and `end`."""
        first = bisect_right(self.seconds, start) - 1
        return range(first, max(first + 1, bisect_left(self.seconds, end)))

    def between(self, start: float, end: float) -> "Contour":
        """Part of the contour from `start` to `end`."""
        part = self.positions(start, end)
        return Contour(
            self.seconds[part.start : part.stop], self.values[part.start : part.stop], self.origin
        )


UNBENT, LEVEL = Contour([0.0], [0.0]), Contour([0.0], [1.0])


class Note(NamedTuple):
    """Note with its start in seconds, its length (None for a hit), its gain, and its MIDI key (None for any).

    `label` names the label to generate with, "" for none. The key of a hit is a drum on General MIDI's percussion map.
    `bend` holds semitones from `key`, which is the key nearest to the bent pitch at the start, and `level` factors of
    the gain; their times are those in the score.
    """

    start: float
    seconds: float | None
    gain: float
    key: int | None
    label: str = ""
    bend: Contour = UNBENT
    level: Contour = LEVEL

    @property
    def is_drum(self) -> bool:
        """Whether the key is a drum on the percussion map."""
        return self.seconds is None and self.key is not None

    def ended(self, seconds: float) -> "Note":
        """Note with its end at `seconds`; a constant level is multiplied into the gain."""
        note = self if self.seconds is None else self._replace(seconds=seconds - self.start)
        levels = self.level.positions(self.start, seconds)
        is_steady = len(levels) == 1
        return (
            note._replace(gain=self.gain * self.level.values[levels[0]], level=LEVEL)
            if is_steady
            else note
        )


@dataclass(frozen=True)
class Score:
    """Notes sorted by start, and the length in seconds of a loop, None for a score that ends.

    `remarks` are sentences on missing tracks and ignored messages.
    """

    notes: Sequence[Note]
    loop_seconds: float | None = None
    remarks: Sequence[str] = ()

    def with_drums(self, labels: Sequence[str]) -> tuple["Score", list[str]]:
        """Assign drum hits to labels by name, and remark on hits without one. Raises ParamsError if no note is left."""
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
        """Labels of the notes, each once."""
        return list(dict.fromkeys(note.label for note in self.notes))


def checked(notes: Sequence[Note], name: str) -> list[Note]:
    """Sort notes by start. Raises ParamsError for no notes, too many notes, or too long a score."""
    if not 0 < len(notes) <= MOST_NOTES:
        found = f"{len(notes):,}" if notes else "none"
        remedy = (
            "play fewer bars, or one track" if notes else "choose another file, or another track"
        )
        raise ParamsError(
            f"{name}: expected from 1 to {MOST_NOTES:,} notes, found {found}; {remedy}"
        )
    ordered = sorted(notes, key=lambda note: (note.start, note.key or 0))
    last = max(note.start + (note.seconds or 0) for note in ordered)
    if not last <= MOST_SECONDS:
        raise ParamsError(
            f"{name}: expected notes that last {MOST_SECONDS:.0f} s at most, found {last:.0f} s; cut it"
        )
    return ordered
