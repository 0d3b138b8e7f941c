"""Two channels of a mono sound and its image: level difference and coherence in bands, as parametric stereo has them.

In every band the channels are sums of the sound and of a side signal, turned by angles whose difference has the
coherence as its cosine (Breebaart et al. 2005, "Parametric coding of stereo audio", section 5.3). Where the coherence is
positive the side signal has opposite signs, so that it is not in the sum of the channels; where it is -1 they are
opposite, without any. The side signal is the noise of the decoder, which is drawn a second time, as far as a band is
noise, and beyond that the sound through a filter of velvet noise (Välimäki et al. 2017), which is silent at onsets.

Shapes: `N` samples, `T` frames of the STFT, `K` its bins, `R` rows of an image.
"""

from functools import cache, partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.ndimage import uniform_filter1d
from scipy.signal import oaconvolve

from distill.audio.image import BANDS, Image, dequantised
from distill.audio.pcm import F32

WINDOW_SECONDS = 0.046
CHUNK_FRAMES = 64  # of the STFT that are held at once
SMOOTHED = 2  # frames on each side over which powers are smoothed
SMOOTHED_BINS, ONSET_BINS = 5, 21  # over which they are smoothed, elsewhere and at onsets
EDGE = 0.15  # of a band, on both sides of its edges, over which gains go from one band to the next
VELVET_SECONDS, VELVET_DECAY_DB, VELVET_DENSITY = 0.03, 20.0, 1500.0  # of impulses in a second
BEFORE_SECONDS, ONSET_SECONDS = 0.015, 0.02  # for so long the filter is silent around an onset
ONSET_STEP, ONSET_DB = 0.005, 10.0  # an onset is a rise by this from one step to the next
SOFTEST_DB = -50.0  # of an onset, relative to the loudest step
QUARTER = np.complex64(1j)  # of a turn
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
    weights, is_at_onset = _weights(stft.size, sample_rate), stft.holds(gains < 1)
    usual, at_onsets = (np.zeros((2, stft.padded(len(sound))), np.float32) for _ in range(2))

    def add(channels: F32, start: int, stop: int, *signals: F32) -> None:
        """Add what some frames of signals make: the sound, its noise, and the filtered sound, if it is there."""
        context = 3 * SMOOTHED  # powers of a side are those of parts that are made of powers of others
        first, last = max(0, start - context), min(len(is_at_onset), stop + context)
        panning = _Panning(*course(stft.seconds(first, last)), weights)
        made = panning.channels(*(stft(signal, first, last) for signal in signals))
        stft.add(channels, made[:, start - first : stop - first], start)

    for start in range(0, len(is_at_onset), CHUNK_FRAMES):
        stop = min(len(is_at_onset), start + CHUNK_FRAMES)
        add(usual, start, stop, sound, difference, filtered)
        if len(places := np.flatnonzero(is_at_onset[start:stop])):
            add(at_onsets, start + int(places[0]), start + int(places[-1]) + 1, sound, difference)
    inside = slice(stft.before, stft.before + len(sound))
    return np.ascontiguousarray((gains * usual[:, inside] + (1 - gains) * at_onsets[:, inside]).T)


class Stft:
    """STFT of real signals, with the same window, a root of Hann's, for analysis and synthesis, half of it a hop."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate, self.size = sample_rate, max(64, int(2 ** round(np.log2(sample_rate * WINDOW_SECONDS))))
        self.hop = self.size // 2
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

    def seconds(self, first: int, last: int) -> Doubles:
        """The times of the middles of some frames."""
        middles: Doubles = (np.arange(first, last) * self.hop - self.before + self.size / 2) / self.sample_rate
        return middles

    def holds(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether each frame holds a chosen sample, of those `[N]` of a signal."""
        frames = self.frames_for(len(chosen))
        padded = np.pad(chosen, (self.before, self.padded(len(chosen)) - self.before - len(chosen)))
        hops: NDArray[np.bool_] = padded.reshape(frames + 1, self.hop).max(axis=1)
        return hops[:-1] | hops[1:]

    def add(self, padded: F32, spectra: Complex, first: int) -> None:
        """Add the signals of spectra `[C, T, K]` to padded ones `[C, N]`, from a frame on."""
        windows = irfft(spectra, self.size, axis=-1) * self._window
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


