"""Keys of a kit: a MIDI key for each label, and the range of keys that plays each note of an instrument.

Labels that name drums take General MIDI's keys, the others take white keys from C1 upwards.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from distill.drums import drum_keys
from distill.errors import ParamsError
from distill.notes import KEYS, note_name, read_note
from distill.text import one_line

HATS = frozenset({42, 44, 46})  # closed, pedal, open
C1 = 24


class Place(NamedTuple):
    """MIDI key of a label, and whether it is a drum, and a hi-hat, which other hi-hats silence."""

    key: int
    is_drum: bool
    is_hat: bool


def read_keys(given: Mapping[str, int | str]) -> dict[str, int]:
    """Parse keys of labels: MIDI numbers or notes such as "F#2". Raises ParamsError, also for a duplicate key."""
    keys = dict[str, int]()
    for label, note in given.items():
        text = str(note).strip()
        key = read_note(text)
        if key is None or key in keys.values():
            other = "something else" if key is None else "the key of another label"
            raise ParamsError(
                f"keys {one_line(label, 60)}={one_line(text, 60)}: expected a key of its own, 0 to {KEYS[-1]}, or its "
                f"note, C-1 to G9, found {other}; choose another key"
            )
        keys[label] = key
    return keys


def assign_keys(
    labels: Sequence[str], known: Sequence[str], given: Mapping[str, int]
) -> list[Place]:
    """Assign a different key to each label; keys in `given` come first.

    `known` are all labels of the model, which decide whether short names are drums. A drum takes its first choice that
    is free, otherwise the next free key upwards. Other labels take free white keys from C1 upwards, then any free key.
    Raises ParamsError for more than 128 labels.
    """
    if len(labels) > len(KEYS):
        raise ParamsError(
            f"kit: expected at most {len(KEYS)} labels, one for each MIDI key, found {len(labels)}; choose some of them"
        )
    drums = dict(zip(known, drum_keys(known), strict=True))
    choices = [drums.get(label, ()) for label in labels]
    chosen = {
        position: given[label] for position, label in enumerate(labels) if label in given
    }  # keys by position
    for rank in range(max(map(len, choices), default=0)):
        for position, keys in enumerate(choices):
            if position not in chosen and rank < len(keys) and keys[rank] not in chosen.values():
                chosen[position] = keys[rank]
    white_first = sorted(KEYS[C1:], key=lambda key: "#" in note_name(key))
    drums_first = sorted(range(len(labels)), key=lambda position: not choices[position])
    for position in drums_first:
        if position not in chosen:
            start, upwards = C1, white_first
            if choices[position]:
                start = choices[position][0]
                upwards = list(KEYS[start:])
            free = (
                key for key in (*upwards, *reversed(KEYS[:start])) if key not in chosen.values()
            )
            chosen[position] = next(free)
    places = []
    for position, (label, keys) in enumerate(zip(labels, choices, strict=True)):
        key = chosen[position]
        is_hat = not HATS.isdisjoint([key] if label in given else keys)
        places.append(Place(key, is_hat or bool(keys), is_hat))
    return places


def key_ranges(notes: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Lowest and highest key that play each note; `notes` are sorted. The ranges cover all keys without overlap.

    A key plays the nearest note, or the higher of two nearest notes.
    """
    firsts = [KEYS[0], *((low + high + 1) // 2 for low, high in pairwise(notes))]
    lasts = [*(first - 1 for first in firsts[1:]), KEYS[-1]]
    ranges = zip(firsts, lasts, strict=True)  # one range more than notes if there are none
    return dict(zip(notes, ranges, strict=False))
