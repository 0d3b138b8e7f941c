"""Two channels of a mono sound and its image: level difference and coherence in bands, as parametric stereo has them.

In every band the channels are sums of the sound and of a side signal, turned by angles whose difference has the
coherence as its cosine (Breebaart et al. 2005, "Parametric coding of stereo audio", section 5.3). Where the coherence is
positive the side signal has opposite signs, so that it is not in the sum of the channels; where it is -1 they are
opposite, without any. The side signal is the noise of the decoder, which is drawn a second time, as far as a band is
noise, and beyond that the sound through a filter of velvet noise (Välimäki et al. 2017), which is silent at onsets.

Shapes: `N` samples, `T` frames of the STFT, `K` its bins, `R` rows of an image.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.audio.image import BANDS, Image, dequantised
from distill.audio.pcm import F32

WINDOW_SECONDS = 0.046
CHUNK_FRAMES = 256  # of the STFT that are held at once
SMOOTHED = 4  # frames on each side over which powers are smoothed
SMOOTHED_BINS = 5  # the same of bins, twice
EDGE = 0.15  # of a band, on both sides of its edges, over which gains go from one band to the next
VELVET_SECONDS, VELVET_DECAY_DB, VELVET_DENSITY = 0.03, 20.0, 1500.0  # of impulses in a second
ONSET_SECONDS, ONSET_STEP, ONSET_DB = 0.02, 0.005, 10.0  # the filter is silent for so long after such a rise
SOFTEST_DB = -50.0  # of an onset, relative to the loudest step
MOST_GAIN = 2.0  # of the filtered sound, without what it has of the sound itself
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
    stft, image_in_time = Stft(sample_rate), _Course(image, width)
    filtered, gains = decorrelated(sound, sample_rate)
    difference = (sound - other) * np.float32(np.sqrt(0.5))
    frames = stft.frames_for(len(sound))
    channels = np.zeros((2, stft.padded(len(sound))), np.float32)
    weights = _weights(stft.size, sample_rate)
    context = 3 * SMOOTHED  # powers of a side are those of parts that are made of powers of others
    for start in range(0, frames, CHUNK_FRAMES):
        stop = min(frames, start + CHUNK_FRAMES)
        first, last = max(0, start - context), min(frames, stop + context)
        spectra = [stft(signal, first, last) for signal in (sound, difference, filtered)]
        seconds = (np.arange(first, last) * stft.hop - stft.before + stft.size / 2) / sample_rate
        made = _panned(
            spectra, stft.least(gains, first, last), image_in_time(seconds), weights, _smoothing(last - first)
        )
        for channel, spectrum in zip(channels, made, strict=True):
            stft.add(channel, spectrum[start - first : stop - first], start)
    return np.ascontiguousarray(channels[:, stft.before : stft.before + len(sound)].T)


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
        from scipy.fft import rfft  # it takes a while to load

        begin, end = first * self.hop - self.before, (last - 1) * self.hop - self.before + self.size
        piece = signal[max(0, begin) : max(0, end)]
        piece = np.pad(piece, (max(0, -begin), end - max(0, begin) - len(piece)))
        windows = np.lib.stride_tricks.sliding_window_view(piece, self.size)[:: self.hop]
        spectra: Complex = rfft(windows * self._window, axis=1)
        return spectra

    def least(self, gains: F32, first: int, last: int) -> F32:
        """The least of gains `[N]` in each of some frames."""
        starts = self.hop * np.arange(first, last) - self.before
        return np.array([gains[max(0, start) : start + self.size].min(initial=1) for start in starts], np.float32)

    def add(self, padded: F32, spectra: Complex, first: int) -> None:
        """Add the signal of spectra `[T, K]` to a padded one, from a frame on."""
        from scipy.fft import irfft

        overlap = np.float32(2)  # sum of the squared windows over a sample
        windows = irfft(spectra, self.size, axis=1) * (self._window / overlap)
        for number, window in enumerate(windows, first):
            padded[number * self.hop : number * self.hop + self.size] += window


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


def _panned(
    spectra: list[Complex], steady: F32, image: tuple[Doubles, Doubles], weights: _Weights, smoothing: F32
) -> tuple[Complex, Complex]:
    """Spectra `[T, K]` of both channels, of those of a sound, its noise and its filtered copy; `steady` `[T]` is 0 at onsets."""
    sound, noise, filtered = spectra
    quarter = np.complex64(1j)

    def power(one: Complex, two: Complex) -> F32:
        """Real products of spectra, `[T, K]`, smoothed."""
        from scipy.ndimage import uniform_filter1d

        product = smoothing @ (one.real * two.real + one.imag * two.imag)
        smooth: F32 = uniform_filter1d(uniform_filter1d(product, SMOOTHED_BINS), SMOOTHED_BINS)
        return smooth

    def over_bins(gains: Doubles) -> F32:
        return gains.astype(np.float32) @ weights.spread

    level, angle = image
    whole = power(sound, sound) + np.float32(1e-20)
    noise_power = np.minimum(power(noise, noise), whole)
    noise = noise - power(noise, sound) / whole * sound  # what the sound itself is not in
    likeness: Complex = (
        power(filtered, sound) + quarter * power(filtered, quarter * sound)
    ) / whole  # as a gain: of a tone the filter's
    filtered = filtered - likeness * sound
    # The angles of both channels: of opposite signs where the coherence is positive; at -1 they are 0 and 180 degrees.
    left = angle / 2 * np.minimum(1, 2 - 2 * angle / np.pi)
    needed = over_bins(np.square(np.maximum(np.abs(np.sin(left)), np.abs(np.sin(angle - left))))) * whole
    share = np.minimum(1, noise_power / (needed + 1e-6 * whole))  # of the side that is noise
    own = np.sqrt(share * whole / (power(noise, noise) + 1e-6 * whole))
    filtered_power = power(filtered, filtered)
    missing = np.minimum(MOST_GAIN, np.sqrt((1 - share) * whole / (filtered_power + 1e-6 * whole)))
    rest = np.maximum(0, 1 - share - np.square(missing) * filtered_power / whole)
    # A steady tone is the same through any filter but for its phase: what is left is a quarter of a turn away from it.
    turn = likeness.imag / np.sqrt(np.square(likeness.imag) + LEAST_TURN**2)
    side = own * noise + missing * filtered + quarter * turn * np.sqrt(rest) * steady[:, None] * sound
    there = power(side, side) / whole
    even = np.minimum(MOST_GAIN, 1 / np.sqrt(there + 1e-6))
    side, there = even * side, np.square(even) * there
    made = []
    for turned, sign in ((left, 1), (angle - left, -1)):
        gain = np.sqrt(2 / (1 + 10 ** (-sign * level / 10)))
        aside = over_bins(gain * np.sin(turned))
        straight = np.sqrt(np.maximum(0, over_bins(np.square(gain)) - np.square(aside) * there))
        made.append(straight * np.sign(over_bins(np.cos(turned))) * sound + sign * aside * side)
    return made[0], made[1]


def decorrelated(sound: F32, sample_rate: int) -> tuple[F32, F32]:
    """A sound `[N]` through a filter of velvet noise, silent for ONSET_SECONDS after its onsets, and gains that are 0 there."""
    from scipy.signal import oaconvolve

    filtered = oaconvolve(sound, _velvet(sample_rate))[: len(sound)]
    step = max(1, round(ONSET_STEP * sample_rate))
    powers = np.square(np.pad(sound, (0, -len(sound) % step))).reshape(-1, step).mean(axis=1)
    silent = round(ONSET_SECONDS / ONSET_STEP)
    before = np.lib.stride_tricks.sliding_window_view(np.pad(powers, (silent + 1, 0)), silent).mean(axis=1)[
        : len(powers)
    ]
    is_onset = (powers > 10 ** (ONSET_DB / 10) * before) & (powers > 10 ** (SOFTEST_DB / 10) * powers.max())
    after = np.lib.stride_tricks.sliding_window_view(np.pad(is_onset, (silent, 0)), silent + 1).any(axis=1)
    gains = np.interp(np.arange(len(sound)), (np.arange(len(powers)) + 0.5) * step, np.where(after, 0.0, 1.0))
    return (filtered * gains).astype(np.float32), gains.astype(np.float32)


@cache
def _velvet(sample_rate: int) -> F32:
    """Impulses `[n]` at random places, one in each of as many equal parts, of random signs, that decay; of power 1."""
    random, count = np.random.default_rng(0), round(VELVET_SECONDS * VELVET_DENSITY)
    places = (np.arange(count) + random.random(count)) / VELVET_DENSITY
    impulses = np.zeros(round(VELVET_SECONDS * sample_rate) + 1, np.float32)
    signs, decay = random.integers(0, 2, count) * 2 - 1, 10 ** (-VELVET_DECAY_DB / 20 * places / VELVET_SECONDS)
    np.add.at(impulses, (places * sample_rate).astype(int), (signs * decay).astype(np.float32))
    return impulses / np.linalg.norm(impulses)
