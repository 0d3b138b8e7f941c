"""Pitch scales: semitones (MIDI, 69 is 440 Hz), octaves (log2 of Hz), and mel (HTK).

Functions of type `Numbers` accept floats, NumPy arrays and tensors.
"""

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # stages without networks use scales, too
    from torch import Tensor

A4, A4_HERTZ = 69.0, 440.0
# Tolerances in cents, and their reasons.
TUNING_CENTS = 6.25  # a step of fine pitch; the error is at most half a step
PEAK_CENTS = 8.0  # distance from a peak at which a partial scores 0.6 of it: noise moves peaks of long windows this far
FOUND_STEPS = 3  # of fine pitch: largest distance of a partial from its peak; exceeds the inharmonicity of strings
TUNED_CENTS = 20.0  # peaks within this distance of a partial refine the pitch; includes the range of FOUND_STEPS
# Least distance between partials of a set: closer partials would count the same peak.
APART_CENTS = 2 * FOUND_STEPS * TUNING_CENTS
# Partials of a chord this close are merged: tempered thirds are 14 from pure thirds.
CHORD_CENTS = 25.0
# Largest distance of a frame from the median pitch of its sound: half a semitone.
PITCH_CENTS = 50.0
# The mel scale is linear below the corner, logarithmic above it.
MEL_FACTOR, MEL_CORNER_HERTZ = 2595.0, 700.0

Numbers = TypeVar("Numbers", float, NDArray[np.float64], "Tensor")


def hertz(pitch: Numbers) -> Numbers:
    """Frequency in Hz of a pitch in semitones."""
    frequency: Numbers = A4_HERTZ * 2.0 ** ((pitch - A4) / 12.0)
    return frequency


def octaves(pitch: Numbers) -> Numbers:
    """Log2 of the frequency in Hz of a pitch in semitones."""
    return (pitch - A4) / 12 + math.log2(A4_HERTZ)


def semitones(octaves: Numbers) -> Numbers:
    """Pitch in semitones of the log2 of a frequency in Hz."""
    return 12 * (octaves - math.log2(A4_HERTZ)) + A4


def highest_mel(sample_rate: int) -> float:
    """Half the sample rate, in mel."""
    return MEL_FACTOR * math.log10(1.0 + sample_rate / 2 / MEL_CORNER_HERTZ)


def mel_centres(sample_rate: int, bands: int) -> NDArray[np.float64]:
    """Centres `[bands]`, in mel, of evenly spaced bands from 0 Hz to half the sample rate."""
    return np.arange(1, bands + 1) / (bands + 1) * highest_mel(sample_rate)


def band_centres(sample_rate: int, bands: int) -> NDArray[np.float64]:
    """Centres `[bands]` of `mel_centres` in Hz."""
    centres: NDArray[np.float64] = MEL_CORNER_HERTZ * (
        10.0 ** (mel_centres(sample_rate, bands) / MEL_FACTOR) - 1.0
    )
    return centres
