"""Traits: 63 plain numbers of a sound, by which a critic tells what a model draws from what recordings decode to.

They say how loud bands are and how they vary, decay and waver, how noisy the spectrum is, how long partials last, and how
the sound begins and ends. Shapes: N samples, F frames, G groups of bands.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from distill.codec.spectral import mel_filterbank

SIZE, HOP = 2048, 512  # samples of a window, and from one to the next
SECONDS = 4.0  # of a sound that are looked at
GROUPS, BANDS = 8, 6  # groups of mel bands, and bands of each
RANGE_DB, HEARD_DB = 80.0, 50.0  # below the loudest band, and the loudest frame: what is softer does not count
LINES = (4, 600)  # bins in which partials are followed from frame to frame
LINE_GROUPS, AROUND = 4, 25  # groups of these bins; bins whose mean a bin is compared with
STEEPEST = 500.0  # dB a second
TINY, SILENT = 1e-10, 1e-12  # of powers, beside the loudest bin's, and of that bin's: what is softer does not count
TRAITS = 6 * GROUPS + 2 * LINE_GROUPS + 7

Doubles = NDArray[np.float64]


class TraitMeter:
    """Measures the traits of sounds of a sample rate."""

    def __init__(self, sample_rate: int) -> None:
        self.rate = sample_rate
        self._bank = mel_filterbank(sample_rate, SIZE, GROUPS * BANDS).double().numpy()
        self._edges = np.geomspace(4, SIZE // 2, GROUPS + 1).astype(int)

    def __call__(self, samples: NDArray[np.floating]) -> Doubles:
        """Traits `[D]` of samples `[N]`; of silence, too."""
        powers = self._powers(np.asarray(samples[: int(SECONDS * self.rate)], np.float64))
        powers /= max(powers.max(), SILENT)
        loudness = 10 * np.log10(powers.sum(axis=1) + TINY)
        is_heard = loudness > loudness.max() - HEARD_DB
        heard, course = powers[is_heard], loudness[is_heard] - loudness.max()
        levels = 10 * np.log10(heard @ self._bank + TINY)
        levels = np.maximum(levels - levels.max(), -RANGE_DB)
        of_bands = self._of_bands(levels)
        flatness = [_flatness(part) for part in np.split(heard, self._edges[1:-1], axis=1)]
        return np.concatenate([of_bands, flatness, _lasting(heard), self._of_course(course, len(samples))])

    def _powers(self, samples: Doubles) -> Doubles:
        """Power spectra `[F, bins]`, four frames at least."""
        frames = max(4, -(-len(samples) // HOP))
        padded = np.pad(samples, (SIZE // 2, frames * HOP + SIZE // 2 - len(samples)))
        windows = sliding_window_view(padded, SIZE)[: frames * HOP : HOP] * np.hanning(SIZE)
        return np.asarray(np.abs(np.fft.rfft(windows)) ** 2)

    def _of_bands(self, levels: Doubles) -> Doubles:
        """Of groups of bands with levels `[F, bands]` in dB: means, deviations, roughness, wavering, and slopes."""
        groups = levels.reshape(len(levels), GROUPS, BANDS).mean(axis=2)
        change, seconds = np.diff(levels, axis=0), HOP / self.rate
        rough = np.abs(change - change.mean(axis=1, keepdims=True)) if len(change) else np.zeros((1, levels.shape[1]))
        waver = np.abs(np.diff(levels, n=2, axis=0)) if len(change) > 1 else np.zeros((1, levels.shape[1]))
        time = np.arange(len(groups)) * seconds
        time -= time.mean()
        slopes = (time @ groups) / max(TINY, float(time @ time))
        means = [each.reshape(-1, GROUPS, BANDS).mean(axis=(0, 2)) for each in (rough, waver)]
        return np.concatenate([groups.mean(axis=0), groups.std(axis=0), *means, slopes.clip(-STEEPEST, STEEPEST) / 50])

    def _of_course(self, course: Doubles, samples: int) -> Doubles:
        """Of the levels `[F]` of frames in dB: how they change, rise again and end, and logarithms of lengths."""
        change = np.diff(course) if len(course) > 1 else np.zeros(1)
        lowest = np.minimum.accumulate(course)
        again = (course - lowest)[course.argmax() :].max()  # after the loudest frame
        lengths = np.log([samples / self.rate + 0.01, len(course)])
        return np.array([*lengths, change.std(), change.mean(), again, course[-1], course.argmax() / len(course)])


def _flatness(powers: Doubles) -> float:
    """Mean flatness in dB of frames' power spectra `[F, bins]`: 0 of white noise, far below of partials."""
    powers = powers + TINY
    return float(10 * np.log10(np.exp(np.log(powers).mean(axis=1)) / powers.mean(axis=1)).mean())


def _lasting(powers: Doubles) -> Doubles:
    """How alike neighbouring frames' fine spectra are, by groups of bins: mean and deviation of correlations."""
    if len(powers) < 2:
        return np.zeros(2 * LINE_GROUPS)
    levels = np.log(powers[:, slice(*LINES)] + TINY)
    sums = np.cumsum(np.pad(levels, ((0, 0), (AROUND // 2 + 1, AROUND // 2)), mode="edge"), axis=1)
    fine = levels - (sums[:, AROUND:] - sums[:, :-AROUND]) / AROUND
    groups = np.stack(np.split(fine[:, : fine.shape[1] // LINE_GROUPS * LINE_GROUPS], LINE_GROUPS, axis=1))
    before, after = groups[:, :-1], groups[:, 1:]
    norms = np.sqrt((before**2).sum(axis=2) * (after**2).sum(axis=2)) + TINY
    alike = (before * after).sum(axis=2) / norms
    return np.concatenate([alike.mean(axis=1), alike.std(axis=1)])
