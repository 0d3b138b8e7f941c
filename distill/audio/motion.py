"""Motion metrics: whether treble decays first, pitch bends, onsets repeat, and the spectrum is noisy.

Level and spectrum metrics miss this: a sound with a frozen spectrum can still have the right mean spectrum.

Shapes: `N` samples, `T` frames, `bins` of a spectrum.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from distill.audio.measure import peak_offset

FEWEST = 5  # sounds that a median needs: with fewer there is no 90 % interval
SILENT = 1e-6  # energy relative to the loudest frame below which a band is silent: -60 dB
FLOOR = 1e-11  # power relative to the loudest bin, added to every bin
HOP_SECONDS = 0.0107
LEAST_SECONDS = 1.5  # shortest sound whose onsets are measured
IN_WORDS = {  # by metric: its description, number format and unit
    "damping": ("decay of treble less that of bass", ".0f", " dB/s"),
    "pitch_range": ("range of pitch", ".0f", " cents"),
    "pulse": ("pulse", ".2f", ""),
    "flatness": ("flatness", ".0f", " dB"),
}

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """Motion metrics of one sound; NaN where a metric is undefined.

    `damping`: slope above 3 kHz minus slope below 800 Hz, in dB/s; negative where treble decays first.
    `pitch_range`: 10th to 90th percentile of the pitch of the strongest partial, in cents.
    `pulse`: highest autocorrelation of the onsets at lags of 0.1 to 0.6 s.
    `flatness`: spectral flatness from 300 Hz to 8 kHz, in dB: -2.5 for noise, -40 for clean partials.
    `seconds`: time spent within 40 dB of the loudest frame.
    """

    damping: float
    pitch_range: float
    pulse: float
    flatness: float
    seconds: float

    @classmethod
    def measure(cls, sound: NDArray[np.floating], sample_rate: int) -> Self:
        """Measure a sound `[N]`."""
        samples = np.asarray(sound, np.float64)
        powers, hertz = _powers(samples, sample_rate, 0.043)
        return cls(
            damping=_damping(powers, hertz),
            pitch_range=_pitch_range(*_powers(samples, sample_rate, 0.085, widest=3.0)),
            pulse=_pulse(samples, sample_rate),
            flatness=_flatness(powers, hertz),
            seconds=float(
                (powers.sum(axis=1) > powers.sum(axis=1).max() * 1e-4).sum() * HOP_SECONDS
            ),
        )


class Median(NamedTuple):
    """Median of a metric with its 90 % confidence interval, and the number of sounds that have the metric."""

    value: float
    low: float
    high: float
    sounds: int


Medians = Mapping[str, Median]


def medians(sounds: Iterable[Motion]) -> Medians:
    """Medians over a set of sounds, by metric name. Leaves out metrics defined for fewer than FEWEST sounds."""
    measured, found = list(sounds), dict[str, Median]()
    for field in fields(Motion):
        values = np.array([getattr(one, field.name) for one in measured], dtype=np.float64)
        values = np.sort(values[np.isfinite(values)])
        if len(values) >= FEWEST:
            found[field.name] = Median(float(np.median(values)), *_interval(values), len(values))
    return found


def motion_line(sounds: Medians, recordings: Medians) -> str:
    """One line that compares the medians of sounds with those for recordings; "" if no metric has both."""
    said = []
    for name, (words, form, unit) in IN_WORDS.items():
        if name in sounds and name in recordings:
            own = sounds[name]
            middle, low, high, other = (
                f"{number:{form}}" for number in (*own[:3], recordings[name].value)
            )
            said.append(f"{words} {middle}{unit} ({low} to {high}), of held-out recordings {other}")
    return f"motion, medians with intervals: {'; '.join(said)}" if said else ""


def _interval(values: Doubles) -> tuple[float, float]:
    """90 % confidence interval for the median of sorted values, by the sign test."""
    count, outside = len(values), 0
    while sum(math.comb(count, more) for more in range(outside + 2)) <= 0.05 * 2**count:
        outside += 1
    return float(values[outside]), float(values[count - 1 - outside])


def _powers(
    sound: Doubles, sample_rate: int, seconds: float, widest: float = math.inf
) -> tuple[Doubles, Doubles]:
    """Power spectra `[T, bins]` of Hann windows of about `seconds`, and the bin frequencies in Hz.

    With `widest`, bins are at most that many Hz apart: windows are padded to a power of two, as other lengths are slow.
    """
    size, hop = 2 * round(seconds * sample_rate / 2), round(HOP_SECONDS * sample_rate)
    points = max(size, 1 << (math.ceil(sample_rate / widest) - 1).bit_length())
    padded = np.pad(sound, (size // 2, size // 2 + hop))
    windows, taper, at_once = sliding_window_view(padded, size)[::hop], np.hanning(size + 1)[:-1], 8
    powers: Doubles = np.empty((len(windows), points // 2 + 1))
    for first in range(
        0, len(windows), at_once
    ):  # spectra of one block stay in the processor's cache
        spectra = np.fft.rfft(windows[first : first + at_once] * taper, points)
        powers[first : first + at_once] = np.square(spectra.real) + np.square(spectra.imag)
    hertz: Doubles = np.asarray(np.arange(powers.shape[1]) * (sample_rate / points), np.float64)
    return powers, hertz


def _damping(powers: Doubles, hertz: Doubles) -> float:
    """Slope above 3 kHz minus slope below 800 Hz in dB/s, each over the first 40 dB of decay."""
    high, low = (
        _decay(powers, (hertz >= least) & (hertz < most))
        for least, most in ((3000, 11_000), (60, 800))
    )
    return high - low


def _decay(powers: Doubles, band: NDArray[np.bool_]) -> float:
    """Slope in dB/s of a band of spectra `[T, bins]` from its loudest frame on; NaN if silent or too short."""
    least, energies = powers.sum(axis=1).max() * SILENT, powers[:, band].sum(axis=1)
    if energies.max() < max(least, 1e-300):
        return math.nan
    tail = 10 * np.log10(energies[energies.argmax() :] + 1e-300)
    is_heard = tail > max(tail[0] - 40.0, 10 * np.log10(least))
    frames = len(tail) if is_heard.all() else int(is_heard.argmin())
    return (
        float(np.polyfit(np.arange(frames) * HOP_SECONDS, tail[:frames], 1)[0])
        if frames >= 6
        else math.nan
    )


def _pitch_range(powers: Doubles, hertz: Doubles) -> float:
    """Pitch range in cents of the strongest partial, tracked both ways from the loudest frame; NaN if lost early."""
    lobe_hertz = 70.0  # on each side of a partial: three times the spread of its window
    inside = (hertz > 90.0) & (hertz < 5000.0)
    powers, hertz = powers[:, inside], hertz[inside]
    octaves, energies = np.log2(hertz), powers.sum(axis=1)
    is_loud = energies > max(energies.max() * 1e-3, 1e-300)
    first, course = int(energies.argmax()), dict[int, float]()
    for direction in (1, -1):
        frame, at = first, int(powers[first].argmax())
        while 0 <= frame < len(powers) and is_loud[frame]:
            near = np.flatnonzero(np.abs(octaves - octaves[at]) < 0.12)
            at = int(near[powers[frame, near].argmax()])
            around = np.abs(hertz - hertz[at]) < max(
                0.083 * hertz[at], lobe_hertz
            )  # an eighth of an octave or more
            if powers[frame, at] < 4 * np.median(powers[frame, around]):
                break
            if 0 < at < len(octaves) - 1:
                levels = np.log(powers[frame, at - 1 : at + 2] + 1e-300)
                step = octaves[at + 1] - octaves[at]
                course[frame] = octaves[at] + step * float(peak_offset(*levels))
            frame += direction
    if len(course) < max(12, 0.6 * is_loud.sum()):
        return math.nan
    low, high = np.percentile(list(course.values()), [10, 90])
    return float(1200 * (high - low))


def tempo(sound: NDArray[np.floating], sample_rate: int) -> float:
    """Tempo of a sound `[N]` in beats a minute, 70 to 180; NaN if its onsets do not repeat.

    Tempos near 120 are favoured, since several tempos may explain the same onsets.
    """
    repeating = 0.45  # least repetition of the onsets for a tempo
    alike = _unbiased_autocorrelation(_onsets(np.asarray(sound, np.float64), sample_rate))
    if _repetition(alike, 1 / HOP_SECONDS) < repeating:
        return math.nan
    tempos = np.arange(70.0, 180.5, 0.5)
    beats = 60 / tempos / (round(HOP_SECONDS * sample_rate) / sample_rate)  # frames in a beat
    places = beats * np.array([[0.25], [0.5], [1], [2], [3], [4]])
    found = np.interp(places, np.arange(len(alike)), alike)
    explained = np.average(found, axis=0, weights=places < 0.8 * len(alike))
    return float(tempos[np.argmax(explained - 0.2 * np.abs(np.log2(tempos / 120)))])


def _pulse(sound: Doubles, sample_rate: int) -> float:
    """Highest autocorrelation of the onsets at lags of 0.1 to 0.6 s; NaN for sounds shorter than 1.5 s."""
    alike = _autocorrelation(_onsets(sound, sample_rate))
    return float(max(alike[round(0.1 / HOP_SECONDS) : round(0.6 / HOP_SECONDS)], default=math.nan))


def _onsets(sound: Doubles, sample_rate: int) -> Doubles:
    """Onset strength `[T]` of a sound, the summed rise of its levels; empty for sounds shorter than 1.5 s."""
    if len(sound) < LEAST_SECONDS * sample_rate:
        return np.empty(0)
    powers, _ = _powers(sound, sample_rate, 0.021)
    floor = 1e-4 * math.sqrt(float(powers.max(initial=1e-300)))
    onsets: Doubles = np.maximum(np.diff(np.log(np.sqrt(powers) + floor), axis=0), 0).sum(axis=1)
    return onsets


def _unbiased_autocorrelation(onsets: Doubles) -> Doubles:
    """Autocorrelation `[T]` of onsets `[T]`, scaled up at long lags, which compare fewer frames."""
    alike = _autocorrelation(onsets)
    return alike * (len(alike) / np.arange(len(alike), 0, -1))


def _autocorrelation(onsets: Doubles) -> Doubles:
    """Autocorrelation `[T]` of onsets `[T]`, 1 at lag 0; empty if all onsets are equal."""
    varied = onsets - onsets.mean() if len(onsets) else onsets
    both: Doubles = (
        np.correlate(varied, varied, "full")[len(varied) - 1 :] if varied.any() else np.empty(0)
    )
    return both / both[0] if len(both) else both


def _repetition(alike: Doubles, frame_rate: float) -> float:
    """Strength of repetition, from the unbiased autocorrelation `[T]` of onsets; -1 if there are too few frames.

    The best lag from 0.2 to 1.2 s counts. It scores the smaller of its correlation and that at twice the lag, minus the
    minimum at shorter lags: onsets of sounds that swell or fade correlate at all short lags.
    """
    lags = range(round(0.2 * frame_rate), min(round(1.2 * frame_rate), int(0.4 * len(alike))))
    twice = (
        alike[2 * lag - 1 : 2 * lag + 2].max() for lag in lags
    )  # a beat is not a whole number of frames
    repeats = (
        min(alike[lag], again) - alike[:lag].min() for lag, again in zip(lags, twice, strict=True)
    )
    return float(max(repeats, default=-1.0))


def _flatness(powers: Doubles, hertz: Doubles) -> float:
    """Spectral flatness from 300 Hz to 8 kHz in dB: the median over frames within 40 dB of the loudest."""
    energies = powers.sum(axis=1)
    band = (
        powers[energies > energies.max() * 1e-4][:, (hertz > 300) & (hertz < 8000)]
        + FLOOR * powers.max()
    )
    if not band.any():
        return math.nan
    return float(np.median(10 * (np.log10(band).mean(axis=1) - np.log10(band.mean(axis=1)))))
