"""Parametric-stereo parameters of a recording (its image), and its mono downmix (its fold).

An image holds the level difference and coherence of both channels in 20 bands, quantised to the grids of MPEG-4
parametric stereo. It has one row for a short sound, and one row a second for a longer sound. Codec and prior see only
the downmix.

In each band the downmix has the mean power of both channels. Delay and phase differences are undone before the sum, as
far as the channels are coherent: nothing cancels, and the gain of a band stays between 1/2 and about 1.

Shapes: `N` samples, `T` rows, `W` windows, `K` bins of a spectrum.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from distill.audio.measure import row_count, row_of_seconds
from distill.audio.pcm import F32

BANDS = 20  # of equal width on the ERB scale, from 0 Hz to half the sample rate
LEVEL_STEPS: F32 = np.array(
    [-25, -18, -14, -10, -7, -4, -2, 0, 2, 4, 7, 10, 14, 18, 25], np.float32
)  # dB, left minus right
COHERENCE_STEPS: F32 = np.array(
    [1, 0.937, 0.84118, 0.60092, 0.36764, 0, -0.589, -1], np.float32
)  # of the real part

Image = NDArray[
    np.uint8
]  # [T, 2, BANDS] step indices: [:, 0] level difference, [:, 1] coherence; mono: no rows
MONO: Image = np.zeros((0, 2, BANDS), np.uint8)
Complex = NDArray[np.complexfloating]
S = TypeVar("S", bound=np.generic)

INAUDIBLE = 1e-6  # largest side-to-mid power ratio of a mono sound: -60 dB
_NEUTRAL = np.array([[int(np.abs(LEVEL_STEPS).argmin())], [0]], np.uint8)  # centred, coherent
_WINDOWS_AT_ONCE = 256
_REACH = 4  # windows on each side over which powers are smoothed


def _smoothed(values: NDArray[S]) -> NDArray[S]:
    """Moving average over windows; drops `_REACH` windows at each end."""
    weights = np.hanning(2 * _REACH + 3)[1:-1].astype(np.float32)
    means: NDArray[S] = sliding_window_view(values, len(weights), axis=0) @ (
        weights / weights.sum()
    )
    return means


class _Powers(NamedTuple):
    """Powers of both channels and their cross-product, `[W, BANDS]` each."""

    left: F32
    right: F32
    cross: Complex

    def smoothed(self) -> "_Powers":
        return _Powers(_smoothed(self.left), _smoothed(self.right), _smoothed(self.cross))

    @property
    def coherence(self) -> Complex:
        """Complex coherence, 0 in silence."""
        coherence: Complex = self.cross / np.sqrt(np.maximum(self.left * self.right, 1e-30))
        return coherence


def mono(samples: F32) -> F32:
    """Samples `[N]`: the mean of both channels for `[N, 2]`, unchanged for `[N]`."""
    return samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)


def dequantised(image: Image) -> tuple[F32, F32]:
    """Level difference in dB, left minus right, and coherence, -1 to 1: both `[T, BANDS]`."""
    return LEVEL_STEPS[image[:, 0]], COHERENCE_STEPS[image[:, 1]]


def is_mono(channels: F32) -> bool:
    """Whether the difference between both channels `[N, 2]` is inaudible."""
    middle = side = 0.0
    for start in range(0, len(channels), 1 << 16):
        left, right = channels[start : start + (1 << 16)].T.astype(np.float64)
        middle, side = (
            middle + float(np.square(left + right).sum()),
            side + float(np.square(left - right).sum()),
        )
    return side <= INAUDIBLE * middle


def image_of(channels: F32, sample_rate: int) -> Image:
    """Measure the image of samples `[N, 2]`; MONO if the difference between the channels is below -60 dB.

    Values of a row are amplitude-weighted means over its windows, so movement within a row lowers the coherence. Rows
    60 dB or more below the loudest window approach the values of the whole sound.
    """
    if is_mono(channels):
        return MONO
    count, hop, floor = row_count(len(channels) / sample_rate), _hop(sample_rate), np.float32(1e-15)
    sums = np.zeros(
        (count, 3, BANDS)
    )  # sums of weights, weighted levels and weighted shared powers
    windows, most = np.zeros((count, 1)), 1e-9
    for start, _, raw in _analysed(channels, _scale(channels), sample_rate, _REACH):
        powers = raw.smoothed()
        both = powers.left + powers.right
        weights = np.sqrt(both) + np.float32(1e-9)
        levels = 10 * np.log10((powers.left + floor) / (powers.right + floor))
        levels = levels.clip(LEVEL_STEPS[0], LEVEL_STEPS[-1])
        shared = (2 * powers.cross.real + floor) / (
            both + floor
        )  # coherence, reduced by the level difference
        rows = row_of_seconds((start + np.arange(len(both))) * hop / sample_rate, count)
        np.add.at(sums, rows, np.stack([weights, weights * levels, weights * shared], axis=1))
        np.add.at(windows, rows, 1)
        most = max(most, float(weights.max()))
    whole, few = sums.sum(axis=0), most * INAUDIBLE**0.5 * windows
    means = (sums[:, 1:] + few[..., None] * (whole[1:] / whole[0])) / (sums[:, :1] + few[..., None])
    level = np.abs(means[:, 0, :, None] - LEVEL_STEPS).argmin(axis=2)
    coherence = means[:, 1] * np.cosh(
        np.log(10) / 20 * means[:, 0]
    )  # undo the reduction by the level difference
    coherence[np.abs(LEVEL_STEPS[level]) == LEVEL_STEPS[-1]] = (
        1  # panned hard: the other channel is hardly audible
    )
    steps = [level, np.abs(coherence[..., None] - COHERENCE_STEPS).argmin(axis=2)]
    image: Image = np.stack(steps, axis=1).astype(np.uint8)
    return MONO if (image == _NEUTRAL).all() else image


def fold(channels: F32, sample_rate: int) -> F32:
    """Downmix `[N]` with the mean power of both channels `[N, 2]` in each band. If R = ±L, return L."""
    left, right = channels.T
    if np.array_equal(left, right) or np.array_equal(left, -right):
        return np.ascontiguousarray(left)
    scale, size, hop, bands = (
        _scale(channels),
        _size(sample_rate),
        _hop(sample_rate),
        _Bands(sample_rate),
    )
    window = _window(size) / np.float32(
        1.5 * scale
    )  # squared Hann windows at a hop of a quarter window add up to 1.5
    folded = np.zeros(len(channels) + 3 * size, np.float32)
    own, delay = slice(_REACH, -_REACH), _delay(channels, sample_rate)
    for start, spectra, raw in _analysed(channels, scale, sample_rate, 2 * _REACH, delay):
        powers = raw.smoothed()
        left, right = spectra[:, own]
        mixed = left + right * (_turn(powers.coherence) @ bands.between)
        both, summed = (
            (powers.left + powers.right)[own],
            _smoothed(np.abs(mixed) ** 2 @ bands.members),
        )
        gain = np.sqrt((both + 1e-30) / (2 * summed + 1e-30)).clip(0.4, 1.2)
        blocks = np.fft.irfft(mixed[own] * (gain @ bands.between), size, axis=1) * window
        for number, block in enumerate(blocks, start + 1):
            folded[number * hop : number * hop + size] += block
    first = size // 2 + hop
    return folded[first : first + len(channels)]


def _turn(coherence: Complex) -> Complex:
    """Factor that aligns the phase of the right channel with the left, as far as they are coherent."""
    size = np.abs(coherence)
    share = ((size - 0.3) / 0.4).clip(0, 1)
    turn = share * coherence / np.maximum(size, 1e-9) + (1 - share)
    turned: Complex = (turn / np.maximum(np.abs(turn), 0.3)).astype(np.complex64)
    return turned


def _delay(channels: F32, sample_rate: int) -> int:
    """Delay in samples of the right channel after the left, up to ±20 ms.

    0 unless the delay raises the correlation by 0.2, to more than 0.5. The shortest delay within 5 % of the best
    correlation is used.
    """
    length, most, least_gain = 1 << 15, round(0.02 * sample_rate), 0.2
    starts = range(0, max(1, len(channels) - length // 2), max(length // 2, len(channels) // 64))
    products, power = np.zeros(2 * most + 1), np.zeros(2)
    for start in starts:
        block = channels[start : start + length // 2].astype(np.float64)
        spectra = np.fft.rfft(block, length, axis=0)
        correlation = np.fft.irfft(spectra[:, 0].conj() * spectra[:, 1], length)
        products += np.concatenate([correlation[-most:], correlation[: most + 1]])
        power += np.square(block).sum(axis=0)
    alike = np.abs(products) / max(float(np.sqrt(power.prod())), 1e-30)
    delays = np.arange(-most, most + 1)
    good = delays[alike >= 0.95 * alike.max()]
    is_delayed = alike.max() > max(0.5, alike[most] + least_gain)
    return int(good[np.abs(good).argmin()]) if is_delayed else 0


def band_positions(size: int, sample_rate: int) -> NDArray[np.float64]:
    """Positions `[K]` of the bins of a `size`-point FFT on the band scale: band b covers b to b + 1."""
    erb = 21.4 * np.log10(1 + 0.00437 * np.fft.rfftfreq(size, 1 / sample_rate))
    positions: NDArray[np.float64] = erb * (BANDS / erb[-1])
    return positions


class _Bands:
    """Membership of bins in bands, and interpolation weights from bands to bins."""

    def __init__(self, sample_rate: int) -> None:
        positions = band_positions(_size(sample_rate), sample_rate)
        numbers = np.minimum(positions.astype(np.int64), BANDS - 1)
        self.members: F32 = (numbers[:, None] == np.arange(BANDS)).astype(np.float32)  # [K, BANDS]
        distance = np.abs((positions - 0.5).clip(0, BANDS - 1) - np.arange(BANDS)[:, None])
        self.between: F32 = (1 - distance).clip(0, 1).astype(np.float32)  # [BANDS, K]


def _size(sample_rate: int) -> int:
    """Window length in samples: 2048 at 44.1 kHz."""
    return 1 << int(np.ceil(np.log2(0.04 * sample_rate)))


def _hop(sample_rate: int) -> int:
    return _size(sample_rate) // 4


def _window(size: int) -> F32:
    return np.hanning(size + 1)[:size].astype(np.float32)


def _scale(channels: F32) -> float:
    """Power of two that brings the peak to about 1, so that squared samples fit float32."""
    peak = max(float(channels.max(initial=0.0)), -float(channels.min(initial=0.0)))
    return float(2.0 ** -np.frexp(peak)[1])


def _analysed(
    channels: F32, scale: float, sample_rate: int, context: int, delay: int = 0
) -> Iterator[tuple[int, Complex, _Powers]]:
    """Yield chunks of windows: index of the first window, spectra `[2, W, K]`, and powers.

    Window w, from -1 on, is centred at sample w * hop. A chunk has `context` extra windows at each end. Channels are
    aligned by `delay` (right after left, in samples) and multiplied by `scale`.
    """
    size, hop, bands = _size(sample_rate), _hop(sample_rate), _Bands(sample_rate)
    taper = _window(size) * np.float32(scale)
    count = -(-len(channels) // hop) + 2
    ahead = max(0, -delay), max(0, delay)
    for start in range(-1, count, _WINDOWS_AT_ONCE):
        windows = min(_WINDOWS_AT_ONCE, count - start)
        first = (start - context) * hop - size // 2
        length = (windows + 2 * context - 1) * hop + size
        parts = [
            _part(channel, first + shift, length)
            for channel, shift in zip(channels.T, ahead, strict=True)
        ]
        framed = np.stack([sliding_window_view(part, size)[::hop] for part in parts]) * taper
        spectra: Complex = np.fft.rfft(framed, axis=2)
        left, right = spectra
        products = (np.abs(left) ** 2, np.abs(right) ** 2, left * right.conj())
        powers = _Powers(*(values @ bands.members for values in products))
        yield start, spectra, powers


def _part(channel: F32, start: int, length: int) -> F32:
    """`length` samples from `start` on, zeros outside the channel."""
    inside = channel[max(0, start) : max(0, start + length)]
    before = max(0, -start)
    return np.pad(inside, (before, length - before - len(inside)))
