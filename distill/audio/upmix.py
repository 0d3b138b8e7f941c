"""Two channels of a mono sound and its image: level difference and coherence in bands, as parametric stereo has them.

In every band the channels are sums of the sound and of a side signal, turned by angles whose difference has the
coherence as its cosine (Breebaart et al. 2005, "Parametric coding of stereo audio", section 5.3). Where the coherence is
positive the side signal has opposite signs, so that it is not in the sum of the channels; where it is -1 they are
opposite, without any. The side signal is the noise of the decoder, which is drawn a second time, as far as a band is
noise, and beyond that the sound through a filter of velvet noise (Välimäki et al. 2017), which is silent at onsets.

Shapes: `N` samples, `T` frames of the STFT, `K` its bins, `R` rows of an image.
"""

from functools import cache, partial
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.ndimage import uniform_filter1d
from scipy.signal import oaconvolve

from distill.audio.image import BANDS, Image, dequantised
from distill.audio.pcm import F32

WINDOW_SECONDS = 0.046
CHUNK_FRAMES = 256  # of the STFT that are held at once
SMOOTHED = 4  # frames on each side over which powers are smoothed
SMOOTHED_BINS, ONSET_BINS = 3, 15  # over which they are smoothed twice, elsewhere and at onsets
EDGE = 0.15  # of a band, on both sides of its edges, over which gains go from one band to the next
VELVET_SECONDS, VELVET_DECAY_DB, VELVET_DENSITY = 0.03, 20.0, 1500.0  # of impulses in a second
BEFORE_SECONDS, ONSET_SECONDS, ONSET_STEP, ONSET_DB = (
    0.015,
    0.02,
    0.005,
    10.0,
)  # the filter is silent for so long after such a rise
SOFTEST_DB = -50.0  # of an onset, relative to the loudest step
MOST_GAIN = 3.0  # of the filtered sound, without what it has of the sound itself
MOST_EVEN = 2.0  # the same of the whole side
LEAST_TURN = 0.05  # of the filter at a tone, beside its amplitude of about 1

Complex = NDArray[np.complexfloating]
Doubles = NDArray[np.float64]


def upmixed(sound: F32, other: F32, image: Image, sample_rate: int, width: float = 1.0) -> F32:
    """Channels `[N, 2]` of a sound `[N]`, of `other` `[N]`, the same with its noise drawn again, and an image.

    `width` scales level difference and incoherence: at 0 both channels are the sound. The mean power of both is that of
    the sound in every band. Equal arguments give equal samples.
    """
    if not len(image) or not width or not len(sound):
        return np.stack([sound, sound], axis=1)
    stft, course = Stft(sample_rate), _Course(image, width)
    filtered, gains = oaconvolve(sound, _velvet(sample_rate))[: len(sound)], between_onsets(sound, sample_rate)
    difference = (sound - other) * np.float32(np.sqrt(0.5))
    frames, weights = stft.frames_for(len(sound)), _weights(stft.size, sample_rate)
    usual, at_onsets = (np.zeros((2, stft.padded(len(sound))), np.float32) for _ in range(2))
    context = 3 * SMOOTHED  # powers of a side are those of parts that are made of powers of others
    for start in range(0, frames, CHUNK_FRAMES):
        stop = min(frames, start + CHUNK_FRAMES)
        first, last = max(0, start - context), min(frames, stop + context)
        whole, noise, echo = (stft(signal, first, last) for signal in (sound, difference, filtered))
        seconds = (np.arange(first, last) * stft.hop - stft.before + stft.size / 2) / sample_rate
        panning = _Panning(*course(seconds), weights, _smoothing(last - first))
        stft.add(usual, panning.channels(whole, noise, echo)[:, start - first : stop - first], start)
        if stft.least(gains, start, stop) < 1:
            made = panning.channels(whole, noise, None)
            stft.add(at_onsets, made[:, start - first : stop - first], start)
    inside = slice(stft.before, stft.before + len(sound))
    return np.ascontiguousarray((gains * usual[:, inside] + (1 - gains) * at_onsets[:, inside]).T)


