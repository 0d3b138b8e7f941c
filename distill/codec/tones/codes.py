"""Codes of tones: note, fine pitch in sixteenths of a semitone, and partial set with its noise floor."""

from torch import Tensor

from distill.codec.layout import TUNINGS

PARTIALS = 128  # maximum in a set
FLOORS = (
    (0.03, 0.3, 5000.0),
    (0.1, 1.0, 2500.0),
    (0.3, 1.0, 8000.0),
)  # noise to tone below, above an edge; edge (Hz)


def steps_of(note: Tensor, tuning: Tensor) -> Tensor:
    """Pitches in sixteenths of a semitone from codes of note and fine pitch."""
    return note * TUNINGS + tuning - TUNINGS // 2


def note_and_tuning(steps: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of note and fine pitch from pitches in sixteenths of a semitone."""
    steps = steps + TUNINGS // 2
    return steps // TUNINGS, steps % TUNINGS


def atoms_of(sets: int) -> int:
    """Number of partial-set codes for this number of partial sets, including the code for no tone."""
    return 1 + len(FLOORS) * sets
