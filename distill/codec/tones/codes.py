"""Codes of tones: a MIDI note, a fine pitch in sixteenths of a semitone, and a partial-set code.

A partial-set code names a set of partials and a noise floor; code 0 is no tone.
"""

from torch import Tensor

from distill.codec.layout import TUNINGS

# Noise floors: ratio of noise to tone below an edge, ratio above it, and the edge in Hz.
FLOORS = ((0.03, 0.3, 5000.0), (0.1, 1.0, 2500.0), (0.3, 1.0, 8000.0))


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
