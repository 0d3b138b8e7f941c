"""Two channels of a mono sound and its image: level difference and coherence in bands, as parametric stereo has them.

In every band the channels are sums of the sound and of a side signal, turned by angles whose difference has the
coherence as its cosine (Breebaart et al. 2005, "Parametric coding of stereo audio", section 5.3). Where the coherence is
positive the side signal has opposite signs, so that it is not in the sum of the channels; where it is -1 they are
opposite, without any. The side signal is the noise of the decoder, which is drawn a second time, as far as a band is
noise, and beyond that the sound through a filter of velvet noise (Välimäki et al. 2017), which is silent at onsets.

Shapes: `N` samples, `T` frames of the STFT, `K` its bins, `R` rows of an image.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from distill.audio.image import BANDS, Image, band_positions, dequantised
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
LEAST_BESIDE = 0.05  # of the power of noise, beside what of the sound is in it by chance
TINY = np.float32(1e-6)
LEAST_TURN = 0.05  # of the filter at a tone, beside its amplitude of about 1

Doubles = NDArray[np.float64]


def upmixed(sound: F32, other: F32, image: Image, sample_rate: int, width: float = 1.0) -> F32:
    """Channels `[N, 2]` of a sound `[N]`, of `other` `[N]`, the same with its noise drawn again, and an image.

    `width` scales level difference and incoherence: at 0 both channels are the sound. The mean power of both is that of
    the sound in every band. Equal arguments give equal samples.
    """
    if not len(image) or not width or not len(sound):
        return np.stack([sound, sound], axis=1)
    from scipy.signal import oaconvolve  # it takes a while to load

    stft, course = Stft(sample_rate), _Course(image, width)
    weights = _weights(stft.size, sample_rate)
    filtered, gains = oaconvolve(sound, _velvet(sample_rate))[: len(sound)], between_onsets(sound, sample_rate)
    signals = sound, (sound - other) * np.float32(np.sqrt(0.5)), filtered
    is_at_onset = stft.holds(gains < 1)
    usual, at_onsets = (np.zeros((2, stft.padded(len(sound))), np.float32) for _ in range(2))
    for start in range(0, len(is_at_onset), CHUNK_FRAMES):
        stop = min(len(is_at_onset), start + CHUNK_FRAMES)
        first, last = max(0, start - SMOOTHED), min(len(is_at_onset), stop + SMOOTHED)
        powers = _Powers.of([stft(signal, first, last) for signal in signals], slice(start - first, stop - first))
        panning = _Panning.of(*course(stft.seconds(start, stop)), weights)
        stft.add(usual, powers.channels(panning), start)
        if len(places := np.flatnonzero(is_at_onset[start:stop])):
            near = slice(int(places[0]), int(places[-1]) + 1)
            stft.add(at_onsets, powers.part(near).channels_at_onsets(panning.part(near)), start + near.start)
    made, others = (channels[:, stft.before : stft.before + len(sound)] for channels in (usual, at_onsets))
    made *= gains  # in place: a sound may last an hour
    others *= 1 - gains
    made += others
    return np.ascontiguousarray(made.T)


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

    def __call__(self, signal: F32, first: int, last: int) -> F32:
        """Spectra `[2, last - first, K]`, real and imaginary, of some frames of a signal `[N]`."""
        from scipy.fft import rfft  # it takes a while to load

        begin, end = first * self.hop - self.before, (last - 1) * self.hop - self.before + self.size
        piece = signal[max(0, begin) : max(0, end)]
        piece = np.pad(piece, (max(0, -begin), end - max(0, begin) - len(piece)))
        windows = sliding_window_view(piece, self.size)[:: self.hop]
        spectra = rfft(windows * self._window, axis=1)
        return np.stack([spectra.real, spectra.imag])

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

    def add(self, padded: F32, spectra: F32, first: int) -> None:
        """Add the signals of spectra `[C, 2, T, K]` to padded ones `[C, N]`, from a frame on."""
        from scipy.fft import irfft  # it takes a while to load

        windows = irfft(spectra[:, 0] + QUARTER * spectra[:, 1], self.size, axis=-1) * self._window
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
    positions, bands = band_positions(size, sample_rate), np.arange(BANDS)
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
    window = np.where(apart <= SMOOTHED, np.cos(np.pi / 2 * apart / (SMOOTHED + 1)) ** 2, 0.0)  # no denormal numbers
    weights: F32 = (window / window.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


class _Panning(NamedTuple):
    """Gains of the channels, `[2, T, K]`: of a side signal, of the power of both together, and signs of the sound.

    `needed` `[T, K]` is the power of a side of the same power as the sound that the channels need at most.
    """

    aside: F32
    whole: F32
    signs: F32
    needed: F32

    @classmethod
    def of(cls, level: Doubles, angle: Doubles, weights: F32) -> "_Panning":
        """Those of level differences in dB and angles between the channels, `[T, BANDS]` each."""

        def spread(gains: Doubles) -> F32:
            return gains.astype(np.float32) @ weights

        # The angles of both channels: of opposite signs where the coherence is positive; at -1 they are 0 and 180 degrees.
        left = angle / 2 * np.minimum(1, 2 - 2 * angle / np.pi)
        turned = np.stack([left, left - angle])
        gains = np.sqrt(2 / (1 + 10 ** (np.multiply.outer((-1, 1), level) / 10)))
        needed = spread(np.square(np.sin(turned)).max(axis=0))
        return cls(spread(gains * np.sin(turned)), spread(np.square(gains)), np.sign(spread(np.cos(turned))), needed)

    def part(self, frames: slice) -> "_Panning":
        """Those of some frames."""
        return _Panning(*(values[..., frames, :] for values in self))

    def channels(self, sound: F32, side: F32, there: F32) -> F32:
        """Spectra `[C, 2, T, K]` of both channels, of a sound and a side of so much of its power, `[T, K]`.

        Where there is less of a side, there is more of the sound: each channel is as loud as it should be.
        """
        straight = self.signs * np.sqrt(np.maximum(0, self.whole - np.square(self.aside) * there))
        return straight[:, None] * sound + self.aside[:, None] * side


class _Powers(NamedTuple):
    """Spectra `[2, T, K]` of a sound, its noise and its filtered copy, with smoothed powers `[T, K]`.

    All but `power` are relative to that of the sound: power and product with the sound of the noise, and of the filtered.
    """

    sound: F32
    noise: F32
    filtered: F32
    power: F32
    noise_power: F32
    noise_product: F32
    echo: F32
    real: F32
    imaginary: F32

    @classmethod
    def of(cls, signals: Sequence[F32], frames: slice) -> "_Powers":
        """Those of some of the frames of a sound, its noise and its filtered copy, smoothed over all of them."""
        sound, noise, filtered = signals
        weights = _smoothing(sound.shape[1])[frames]

        def smoothed(one: F32, two: F32) -> F32:
            product = one[0] * two[0]
            product += one[1] * two[1]
            return _over_bins(weights @ product, SMOOTHED_BINS)

        power = smoothed(sound, sound) + np.float32(1e-20)
        turned = np.stack([-sound[1], sound[0]])
        pairs = ((noise, noise), (noise, sound), (filtered, filtered), (filtered, sound), (filtered, turned))
        values = [*(signal[:, frames] for signal in signals), power, *(smoothed(*pair) / power for pair in pairs)]
        return cls(*values)

    def part(self, frames: slice) -> "_Powers":
        """Those of some frames."""
        return _Powers(*(values[..., frames, :] for values in self))

    def channels(self, panning: _Panning) -> F32:
        """Spectra `[C, 2, T, K]` of both channels, with sides of noise and of the filtered sound."""
        share, gain, there = self._noise_gain(panning.needed)
        missing = 1 - share
        # Of a steady tone the filter makes the tone, but for phase and level; only what is beside it has another place.
        echo = np.maximum(0, self.echo - np.square(self.real) - np.square(self.imaginary))
        filtered_gain = np.minimum(MOST_GAIN, np.sqrt(missing / (echo + TINY)))
        filtered_power = np.square(filtered_gain) * echo
        # What is still missing is the tone a quarter of a turn from where it is.
        turn = self.imaginary / np.sqrt(np.square(self.imaginary) + LEAST_TURN**2)
        turn *= np.sqrt(np.maximum(0, missing - filtered_power))
        there = there + filtered_power + np.square(turn)
        even = np.minimum(MOST_EVEN, 1 / np.sqrt(there + TINY))
        real = gain * self.noise_product + filtered_gain * self.real  # of the sound that is in noise and filtered sound
        imaginary = filtered_gain * self.imaginary - turn
        side = gain * self.noise + filtered_gain * self.filtered - real * self.sound
        side[0] += imaginary * self.sound[1]
        side[1] -= imaginary * self.sound[0]
        return panning.channels(self.sound, even * side, np.square(even) * there)

    def channels_at_onsets(self, panning: _Panning) -> F32:
        """Spectra `[C, 2, T, K]` of both channels, with sides of noise alone.

        Gains that differ from bin to bin would spread an attack over its window.
        """
        power = _over_bins(self.power, ONSET_BINS)
        wide = [_over_bins(self.power * own, ONSET_BINS) / power for own in (self.noise_power, self.noise_product)]
        smooth = self._replace(noise_power=wide[0], noise_product=wide[1])
        _, gain, there = smooth._noise_gain(panning.needed)
        return panning.channels(self.sound, gain * (self.noise - smooth.noise_product * self.sound), there)

    def _noise_gain(self, needed: F32) -> tuple[F32, F32, F32]:
        """The share of a side that is noise, the gain of the noise, less what of the sound is in it, and its power."""
        share = np.minimum(1, np.minimum(1, self.noise_power) / (needed + TINY))
        beside = np.maximum(LEAST_BESIDE * self.noise_power, self.noise_power - np.square(self.noise_product))
        gain = np.sqrt(share / (beside + TINY))
        return share, gain, np.square(gain) * beside


def _over_bins(values: F32, bins: int) -> F32:
    """Means of values `[T, K]` over some bins."""
    from scipy.ndimage import uniform_filter1d  # it takes a while to load

    means: F32 = uniform_filter1d(values, bins)
    return means


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
