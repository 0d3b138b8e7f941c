"""Pitch of a sound by YIN (de Cheveigné and Kawahara 2002), to measure how it changes."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

LOWEST, HIGHEST = 60.0, 800.0  # Hz
WINDOW_SECONDS, STEP_SECONDS = 0.05, 0.01
PERIODIC = 0.15  # largest normalised difference of a pitched frame
QUIET = 0.03  # level, of the sound's peak, below which a frame has no pitch
PITCHED_FRAMES = 5  # fewest of a sound with a pitch

Track = NDArray[np.float64]  # [frames], Hz, NaN where there is no pitch


def pitch_track(samples: NDArray[np.float32], sample_rate: int) -> Track:
    """Pitch of samples `[N]` every STEP_SECONDS."""
    window, step = int(WINDOW_SECONDS * sample_rate), int(STEP_SECONDS * sample_rate)
    sound = samples.astype(np.float64)
    quiet = QUIET * np.abs(sound).max(initial=0.0)
    if len(sound) <= 2 * window:
        return np.empty(0)
    pieces = sliding_window_view(sound, 2 * window)[::step]
    normalised = _differences(pieces, window, min(int(sample_rate / LOWEST), window))
    loud = np.sqrt(np.square(pieces[:, :window]).mean(axis=1)) > quiet
    shortest = int(sample_rate / HIGHEST)
    return np.array(
        [
            sample_rate / _period(one, shortest) if is_loud else np.nan
            for one, is_loud in zip(normalised, loud, strict=True)
        ]
    )


def pitch_change(one: Track, other: Track) -> float:
    """Median change in semitones, without its sign, over frames with a pitch in both; NaN with fewer than PITCHED_FRAMES."""
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < PITCHED_FRAMES:
        return float("nan")
    return float(abs(np.median(12 * np.log2(other[both] / one[both]))))


def _differences(pieces: Track, window: int, longest: int) -> Track:
    """Cumulative mean normalised difference of pieces `[frames, 2 * window]` at lags `[frames, longest + 1]` (eq. 8)."""
    size = 4 * window
    spectra, heads = np.fft.rfft(pieces, size), np.fft.rfft(pieces[:, :window], size)
    products = np.fft.irfft(spectra * heads.conj(), size)[:, : longest + 1]
    energies = np.pad(np.square(pieces).cumsum(axis=1), ((0, 0), (1, 0)))
    lags = np.arange(longest + 1)
    difference = energies[:, [window]] + energies[:, lags + window] - energies[:, lags] - 2 * products
    normalised: Track = np.ones(difference.shape)
    normalised[:, 1:] = difference[:, 1:] * lags[1:] / difference[:, 1:].cumsum(axis=1).clip(1e-12)
    return normalised


def _period(normalised: Track, shortest: int) -> float:
    """Period in samples: the first deep minimum of a normalised difference `[lags]`; NaN without one."""
    longest = len(normalised) - 1
    deep = np.flatnonzero(normalised[shortest:longest] < PERIODIC)
    if not len(deep):
        return float("nan")
    lag = shortest + int(deep[0])
    while lag + 1 < longest and normalised[lag + 1] < normalised[lag]:
        lag += 1
    before, here, after = normalised[lag - 1 : lag + 2]
    curvature = before - 2 * here + after
    return float(lag + (0.5 * (before - after) / curvature if curvature > 0 else 0.0))
