"""Parametric-stereo upmix: two channels from a mono sound, with a level difference and a coherence for each band.

In every band each channel is the sound plus a side signal, rotated by an angle. The cosine of the difference between
the two angles is the coherence (Breebaart et al. 2005, "Parametric coding of stereo audio", section 5.3). For a
positive coherence the side signal has opposite signs and cancels in the sum of the channels. For a coherence of -1 the
channels are opposite, with no side signal.

The side signal is a second realisation of the decoder's noise as far as the band is noise. The rest is the sound
through a velvet-noise filter (Välimäki et al. 2017), which is muted at onsets.

Shapes: `N` samples, `T` frames of the STFT, `K` its bins, `C` channels.
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
CHUNK_FRAMES = 64  # STFT frames processed at once
SMOOTHED = 2  # frames on each side over which powers are smoothed
SMOOTHED_BINS, ONSET_BINS = 5, 21  # bins over which powers are smoothed: usually, and at onsets
EDGE = 0.15  # of a band, on each side of an edge, over which gains cross-fade to the next band
# The filter is muted for this time before and after an onset
BEFORE_SECONDS, ONSET_SECONDS = 0.015, 0.02
SOFTEST_DB = -50.0  # least level of an onset relative to the loudest step
QUARTER = np.complex64(1j)  # of a turn, as a factor
MOST_GAIN = 3.0  # largest gain of the filtered sound, after removing its correlated part
LEAST_BESIDE = 0.05  # least proportion of the noise power taken as uncorrelated with the sound
TINY = np.float32(1e-6)

Doubles = NDArray[np.float64]


def upmixed(sound: F32, other: F32, image: Image, sample_rate: int, width: float = 1.0) -> F32:
    """Channels `[N, 2]` of a sound `[N]` and an image. `other` `[N]` is the same sound with a second noise realisation.

    `width` scales level difference and incoherence: at 0 both channels equal the sound. In every band the mean power of
    the channels is the power of the sound. Same arguments, same samples.
    """
    if not len(image) or not width or not len(sound):
        return np.stack([sound, sound], axis=1)
    from scipy.signal import oaconvolve  # it takes a while to load

    stft, course = Stft(sample_rate), _Course(image, width)
    weights = _weights(stft.size, sample_rate)
    filtered, gains = (
        oaconvolve(sound, _velvet(sample_rate))[: len(sound)],
        between_onsets(sound, sample_rate),
    )
    signals = sound, (sound - other) * np.float32(np.sqrt(0.5)), filtered
    is_at_onset = stft.holds(gains < 1)
    usual, at_onsets = (np.zeros((2, stft.padded(len(sound))), np.float32) for _ in range(2))
    for start in range(0, len(is_at_onset), CHUNK_FRAMES):
        stop = min(len(is_at_onset), start + CHUNK_FRAMES)
        first, last = max(0, start - SMOOTHED), min(len(is_at_onset), stop + SMOOTHED)
        powers = _Powers.of(
            [stft(signal, first, last) for signal in signals], slice(start - first, stop - first)
        )
        panning = _Panning.of(*course(stft.seconds(start, stop)), weights)
        stft.add(usual, powers.channels(panning), start)
        if len(places := np.flatnonzero(is_at_onset[start:stop])):
            near = slice(int(places[0]), int(places[-1]) + 1)
            stft.add(
                at_onsets,
                powers.part(near).channels_at_onsets(panning.part(near)),
                start + near.start,
            )
    made, others = (
        channels[:, stft.before : stft.before + len(sound)] for channels in (usual, at_onsets)
    )
    made *= gains  # in place: a sound may last an hour
    others *= 1 - gains
    made += others
    return np.ascontiguousarray(made.T)


class Stft:
    """STFT of real signals: root-Hann window for analysis and synthesis, hop of half a window."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate, self.size = (
            sample_rate,
            max(64, int(2 ** round(np.log2(sample_rate * WINDOW_SECONDS)))),
        )
        self.hop = self.size // 2
        self.before = (
            self.size - self.hop
        )  # zeros before a signal, so that two windows cover every sample
        window = np.sin(np.pi * np.arange(self.size) / self.size)
        self._window = window.astype(np.float32)

    def frames_for(self, samples: int) -> int:
        """Number of frames that cover `samples`."""
        return -(-(samples + self.before) // self.hop)

    def padded(self, samples: int) -> int:
        """Length in samples of all frames that cover `samples`."""
        return (self.frames_for(samples) - 1) * self.hop + self.size

    def __call__(self, signal: F32, first: int, last: int) -> F32:
        """Spectra `[2, last - first, K]`, real and imaginary, of frames `first` to `last` of a signal `[N]`."""
        from scipy.fft import rfft  # it takes a while to load

        begin, end = first * self.hop - self.before, (last - 1) * self.hop - self.before + self.size
        piece = signal[max(0, begin) : max(0, end)]
        piece = np.pad(piece, (max(0, -begin), end - max(0, begin) - len(piece)))
        windows = sliding_window_view(piece, self.size)[:: self.hop]
        spectra = rfft(windows * self._window, axis=1)
        return np.stack([spectra.real, spectra.imag])

    def seconds(self, first: int, last: int) -> Doubles:
        """Centre times of frames `first` to `last`."""
        middles: Doubles = (
            np.arange(first, last) * self.hop - self.before + self.size / 2
        ) / self.sample_rate
        return middles

    def holds(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether each frame holds a chosen sample, from flags `[N]`; result `[T]`."""
        frames = self.frames_for(len(chosen))
        padded = np.pad(chosen, (self.before, self.padded(len(chosen)) - self.before - len(chosen)))
        hops: NDArray[np.bool_] = padded.reshape(frames + 1, self.hop).max(axis=1)
        return hops[:-1] | hops[1:]

    def add(self, padded: F32, spectra: F32, first: int) -> None:
        """Overlap-add spectra `[C, 2, T, K]` to padded signals `[C, N]`, starting at frame `first`."""
        from scipy.fft import irfft  # it takes a while to load

        windows = irfft(spectra[:, 0] + QUARTER * spectra[:, 1], self.size, axis=-1) * self._window
        for number in range(windows.shape[1]):
            start = (first + number) * self.hop
            padded[:, start : start + self.size] += windows[:, number]


class _Course:
    """Level differences and angles between the channels over time, interpolated between the centres of image rows."""

    def __init__(self, image: Image, width: float) -> None:
        level, coherence = dequantised(image)
        self._level = width * level
        self._angle = np.arccos((1 - width * (1 - coherence)).clip(-1, 1))

    def __call__(self, seconds: Doubles) -> tuple[Doubles, Doubles]:
        """Level differences in dB and angles in radians, `[T, BANDS]` each, at times `[T]`. A row lasts one second."""
        place = (seconds - 0.5).clip(0, len(self._level) - 1)
        row = np.minimum(place.astype(int), max(0, len(self._level) - 2))
        part = (place - row)[:, None]
        after = np.minimum(row + 1, len(self._level) - 1)
        level, angle = (
            (1 - part) * rows[row] + part * rows[after] for rows in (self._level, self._angle)
        )
        return level, angle


@cache
def _weights(size: int, sample_rate: int) -> F32:
    """Weights `[BANDS, K]` that spread band gains over bins."""
    positions, bands = band_positions(size, sample_rate), np.arange(BANDS)
    edge = np.maximum(EDGE, np.gradient(positions))[:, None]  # one bin or more
    rise = ((positions[:, None] - bands) / (2 * edge) + 0.5).clip(
        0, 1
    )  # [K, BANDS], rises at lower edges
    rise[:, 0] = 1
    spread = rise - np.concatenate([rise[:, 1:], np.zeros((len(rise), 1))], axis=1)
    weights: F32 = spread.T.astype(np.float32)
    return weights


@cache
def _smoothing(frames: int) -> F32:
    """Smoothing matrix `[T, T]` over frames; rows sum to 1."""
    apart = np.abs(np.subtract.outer(np.arange(frames), np.arange(frames)))
    window = np.where(
        apart <= SMOOTHED, np.cos(np.pi / 2 * apart / (SMOOTHED + 1)) ** 2, 0.0
    )  # no denormal numbers
    weights: F32 = (window / window.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


class _Panning(NamedTuple):
    """Mixing gains of both channels, `[2, T, K]` each: gain of the side signal, whole power, sign of the sound.

    `needed` `[T, K]` is the larger proportion of side power in the two channels.
    """

    aside: F32
    whole: F32
    signs: F32
    needed: F32

    @classmethod
    def of(cls, level: Doubles, angle: Doubles, weights: F32) -> "_Panning":
        """Gains for level differences in dB and angles between the channels, `[T, BANDS]` each."""

        def spread(gains: Doubles) -> F32:
            return gains.astype(np.float32) @ weights

        # Channel angles: of opposite sign where the coherence is positive; 0 and -180 degrees at -1.
        left = angle / 2 * np.minimum(1, 2 - 2 * angle / np.pi)
        turned = np.stack([left, left - angle])
        gains = np.sqrt(2 / (1 + 10 ** (np.multiply.outer((-1, 1), level) / 10)))
        needed = spread(np.square(np.sin(turned)).max(axis=0))
        return cls(
            spread(gains * np.sin(turned)),
            spread(np.square(gains)),
            np.sign(spread(np.cos(turned))),
            needed,
        )

    def part(self, frames: slice) -> "_Panning":
        """Gains of some frames."""
        return _Panning(*(values[..., frames, :] for values in self))

    def channels(self, sound: F32, side: F32, there: F32) -> F32:
        """Spectra `[C, 2, T, K]` of both channels, from a sound and a side signal.

        `there` `[T, K]` is the power of the side relative to the sound. Where the side is too weak, the sound gets more
        gain, so that each channel keeps its power.
        """
        straight = self.signs * np.sqrt(np.maximum(0, self.whole - np.square(self.aside) * there))
        return straight[:, None] * sound + self.aside[:, None] * side


class _Powers(NamedTuple):
    """Spectra `[2, T, K]` of a sound, its noise and its filtered copy, with smoothed powers `[T, K]`.

    All powers but `power` are relative to it. `noise_product` is the noise's product with the sound. `echo` is the
    filtered copy's power, `real` and `imaginary` its products with the sound and with the sound turned by 90 degrees.
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
        """Powers of the chosen frames of sound, noise and filtered copy, smoothed over all frames."""
        sound, noise, filtered = signals
        weights = _smoothing(sound.shape[1])[frames]

        def smoothed(one: F32, two: F32) -> F32:
            product = one[0] * two[0]
            product += one[1] * two[1]
            return _over_bins(weights @ product, SMOOTHED_BINS)

        power = smoothed(sound, sound) + np.float32(1e-20)
        turned = np.stack([-sound[1], sound[0]])
        pairs = (
            (noise, noise),
            (noise, sound),
            (filtered, filtered),
            (filtered, sound),
            (filtered, turned),
        )
        values = [
            *(signal[:, frames] for signal in signals),
            power,
            *(smoothed(*pair) / power for pair in pairs),
        ]
        return cls(*values)

    def part(self, frames: slice) -> "_Powers":
        """Spectra and powers of some frames."""
        return _Powers(*(values[..., frames, :] for values in self))

    def channels(self, panning: _Panning) -> F32:
        """Spectra `[C, 2, T, K]` of both channels, with noise and filtered sound as the side signal."""
        # Regularises the direction of the turn; the filter's amplitude at a tone is about 1
        least_turn = 0.05
        most_even = 2.0  # largest gain of the whole side signal
        share, gain, there = self._noise_gain(panning.needed)
        missing = 1 - share
        # The filter returns a steady tone with another phase and level: only the uncorrelated rest counts.
        echo = np.maximum(0, self.echo - np.square(self.real) - np.square(self.imaginary))
        filtered_gain = np.minimum(MOST_GAIN, np.sqrt(missing / (echo + TINY)))
        filtered_power = np.square(filtered_gain) * echo
        # The sound itself, turned by 90 degrees, supplies the power still missing.
        turn = self.imaginary / np.sqrt(np.square(self.imaginary) + least_turn**2)
        turn *= np.sqrt(np.maximum(0, missing - filtered_power))
        there = there + filtered_power + np.square(turn)
        even = np.minimum(most_even, 1 / np.sqrt(there + TINY))
        real = (
            gain * self.noise_product + filtered_gain * self.real
        )  # of the sound in the side, removed below
        imaginary = filtered_gain * self.imaginary - turn
        side = gain * self.noise + filtered_gain * self.filtered - real * self.sound
        side[0] += imaginary * self.sound[1]
        side[1] -= imaginary * self.sound[0]
        return panning.channels(self.sound, even * side, np.square(even) * there)

    def channels_at_onsets(self, panning: _Panning) -> F32:
        """Spectra `[C, 2, T, K]` of both channels, with noise alone as the side signal.

        Powers are smoothed over more bins: gains that vary from bin to bin would smear an attack over its window.
        """
        power = _over_bins(self.power, ONSET_BINS)
        wide = [
            _over_bins(self.power * own, ONSET_BINS) / power
            for own in (self.noise_power, self.noise_product)
        ]
        smooth = self._replace(noise_power=wide[0], noise_product=wide[1])
        _, gain, there = smooth._noise_gain(panning.needed)
        return panning.channels(
            self.sound, gain * (self.noise - smooth.noise_product * self.sound), there
        )

    def _noise_gain(self, needed: F32) -> tuple[F32, F32, F32]:
        """Proportion of the side that noise supplies, gain of the noise's uncorrelated part, its resulting power."""
        share = np.minimum(1, np.minimum(1, self.noise_power) / (needed + TINY))
        beside = np.maximum(
            LEAST_BESIDE * self.noise_power, self.noise_power - np.square(self.noise_product)
        )
        gain = np.sqrt(share / (beside + TINY))
        return share, gain, np.square(gain) * beside


def _over_bins(values: F32, bins: int) -> F32:
    """Moving average of values `[T, K]` over `bins`."""
    from scipy.ndimage import uniform_filter1d  # it takes a while to load

    means: F32 = uniform_filter1d(values, bins)
    return means


def between_onsets(sound: F32, sample_rate: int) -> F32:
    """Gains `[N]`: 0 from BEFORE_SECONDS before each onset of a sound `[N]` to ONSET_SECONDS after it, else 1."""
    # Seconds a step; least rise over the mean of the steps before
    onset_step, onset_db = 0.005, 10.0
    step = max(1, round(onset_step * sample_rate))
    powers = np.square(np.pad(sound, (0, -len(sound) % step))).reshape(-1, step).mean(axis=1)
    before, after = (round(seconds / onset_step) for seconds in (BEFORE_SECONDS, ONSET_SECONDS))
    usual = sliding_window_view(np.pad(powers, (after + 1, 0)), after).mean(axis=1)[: len(powers)]
    is_onset = (powers > 10 ** (onset_db / 10) * usual) & (
        powers > 10 ** (SOFTEST_DB / 10) * powers.max()
    )
    is_near = sliding_window_view(np.pad(is_onset, (after, before)), before + 1 + after).any(axis=1)
    gains = np.interp(
        np.arange(len(sound)), (np.arange(len(powers)) + 0.5) * step, np.where(is_near, 0.0, 1.0)
    )
    return gains.astype(np.float32)


@cache
def _velvet(sample_rate: int) -> F32:
    """Velvet noise `[n]` of energy 1: a decaying impulse of random sign and position in each equal interval."""
    # Density in impulses a second
    velvet_seconds, velvet_decay_db, velvet_density = 0.03, 20.0, 1500.0
    random, count = np.random.default_rng(0), round(velvet_seconds * velvet_density)
    places = (np.arange(count) + random.random(count)) / velvet_density
    impulses = np.zeros(round(velvet_seconds * sample_rate) + 1, np.float32)
    signs, decay = (
        random.integers(0, 2, count) * 2 - 1,
        10 ** (-velvet_decay_db / 20 * places / velvet_seconds),
    )
    np.add.at(impulses, (places * sample_rate).astype(int), (signs * decay).astype(np.float32))
    return impulses / np.linalg.norm(impulses)
