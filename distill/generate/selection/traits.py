"""Traits: 63 acoustic features of a sound, with which a critic distinguishes drafts from decoded recordings.

They describe level, variation, decay and flicker of bands, noisiness of the spectrum, steadiness of partials, and the
beginning and end of the sound.

Shapes: N samples, F frames, D traits.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from distill.codec.spectral import mel_filterbank

SIZE, HOP = 2048, 512  # window and hop in samples
SECONDS = 4.0  # analysed beginning of a sound
GROUPS, BANDS = 8, 6  # groups of mel bands, and bands in a group
# Range below the loudest band, where levels are clipped; below the loudest frame
RANGE_DB, HEARD_DB = 80.0, 50.0
LINES = (4, 600)  # bins with partials, which are compared from frame to frame
LINE_GROUPS, AROUND = 4, 25  # groups of these bins; width of the moving average that is subtracted
# Floor of powers relative to the loudest bin, and floor of that bin's power
TINY, SILENT = 1e-10, 1e-12
TRAITS = 6 * GROUPS + 2 * LINE_GROUPS + 7

Doubles = NDArray[np.float64]


class TraitMeter:
    """Measure traits of sounds at one sample rate."""

    def __init__(self, sample_rate: int) -> None:
        self.rate = sample_rate
        self._bank = mel_filterbank(sample_rate, SIZE, GROUPS * BANDS).double().numpy()
        self._edges = np.geomspace(4, SIZE // 2, GROUPS + 1).astype(int)

    def __call__(self, samples: NDArray[np.floating]) -> Doubles:
        """Traits `[D]` of samples `[N]`; finite for silence, too."""
        powers = self._powers(np.asarray(samples[: int(SECONDS * self.rate)], np.float64))
        powers /= max(powers.max(), SILENT)
        loudness = 10 * np.log10(powers.sum(axis=1) + TINY)
        needs_audio = loudness > loudness.max() - HEARD_DB
        heard, course = powers[needs_audio], loudness[needs_audio] - loudness.max()
        levels = 10 * np.log10(heard @ self._bank + TINY)
        levels = np.maximum(levels - levels.max(), -RANGE_DB)
        of_bands = self._of_bands(levels)
        flatness = [_flatness(part) for part in np.split(heard, self._edges[1:-1], axis=1)]
        return np.concatenate(
            [of_bands, flatness, _lasting(heard), self._of_course(course, len(samples))]
        )

    def _powers(self, samples: Doubles) -> Doubles:
        """Power spectra `[F, bins]` of samples `[N]`, at least four frames."""
        frames = max(4, -(-len(samples) // HOP))
        padded = np.pad(samples, (SIZE // 2, frames * HOP + SIZE // 2 - len(samples)))
        windows = sliding_window_view(padded, SIZE)[: frames * HOP : HOP] * np.hanning(SIZE)
        return np.asarray(np.abs(np.fft.rfft(windows)) ** 2)

    def _of_bands(self, levels: Doubles) -> Doubles:
        """Mean, deviation, roughness, flicker and slope of each group of bands, from levels `[F, bands]` in dB."""
        steepest = 500.0  # maximum slope in dB a second
        groups = levels.reshape(len(levels), GROUPS, BANDS).mean(axis=2)
        change, seconds = np.diff(levels, axis=0), HOP / self.rate
        rough = (
            np.abs(change - change.mean(axis=1, keepdims=True))
            if len(change)
            else np.zeros((1, levels.shape[1]))
        )
        waver = (
            np.abs(np.diff(levels, n=2, axis=0))
            if len(change) > 1
            else np.zeros((1, levels.shape[1]))
        )
        time = np.arange(len(groups)) * seconds
        time -= time.mean()
        slopes = (time @ groups) / max(TINY, float(time @ time))
        means = [each.reshape(-1, GROUPS, BANDS).mean(axis=(0, 2)) for each in (rough, waver)]
        return np.concatenate(
            [groups.mean(axis=0), groups.std(axis=0), *means, slopes.clip(-steepest, steepest) / 50]
        )

    def _of_course(self, course: Doubles, samples: int) -> Doubles:
        """Log lengths, and changes, later rise, end and peak position of frame levels `[F]` in dB."""
        change = np.diff(course) if len(course) > 1 else np.zeros(1)
        lowest = np.minimum.accumulate(course)
        again = (course - lowest)[course.argmax() :].max()  # after the loudest frame
        lengths = np.log([samples / self.rate + 0.01, len(course)])
        return np.array(
            [
                *lengths,
                change.std(),
                change.mean(),
                again,
                course[-1],
                course.argmax() / len(course),
            ]
        )


def _flatness(powers: Doubles) -> float:
    """Mean spectral flatness in dB of power spectra `[F, bins]`: near 0 for white noise, far below for partials."""
    powers = powers + TINY
    return float(10 * np.log10(np.exp(np.log(powers).mean(axis=1)) / powers.mean(axis=1)).mean())


def _lasting(powers: Doubles) -> Doubles:
    """Mean and deviation, by groups of bins, of the correlation of fine spectra in neighbouring frames."""
    if len(powers) < 2:
        return np.zeros(2 * LINE_GROUPS)
    levels = np.log(powers[:, slice(*LINES)] + TINY)
    sums = np.cumsum(np.pad(levels, ((0, 0), (AROUND // 2 + 1, AROUND // 2)), mode="edge"), axis=1)
    fine = levels - (sums[:, AROUND:] - sums[:, :-AROUND]) / AROUND
    groups = np.stack(
        np.split(fine[:, : fine.shape[1] // LINE_GROUPS * LINE_GROUPS], LINE_GROUPS, axis=1)
    )
    before, after = groups[:, :-1], groups[:, 1:]
    norms = np.sqrt((before**2).sum(axis=2) * (after**2).sum(axis=2)) + TINY
    alike = (before * after).sum(axis=2) / norms
    return np.concatenate([alike.mean(axis=1), alike.std(axis=1)])