class Stft:
    """STFT of real signals, with the same window, a root of Hann's, for analysis and synthesis, a quarter of it a hop."""

    def __init__(self, sample_rate: int) -> None:
        self.size = max(64, int(2 ** round(np.log2(sample_rate * WINDOW_SECONDS))))
        self.hop = self.size // 4
        self.before = self.size - self.hop  # zeros before a signal, so that as many windows hold each of its samples
        window = np.sin(np.pi * np.arange(self.size) / self.size)
        self._window = window.astype(np.float32)

    def frames_for(self, samples: int) -> int:
        """Number of frames that hold so many samples."""
        return -(-(samples + self.before) // self.hop)

    def padded(self, samples: int) -> int:
        """Number of samples that the frames of so many reach over."""
        return (self.frames_for(samples) - 1) * self.hop + self.size

    def __call__(self, signal: F32, first: int, last: int) -> Complex:
        """Spectra `[last - first, K]` of some frames of a signal `[N]`."""
        begin, end = first * self.hop - self.before, (last - 1) * self.hop - self.before + self.size
        piece = signal[max(0, begin) : max(0, end)]
        piece = np.pad(piece, (max(0, -begin), end - max(0, begin) - len(piece)))
        windows = sliding_window_view(piece, self.size)[:: self.hop]
        spectra: Complex = rfft(windows * self._window, axis=1)
        return spectra

    def least(self, gains: F32, first: int, last: int) -> float:
        """The least of gains `[N]` in some frames."""
        begin, end = first * self.hop - self.before, (last - 1) * self.hop - self.before + self.size
        return float(gains[max(0, begin) : max(0, end)].min(initial=1))

    def add(self, padded: F32, spectra: Complex, first: int) -> None:
        """Add the signals of spectra `[C, T, K]` to padded ones `[C, N]`, from a frame on."""
        overlap = np.float32(2)  # sum of the squared windows over a sample
        windows = irfft(spectra, self.size, axis=-1) * (self._window / overlap)
        for number in range(windows.shape[1]):
            start = (first + number) * self.hop
            padded[:, start : start + self.size] += windows[:, number]


class _Course:
    """Level differences and angles between the channels over time, between the middles of an image's rows."""

    def __init__(self, image: Image, width: float) -> None:
        level, coherence = dequantised(image)
        self._level = width * level
        self._angle = np.arccos((1 - width * (1 - coherence)).clip(-1, 1))

    def __call__(self, seconds: Doubles) -> tuple[Doubles, Doubles]:
        """Level differences in dB and angles, `[T, BANDS]` each, at some times `[T]`: a row is for a second."""
        place = (seconds - 0.5).clip(0, len(self._level) - 1)
        row = np.minimum(place.astype(int), max(0, len(self._level) - 2))
        part = (place - row)[:, None]
        after = np.minimum(row + 1, len(self._level) - 1)
        level, angle = ((1 - part) * rows[row] + part * rows[after] for rows in (self._level, self._angle))
        return level, angle


class _Weights(NamedTuple):
    """Which bins a band holds, `sums` `[K, BANDS]`, and how its gains are spread over bins, `spread` `[BANDS, K]`."""

    sums: F32
    spread: F32


@cache
def _weights(size: int, sample_rate: int) -> _Weights:
    erb = 21.4 * np.log10(1 + 0.00437 * np.fft.rfftfreq(size, 1 / sample_rate))
    positions = erb * (BANDS / erb[-1])  # [K], in bands
    bands = np.arange(BANDS)
    inside = positions.astype(int).clip(0, BANDS - 1)
    edge = np.maximum(EDGE, np.gradient(positions))[:, None]  # at least a bin
    rise = ((positions[:, None] - bands) / (2 * edge) + 0.5).clip(0, 1)  # [K, BANDS], from the lower edge on
    rise[:, 0] = 1
    spread = rise - np.concatenate([rise[:, 1:], np.zeros((len(rise), 1))], axis=1)
    return _Weights((inside[:, None] == bands).astype(np.float32), spread.T.astype(np.float32))


def _smoothing(frames: int) -> F32:
    """Weights `[T, T]` of frames for their neighbours, of sum 1."""
    apart = np.abs(np.subtract.outer(np.arange(frames), np.arange(frames)))
    window = np.cos(np.pi / 2 * np.minimum(1, apart / (SMOOTHED + 1))) ** 2
    weights: F32 = (window / window.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


class _Panning:
    """Level differences in dB and angles between the channels, `[T, BANDS]` each, as gains of spectra `[T, K]`."""

    def __init__(self, level: Doubles, angle: Doubles, weights: _Weights, smoothing: F32) -> None:
        self._weights, self._smoothing = weights, smoothing
        # The angles of both channels: of opposite signs where the coherence is positive; at -1 they are 0 and 180 degrees.
        left = angle / 2 * np.minimum(1, 2 - 2 * angle / np.pi)
        self._turned = left, left - angle
        self._gains = [np.sqrt(2 / (1 + 10 ** (sign * level / 10))) for sign in (-1, 1)]
        self._needed = self._over_bins(np.square([np.sin(turned) for turned in self._turned]).max(axis=0))

    def channels(self, sound: Complex, noise: Complex, filtered: Complex | None) -> Complex:
        """Spectra `[2, T, K]` of both channels: of a sound and its noise, and of its filtered copy, if any."""
        power = partial(self._power, bins=ONSET_BINS if filtered is None else SMOOTHED_BINS)
        whole = power(sound, sound) + np.float32(1e-20)
        share = np.minimum(1, np.minimum(power(noise, noise), whole) / ((self._needed + 1e-6) * whole))  # that is noise
        noise = noise - power(noise, sound) / whole * sound  # what the sound itself is not in
        side = np.sqrt(share * whole / (power(noise, noise) + 1e-6 * whole)) * noise
        if filtered is not None:
            quarter = np.complex64(1j)
            likeness = (power(filtered, sound) + quarter * power(filtered, quarter * sound)) / whole
            filtered = filtered - likeness * sound
            echo = power(filtered, filtered) / whole
            missing = np.minimum(MOST_GAIN, np.sqrt((1 - share) / (echo + 1e-6)))
            # A steady tone is the same through any filter but for its phase: what is left is a quarter of a turn from it.
            rest = np.sqrt(np.maximum(0, 1 - share - np.square(missing) * echo))
            turn = likeness.imag / np.sqrt(np.square(likeness.imag) + LEAST_TURN**2)
            side = side + missing * filtered + quarter * turn * rest * sound
        there = power(side, side) / whole
        even = np.minimum(1 if filtered is None else MOST_EVEN, 1 / np.sqrt(there + 1e-6))
        side, there = even * side, np.square(even) * there
        made = []
        for turned, gain in zip(self._turned, self._gains, strict=True):
            aside = self._over_bins(gain * np.sin(turned))
            # Where there is less of a side, there is more of the sound: each channel is as loud as it should be.
            straight = np.sqrt(np.maximum(0, self._over_bins(np.square(gain)) - np.square(aside) * there))
            made.append(straight * np.sign(self._over_bins(np.cos(turned))) * sound + aside * side)
        return np.stack(made)

    def _power(self, one: Complex, two: Complex, bins: int) -> F32:
        """Real products of spectra, `[T, K]`, smoothed over frames and bins."""
        product = self._smoothing @ (one.real * two.real + one.imag * two.imag)
        smooth: F32 = uniform_filter1d(uniform_filter1d(product, bins), bins)
        return smooth

    def _over_bins(self, gains: Doubles) -> F32:
        """Gains `[T, K]` of those of bands."""
        return gains.astype(np.float32) @ self._weights.spread


def between_onsets(sound: F32, sample_rate: int) -> F32:
    """Gains `[N]` that are 0 from shortly before each onset of a sound `[N]` until ONSET_SECONDS after it, else 1."""
    step = max(1, round(ONSET_STEP * sample_rate))
    powers = np.square(np.pad(sound, (0, -len(sound) % step))).reshape(-1, step).mean(axis=1)
    before, after = (round(seconds / ONSET_STEP) for seconds in (BEFORE_SECONDS, ONSET_SECONDS))
    usual = sliding_window_view(np.pad(powers, (after + 1, 0)), after).mean(axis=1)[: len(powers)]
    is_onset = (powers > 10 ** (ONSET_DB / 10) * usual) & (powers > 10 ** (SOFTEST_DB / 10) * powers.max())
    is_near = sliding_window_view(np.pad(is_onset, (after, before)), before + 1 + after).any(axis=1)
    gains = np.interp(np.arange(len(sound)), (np.arange(len(powers)) + 0.5) * step, np.where(is_near, 0.0, 1.0))
    return gains.astype(np.float32)


@cache
def _velvet(sample_rate: int) -> F32:
    """Impulses `[n]` at random places, one in each of as many equal parts, of random signs, that decay; of power 1."""
    random, count = np.random.default_rng(0), round(VELVET_SECONDS * VELVET_DENSITY)
    places = (np.arange(count) + random.random(count)) / VELVET_DENSITY
    impulses = np.zeros(round(VELVET_SECONDS * sample_rate) + 1, np.float32)
    signs, decay = random.integers(0, 2, count) * 2 - 1, 10 ** (-VELVET_DECAY_DB / 20 * places / VELVET_SECONDS)
    np.add.at(impulses, (places * sample_rate).astype(int), (signs * decay).astype(np.float32))
    return impulses / np.linalg.norm(impulses)
