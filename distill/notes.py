"""Notes: names and MIDI numbers of keys (C4 is 60), and the tuning of A4."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distill.errors import ParamsError
from distill.text import one_line

KEYS = range(128)  # MIDI keys
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
CONCERT_PITCH = 440.0  # Hz of A4 for which a MIDI number equals the pitch
EXPECTED = (
    "notes such as C3, F#2 or Bb4, MIDI numbers from 0 to 127 (C4 is 60), or a range such as C2:C4"
)

Notes = int | str | Sequence[int | str]
"""Notes from a user: a number, a name, a list in one text, or a sequence of numbers and names."""


class Tuning(NamedTuple):
    """Tuning: A4 in Hz, and whether it was measured in the recordings."""

    hertz: float = CONCERT_PITCH
    is_of_recordings: bool = False

    @property
    def offset(self) -> float:
        """Semitones above the pitch for A4 = 440 Hz."""
        return 12 * math.log2(self.hertz / CONCERT_PITCH)

    @property
    def in_words(self) -> str:
        """Remark for the user, or "" if A4 is 440 Hz."""
        if self.hertz == CONCERT_PITCH:
            return ""
        source = ", as the recordings" if self.is_of_recordings else ""
        return f"notes at A = {self.hertz:g} Hz{source}"


CONCERT = Tuning()  # A4 at 440 Hz


def note_name(key: int) -> str:
    """Name of a MIDI key, where C4 is 60."""
    return f"{NAMES[key % 12]}{key // 12 - 1}"


def pitch_name(pitch: float) -> str:
    """Nearest note to a pitch in semitones (MIDI), and the deviation in cents, if any: "C4", "C4 -12 cents"."""
    cents = round(100 * (pitch - round(pitch)))
    deviation = f" {cents:+d} cents" if cents else ""
    return note_name(round(pitch)) + deviation


def read_note(text: str) -> int | None:
    """MIDI key of a number or note name such as "60", "C4", "f#2" or "Bb3"; None if invalid or not in 0 to 127."""
    if re.fullmatch(r"[0-9]{1,3}", text):
        key = int(text)
    elif parts := re.fullmatch(r"([A-Ga-g])([#♯b♭]?)(-?[0-9]{1,2})", text):
        step = {"#": 1, "♯": 1, "": 0, "b": -1, "♭": -1}[parts[2]]
        key = NAMES.index(parts[1].upper()) + step + 12 * (int(parts[3]) + 1)
    else:
        return None
    return key if key in KEYS else None


def notes_text(given: Notes) -> str:
    """Notes as one text, separated by commas."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        return str(given)
    return ",".join(map(str, given))


def read_notes(given: Notes) -> list[int]:
    """MIDI keys of notes: "C3", 60, "C3,E3,G3", "C2:C4" or a sequence of these; a range includes both ends.

    Raises ParamsError for invalid notes and for empty text.
    """
    whole, keys = notes_text(given), list[int]()
    for text in map(str.strip, whole.split(",")):
        ends = [read_note(end.strip()) for end in text.split(":")]
        first, last = ends[0], ends[-1]
        if len(ends) > 2 or first is None or last is None:
            other = one_line(text, 60) or "nothing"
            raise ParamsError(f"note {one_line(whole, 60)}: expected {EXPECTED}, found {other}")
        if first > last:
            raise ParamsError(
                f"note {one_line(text, 60)}: expected a range from a lower to a higher note, found the higher one first; "
                f"write {note_name(last)}:{note_name(first)}"
            )
        keys += range(first, last + 1)
    return keys
