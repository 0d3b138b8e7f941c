"""MIDI keys of a kit: General MIDI's drum keys for names of drums, white keys upwards from C1 for the rest."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from distill.errors import ParamsError

KEYS = range(128)
FIRST_KEY = 24  # C1, where C4 is 60
NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
HATS = (42, 44, 46)  # closed, pedal, open

# Names, with the words that a label must have, and keys of General MIDI's percussion map, the first choice first.
# Earlier rules win.
_DRUMS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("hat open, hihat open, openhat, oh", (46,)),
    ("hat pedal, hihat pedal", (44,)),
    ("hat, hihat, closedhat, hh, ch", (42,)),
    ("rim, rimshot, sidestick, side stick", (37,)),
    ("clap, handclap", (39,)),
    ("kick, bd, bassdrum, bass drum", (36, 35)),
    ("snare, sd", (38, 40)),
    ("tom floor", (41, 43)),
    ("tom low, tom lo", (45, 43, 41)),
    ("tom mid", (47, 48)),
    ("tom high, tom hi", (50, 48)),
    ("tom", (41, 43, 45, 47, 48, 50)),
    ("crash", (49, 57)),
    ("ride bell", (53,)),
    ("ride", (51, 59)),
    ("china", (52,)),
    ("splash", (55,)),
    ("cymbal", (49, 57)),
    ("tambourine, tamb", (54,)),
    ("cowbell", (56,)),
    ("vibraslap", (58,)),
    ("bongo", (60, 61)),
    ("conga", (63, 64, 62)),
    ("timbale", (65, 66)),
    ("agogo", (67, 68)),
    ("cabasa", (69,)),
    ("maracas, maraca, shaker", (70,)),
    ("guiro", (73, 74)),
    ("clave", (75,)),
    ("woodblock, wood block", (76, 77)),
    ("cuica", (79, 78)),
    ("triangle", (81, 80)),
)


@dataclass(frozen=True)
class Key:
    """A MIDI key, whether its label names a drum, and whether that is a hi-hat, which other hi-hats silence."""

    number: int
    is_drum: bool = False
    is_hat: bool = False

    @property
    def name(self) -> str:
        """Its note, where C4 is 60."""
        return f"{NOTES[self.number % 12]}{self.number // 12 - 1}"


def drum_keys(label: str) -> tuple[int, ...]:
    """Drum keys for a label, the first choice first; none where the last part of the label names no drum.

    Words are compared in lower case, also in the singular; digits, signs and a capital within a word divide them.
    """
    divided = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label.split("/")[-1]).casefold()
    words = set(re.findall(r"[^\W\d_]+", divided))
    words |= {word[:-1] for word in words if len(word) > 3 and word.endswith("s")}
    rules = ((name, keys) for names, keys in _DRUMS for name in names.split(", "))
    return next((keys for name, keys in rules if words.issuperset(name.split())), ())


def assign_keys(labels: Sequence[str]) -> list[Key]:
    """A key of its own for each of at most 128 labels.

    First choices go to the first label that has them. A later one takes its next choice, else the next free key upwards.
    What names no drum takes the free white keys upwards from C1, then whatever is free. Raises ParamsError for more.
    """
    if len(labels) > len(KEYS):
        raise ParamsError(
            f"kit: expected at most {len(KEYS)} labels, one for each MIDI key, found {len(labels)}; choose some with "
            "--label"
        )
    choices = [drum_keys(label) for label in labels]
    chosen: dict[int, int] = {}  # label's position to key
    for rank in range(max(map(len, choices), default=0)):
        for position, keys in enumerate(choices):
            if position not in chosen and rank < len(keys) and keys[rank] not in chosen.values():
                chosen[position] = keys[rank]
    for position, keys in enumerate(choices):
        if keys and position not in chosen:
            upwards = [*range(keys[0], len(KEYS)), *range(keys[0] - 1, -1, -1)]
            chosen[position] = next(key for key in upwards if key not in chosen.values())
    white_first = sorted(KEYS[FIRST_KEY:], key=lambda key: "#" in Key(key).name)
    free = iter([key for key in (*white_first, *KEYS[FIRST_KEY - 1 :: -1]) if key not in chosen.values()])
    return [
        Key(chosen[position], True, keys[0] in HATS) if position in chosen else Key(next(free))
        for position, keys in enumerate(choices)
    ]
