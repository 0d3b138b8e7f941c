"""Noise floor of a recording: the noise-to-tone ratio in eight frequency bands.

It sets how much noise the decoder puts between the partials of tones: mel bands cannot tell noise from close partials.
There is one row for a short sound, and one row a second for a longer sound, as with parametric-stereo parameters.
Spectral band replication codes a noise floor in the same way (ETSI TS 126 404, 5.6.3).

Shapes: `N` samples, `T` rows, `W` windows, `K` bins of a spectrum.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from distill.audio.measure import row_count, row_of_seconds
from distill.audio.pcm import F32

EDGES = (
    0.0,
    600.0,
    1200.0,
    2000.0,
    3200.0,
    5000.0,
    7500.0,
    11_000.0,
)  # Hz, lower edges of the bands
MIDDLES: F32 = np.array(
    [300, 850, 1550, 2530, 4000, 6120, 9080, 14_000], np.float32
)  # Hz, centres of the bands
BANDS = len(EDGES)
STEPS: F32 = np.arange(
    -2.7, 0.4, 0.2, dtype=np.float32
)  # log10 noise-to-tone ratio of mel-band amplitudes
SECONDS = (
    0.046,
    0.093,
    0.186,
    0.372,
)  # short windows follow glides, long windows separate low partials
HOP_SECONDS = 0.046
# For a partial: least above the bins around, most below the loudest bin
PROMINENT_DB, RANGE_DB = 12.0, 60.0
# Bins on each side of a partial that belong to it: half the main lobe of a Blackman window
LOBE = 3
FEWEST = 0.15  # least proportion of a band's bins without partials
NEPERS = np.log(10) / 10  # nepers of power in a decibel
_AT_ONCE = 64  # windows

NoiseFloor = NDArray[np.uint8]  # [T, BANDS] step indices
TYPICAL: NoiseFloor = np.array(
    [[5, 5, 6, 7, 8, 10, 11, 12]], np.uint8
)  # for sounds that were never measured


def noise_floor(samples: F32, sample_rate: int) -> NoiseFloor:
    """Measure the noise floor `[T, BANDS]` of samples `[N]`: medians over the windows of a row, weighted by amplitude.

    Among windows of several lengths around the same centre, the window with the least noise counts in each band.
    """
    hop = round(HOP_SECONDS * sample_rate)
    middles = np.arange(min(hop // 2, len(samples) - 1), len(samples), hop)
    ratios, weights = np.full((2, len(middles), BANDS), np.inf)
    for seconds in SECONDS:
        found, loud = _proportions(
            samples, middles, 2 ** round(np.log2(seconds * sample_rate)), sample_rate
        )
        is_less = found < ratios
        ratios, weights = np.where(is_less, found, ratios), np.where(is_less, loud, weights)
    rows = row_of_seconds(middles / sample_rate, row_count(len(samples) / sample_rate))
    weights = np.where(np.isfinite(ratios), weights, 0.0)
    medians = [
        _weighted_medians(ratios[own], weights[own])
        for own in (rows == row for row in range(rows[-1] + 1))
    ]
    known = np.nan_to_num(
        np.stack(medians), posinf=STEPS[-1]
    )  # partials without gaps count as noise
    floor: NoiseFloor = np.abs(known[..., None] - STEPS).argmin(axis=2).astype(np.uint8)
    return floor


def by_frame(floor: NoiseFloor, frames: int, frame_rate: float) -> F32:
    """Log10 noise-to-tone ratio `[frames, BANDS]` of a floor, interpolated linearly between the centres of its rows."""
    middles = np.arange(len(floor)) + 0.5
    times = (np.arange(frames) + 0.5) / frame_rate
    values = STEPS[floor]
    lines = [np.interp(times, middles, values[:, band]) for band in range(BANDS)]
    return np.stack(lines, axis=1).astype(np.float32)


def _proportions(
    samples: F32, middles: NDArray[np.integer], size: int, sample_rate: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Log10 noise-to-tone ratio and summed amplitude, `[W, BANDS]` each, of `size` samples around each of `middles`."""
    smallest = 1e-9  # amplitude added to avoid log10(0)
    decoded_seconds = 0.046  # length of the decoder's window; the ratio is scaled to it
    around_hertz = 60.0  # on each side, that a partial has to stand out from
    taper = np.blackman(size + 1)[:size].astype(np.float32)
    first = np.minimum(
        np.ceil(np.array(EDGES) * size / sample_rate).astype(int), size // 2
    )  # first bin of each band
    bins, decoded = np.diff(first, append=size // 2 + 1), decoded_seconds * sample_rate
    padded = np.pad(samples.astype(np.float32), (size // 2, size))
    # Scale to amplitudes of the decoder's bands: the lobe of a partial, and all bins of unit-variance noise. The mean
    # square of a Hann window is 3/8, and noise magnitudes are Rayleigh distributed.
    of_partial = decoded / 2 * np.sqrt(4 * np.square(taper).sum() / taper.sum() ** 2)
    of_noise = np.sqrt(np.pi / 4 * 3 / 8 * decoded) * bins * (decoded / size)
    parts = []
    for start in range(0, len(middles), _AT_ONCE):
        windows = sliding_window_view(padded, size)[middles[start : start + _AT_ONCE]] * taper
        spectra = np.fft.rfft(windows)
        power = (np.square(spectra.real) + np.square(spectra.imag)) / np.square(taper).sum()
        levels = np.log(power + np.float32(1e-14))
        is_partial = _partials(levels, round(around_hertz * size / sample_rate))
        is_free = ~_widened(is_partial, LOBE)
        free, logs, peaks = (
            np.add.reduceat(values, first, axis=1)
            for values in (
                is_free.astype(np.float32),
                levels * is_free,
                np.sqrt(power) * is_partial,
            )
        )
        # Estimate the noise power from its mean logarithm, which an undetected partial hardly changes.
        noise = np.exp((logs / np.maximum(free, 1) + np.euler_gamma) / 2) * of_noise
        tone = peaks * of_partial
        ratio = np.log10((noise + smallest) / (tone + smallest))
        parts.append((np.where(free >= np.maximum(FEWEST * bins, 1), ratio, np.inf), noise + tone))
    ratios, amplitudes = zip(*parts, strict=True)
    return np.concatenate(ratios), np.concatenate(amplitudes)


def _partials(levels: F32, reach: int) -> NDArray[np.bool_]:
    """Flags `[W, K]` of bins that are peaks and stand out from the mean of `reach` bins on each side.

    `levels` `[W, K]` are natural logarithms of powers.
    """
    reach = max(8, reach)
    sums = np.cumsum(
        np.pad(levels, ((0, 0), (reach + 1, reach)), mode="edge"), axis=1, dtype=np.float64
    )
    mean = (sums[:, 2 * reach + 1 :] - sums[:, : -2 * reach - 1]) / (2 * reach + 1)
    inner = levels[:, 2:-2]
    highest = (
        (inner > levels[:, 1:-3])
        & (inner > levels[:, 3:-1])
        & (inner >= levels[:, :-4])
        & (inner >= levels[:, 4:])
    )
    stands_out = levels > np.maximum(
        mean + PROMINENT_DB * NEPERS, levels.max(axis=1, keepdims=True) - RANGE_DB * NEPERS
    )
    stands_out[:, 2:-2] &= highest
    stands_out[:, [0, 1, -2, -1]] = False
    return np.asarray(stands_out)


def _widened(chosen: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Flags `[W, K]` of chosen bins and all bins within `reach` of them."""
    widened = chosen.copy()
    for offset in range(1, reach + 1):
        widened[:, offset:] |= chosen[:, :-offset]
        widened[:, :-offset] |= chosen[:, offset:]
    return widened


def _weighted_medians(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted medians `[BANDS]` of values `[W, BANDS]`; infinite where all values are unknown."""
    order = values.argsort(axis=0)
    sums = np.take_along_axis(weights, order, 0).cumsum(axis=0)
    middle = (sums < sums[-1] / 2).sum(axis=0)
    return np.asarray(np.take_along_axis(np.take_along_axis(values, order, 0), middle[None], 0)[0])
