"""Audio fingerprints, by which near-duplicate recordings are found.

After Haitsma & Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002): each frame gives 32 bits, the
signs of energy differences along time and frequency (their equation 1). Two changes, each measured on one-shots:

- differences of log energy, so that the decay of a quiet partial counts as much as that of a loud one;
- a bit that is nearly zero is marked unsure and counts half, so that a held tone or an empty band proves nothing.

Shapes: `N` samples, `F` frames.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = 32
WINDOW_SECONDS = 0.064
HOP_SECONDS = 0.008
DIFFERENCE_FRAMES = 3
LOWEST_HZ, HIGHEST_HZ, LINEAR_BELOW_HZ = 50.0, 8000.0, 200.0
SURE_DB = 0.7
LOUD_DB = 50.0
MASKED_DB = 35.0
QUANTISATION_MARGIN_DB = 6.0

# On 365 one-shots, loops and spoken digits: 18 kinds of changed copy have an error rate of 0.07 in the median and 0.18
# at the 95th percentile; the closest two of 62 124 pairs of different recordings, takes of one word, have 0.26.
MAXIMUM_ERROR_RATE = 0.22

_FRAMES_PER_FFT = 64  # their spectra stay in the processor's cache

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Fingerprint of a recording, of three-valued bits: bit `b` of a frame is 1, 0 or, where `sure` is 0, unknown."""

    signs: U32  # [F]
    sure: U32  # [F]
    loud: NDArray[np.bool_]  # [F]: within LOUD_DB of the recording's loudest frame


def fingerprint(pcm: NDArray[np.int16], sample_rate: int) -> Fingerprint:
    """Fingerprint of `pcm` `[N]`: one frame every `HOP_SECONDS`, frame 0 centred on sample 0."""
    energy, noise = _band_energies(pcm, sample_rate)  # [F, 33]
    total = energy.mean(axis=1)
    loud = total > max(float(total.max(initial=0.0)) * 10 ** (-LOUD_DB / 10), noise)
    floor = np.maximum(energy.max(axis=1, keepdims=True) * 10 ** (-MASKED_DB / 10), noise)
    level = 10 * np.log10(energy + floor)
    slope = level[:, :-1] - level[:, 1:]  # [F, 32] dB between neighbouring bands
    change = slope.copy()  # before the first frame there is silence, whose slope is zero: an onset tells most
    change[DIFFERENCE_FRAMES:] -= slope[:-DIFFERENCE_FRAMES]
    sure = np.abs(change) > SURE_DB
    return Fingerprint(signs=_packed((change > 0) & sure), sure=_packed(sure), loud=loud)


def error_rate_limit(bits: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """Highest error rate over `bits` sure bits at which two aligned recordings count as the same sound.

    Unrelated recordings agree on half of their bits by chance, with a spread that shrinks as 1/sqrt(bits).
    """
    by_chance = 0.5 - 6.0 / np.sqrt(np.maximum(bits, 1))
    return np.asarray(np.minimum(MAXIMUM_ERROR_RATE, by_chance), dtype=np.float64)


def _band_energies(pcm: NDArray[np.int16], sample_rate: int) -> tuple[NDArray[np.float32], float]:
    """Mean power per bin in BITS + 1 bands, `[F, 33]`, and the power that 16-bit rounding alone would give."""
    window, fft_length, edges = _analysis(sample_rate)
    hop = max(1, round(sample_rate * HOP_SECONDS))
    padded = np.pad(pcm, (len(window) // 2, len(window)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(window))[::hop]
    frames = frames[: -(-len(pcm) // hop)]
    energy = np.empty((len(frames), BITS + 1), dtype=np.float32)
    for start in range(0, len(frames), _FRAMES_PER_FFT):
        block = slice(start, start + _FRAMES_PER_FFT)
        spectrum = np.fft.rfft(frames[block] * window, fft_length)[:, : edges[-1]]
        power = spectrum.real**2 + spectrum.imag**2
        energy[block] = np.add.reduceat(power, edges[:-1], axis=1)
    energy /= np.diff(edges).astype(np.float32)
    return energy, float((window**2).sum()) / 12 * 10 ** (QUANTISATION_MARGIN_DB / 10)


@functools.cache
def _analysis(sample_rate: int) -> tuple[NDArray[np.float32], int, I64]:
    """Window of the short-time Fourier transform, the transform's length, and the bands' edges in its bins."""
    window_length = round(sample_rate * WINDOW_SECONDS)
    fft_length = 1 << (window_length - 1).bit_length()
    return np.hanning(window_length).astype(np.float32), fft_length, _band_edges(sample_rate, fft_length)


def _band_edges(sample_rate: int, fft_length: int) -> I64:
    """Bin edges of BITS + 1 bands, evenly spaced on a scale that is linear below LINEAR_BELOW_HZ, log above."""
    highest = min(HIGHEST_HZ, sample_rate / 2)
    low, high = (np.log1p(hz / LINEAR_BELOW_HZ) for hz in (LOWEST_HZ, highest))
    hz = LINEAR_BELOW_HZ * np.expm1(np.linspace(low, high, BITS + 2))
    edges = np.ceil(hz * fft_length / sample_rate).astype(np.int64)
    rising = np.arange(len(edges))
    return np.asarray(np.maximum.accumulate(edges - rising) + rising, dtype=np.int64)


def _packed(flags: NDArray[np.bool_]) -> U32:
    """Flags `[F, 32]` packed to integers `[F]`, band 0 in the highest bit."""
    return np.packbits(flags, axis=1).view(">u4").astype(np.uint32)[:, 0]


def bit_differences(signs_a: U32, sure_a: U32, signs_b: U32, sure_b: U32) -> tuple[I64, I64]:
    """Twice the bit errors of each frame, and its bits that are sure on any side; a one-sided one is half an error."""
    disagree = np.bitwise_count((signs_a ^ signs_b) & sure_a & sure_b).astype(np.int64)
    one_sided = np.bitwise_count(sure_a ^ sure_b)
    return 2 * disagree + one_sided, np.bitwise_count(sure_a | sure_b).astype(np.int64)
