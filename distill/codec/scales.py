"""Scales of pitch: semitones as in MIDI, where 69 is 440 Hz, octaves (log2 of Hz), and mel on the HTK scale.

Numbers, NumPy arrays and tensors alike.
"""

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # stages without networks use scales, too
    from torch import Tensor

A4, A4_HERTZ = 69.0, 440.0
# Limits of nearness, in cents, and their reasons.
TUNING_CENTS = 6.25  # a step of tuning, which a held note shows no more than half of
PEAK_CENTS = 8.0  # from a peak, at which a partial is worth 0.6 of it: how far noise moves peaks of long windows
FOUND_STEPS = 3  # of tuning, to each side of a peak in which a partial counts as found: more than strings are stretched
TUNED_CENTS = 20.0  # from a partial, within which a peak moves the pitch: all that count as found
APART_CENTS = (
    2 * FOUND_STEPS * TUNING_CENTS
)  # between partials of a set: nearer ones would count the same peak
CHORD_CENTS = (
    25.0  # between partials of a chord that count as one: tempered thirds are 14 from pure thirds
)
PITCH_CENTS = 50.0  # from a sound's median, of frames that have its pitch: half of a semitone
MEL_FACTOR, MEL_CORNER_HERTZ = (
    2595.0,
    700.0,
)  # mel are linear below the corner and logarithmic above it

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
    """Centres `[bands]`, in mel, of bands that are spaced alike from 0 Hz to half the sample rate."""
    return np.arange(1, bands + 1) / (bands + 1) * highest_mel(sample_rate)


def band_centres(sample_rate: int, bands: int) -> NDArray[np.float64]:
    """Centres `[bands]` of `mel_centres` in Hz."""
    centres: NDArray[np.float64] = MEL_CORNER_HERTZ * (
        10.0 ** (mel_centres(sample_rate, bands) / MEL_FACTOR) - 1.0
    )
    return centres
