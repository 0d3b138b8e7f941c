"""Finishing of sounds for a sampler: trimmed, faded, normalised."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SILENT_DB = -60.0  # dBFS: a sound whose peak is lower is silent
TRIM_DB = -60.0  # relative to the sound's peak: what is lower at both ends is cut off
PEAK_DB = -1.0  # dBFS of every finished sound
LEAD_SECONDS = 0.001  # kept before the first sample above the threshold, faded in
FADE_SECONDS = 0.02  # at the end
LEVEL_SECONDS = 0.05  # window of the level

Samples = NDArray[np.float32]  # [N]


@dataclass(frozen=True, eq=False)
class Finished:
    """A finished sound: samples `[N]` with a peak of PEAK_DB, and the level in dBFS that it had before.

    The level is the RMS of its loudest 50 ms.
    """

    samples: Samples
    level_db: float


def finish(samples: Samples, sample_rate: int) -> Finished | None:
    """Trim samples `[N]` of silence, fade the end, normalise the peak; None for a sound that is silent."""
    magnitude = np.abs(samples)
    peak = float(magnitude.max(initial=0.0))
    if peak < _gain(SILENT_DB):
        return None
    audible = np.flatnonzero(magnitude >= peak * _gain(TRIM_DB))
    start = max(0, int(audible[0]) - int(LEAD_SECONDS * sample_rate))
    kept = samples[start : int(audible[-1]) + 1].astype(np.float64)
    lead = int(audible[0]) - start
    kept[:lead] *= np.linspace(0.0, 1.0, lead, endpoint=False)
    fade = min(int(FADE_SECONDS * sample_rate), len(kept) // 2)
    kept[len(kept) - fade :] *= np.linspace(1.0, 0.0, fade)
    normalised = kept * (_gain(PEAK_DB) / np.abs(kept).max())
    return Finished(normalised.astype(np.float32), _level_db(samples, sample_rate))


def _level_db(samples: Samples, sample_rate: int) -> float:
    window = max(1, min(len(samples), round(LEVEL_SECONDS * sample_rate)))
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    return float(10 * np.log10((energy[window:] - energy[:-window]).max() / window))


def _gain(decibels: float) -> float:
    return float(10 ** (decibels / 20))