@cache
def _weights(size: int, sample_rate: int) -> F32:
    """How the gains of bands are spread over bins, `[BANDS, K]`."""
    erb = 21.4 * np.log10(1 + 0.00437 * np.fft.rfftfreq(size, 1 / sample_rate))
    positions = erb * (BANDS / erb[-1])  # [K], in bands
    bands = np.arange(BANDS)
    edge = np.maximum(EDGE, np.gradient(positions))[:, None]  # at least a bin
    rise = ((positions[:, None] - bands) / (2 * edge) + 0.5).clip(0, 1)  # [K, BANDS], from the lower edge on
    rise[:, 0] = 1
    spread = rise - np.concatenate([rise[:, 1:], np.zeros((len(rise), 1))], axis=1)
    weights: F32 = spread.T.astype(np.float32)
    return weights


@cache
def _smoothing(frames: int) -> F32:
    """Weights `[T, T]` of frames for their neighbours, of sum 1."""
    apart = np.abs(np.subtract.outer(np.arange(frames), np.arange(frames)))
    window = np.cos(np.pi / 2 * np.minimum(1, apart / (SMOOTHED + 1))) ** 2
    weights: F32 = (window / window.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


class _Panning:
    """Level differences in dB and angles between the channels, `[T, BANDS]` each, as gains of spectra `[T, K]`."""

    def __init__(self, level: Doubles, angle: Doubles, weights: F32) -> None:
        self._smoothing = _smoothing(len(level))
        # The angles of both channels: of opposite signs where the coherence is positive; at -1 they are 0 and 180 degrees.
        left = angle / 2 * np.minimum(1, 2 - 2 * angle / np.pi)
        turned = np.stack([left, left - angle])
        gains = np.sqrt(2 / (1 + 10 ** (np.multiply.outer((-1, 1), level) / 10)))
        spread = partial(_spread, weights)
        self._needed = spread(np.square(np.sin(turned)).max(axis=0))
        self._aside, self._power_gains = spread(gains * np.sin(turned)), spread(np.square(gains))  # [2, T, K]
        self._signs = np.sign(spread(np.cos(turned)))

    def channels(self, sound: Complex, noise: Complex, filtered: Complex | None = None) -> Complex:
        """Spectra `[2, T, K]` of both channels: of a sound and its noise, and of its filtered copy, if any."""
        power = partial(self._power, bins=ONSET_BINS if filtered is None else SMOOTHED_BINS)
        tiny = np.float32(1e-6)
        whole = power(sound, sound) + np.float32(1e-20)
        noisy = np.minimum(1, power(noise, noise) / whole)  # the share of the sound that is noise
        share = np.minimum(1, noisy / (self._needed + tiny))  # the same of the side
        noise = noise - power(noise, sound) / whole * sound  # what the sound itself is not in
        side = np.sqrt(share / (power(noise, noise) / whole + tiny)) * noise
        most = 1.0
        if filtered is not None:
            likeness = (power(filtered, sound) + QUARTER * power(filtered, QUARTER * sound)) / whole
            filtered = filtered - likeness * sound
            echo, missing, most = power(filtered, filtered) / whole, 1 - share, MOST_EVEN
            gain = np.minimum(MOST_GAIN, np.sqrt(missing / (echo + tiny)))
            # A steady tone is the same through any filter but for its phase: what is left is a quarter of a turn from it.
            rest = np.sqrt(np.maximum(0, missing - np.square(gain) * echo))
            turn = likeness.imag / np.sqrt(np.square(likeness.imag) + LEAST_TURN**2)
            side = side + gain * filtered + (QUARTER * (turn * rest)) * sound
        there = power(side, side) / whole
        even = np.minimum(most, 1 / np.sqrt(there + tiny))
        aside = self._aside * even
        # Where there is less of a side, there is more of the sound: each channel is as loud as it should be.
        straight = self._signs * np.sqrt(np.maximum(0, self._power_gains - np.square(aside) * there))
        channels: Complex = straight * sound + aside * side
        return channels

    def _power(self, one: Complex, two: Complex, bins: int) -> F32:
        """Real products of spectra, `[T, K]`, smoothed over frames and bins."""
        product = one.real * two.real
        product += one.imag * two.imag
        smooth: F32 = uniform_filter1d(self._smoothing @ product, bins)
        return smooth


def _spread(weights: F32, gains: Doubles) -> F32:
    """Gains `[..., K]` of those `[..., BANDS]` of bands."""
    return gains.astype(np.float32) @ weights


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
