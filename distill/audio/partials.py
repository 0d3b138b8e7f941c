"""Partials of sounds: is what was a tone still a tone?

Noise with the bands and the envelope of a tone is near to it by every measure of level and mel distance. Here the
partials of one sound are looked for in another, and those of one sound are followed over time. Shapes: `T` frames, `P`
partials of a frame at most, `bins` of a spectrum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

MOST_PARTIALS = 20  # of a frame, the loudest
LOUD = 10 ** (-40 / 20)  # of a sound's loudest frame, and of a frame's loudest bin: what is softer does not count
TONE = "tone/"  # prefix of metrics

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Partials:
    """Partials of the frames of a sound, from low to high, and its spectra."""

    frequencies: Doubles  # [T, P] Hz, NaN where a frame has fewer
    levels: Doubles  # [T, P] dB of a full-scale sine
    powers: Doubles  # [T, bins]
    energies: Doubles  # [T], the sums of these
    is_loud: Flags  # [T]
    hertz_per_bin: float
    seconds: float
    hop_seconds: float

    @property
    def closest_hertz(self) -> float:
        """Distance in Hz below which two frequencies are the same, however many cents that is: half a bin."""
        return 0.5 * self.hertz_per_bin

    @property
    def lobes(self) -> Flags:
        """The bins `[T, bins]` that belong to partials: two on each side, the main lobe of the window."""
        frames, positions = np.nonzero(np.isfinite(self.frequencies))
        bins = np.rint(self.frequencies[frames, positions] / self.hertz_per_bin).astype(np.intp)
        lobes, last = np.zeros(self.powers.shape, bool), self.powers.shape[1] - 1
        for offset in range(-2, 3):
            lobes[frames, np.clip(bins + offset, 0, last)] = True
        return lobes

    def shares(self, lobes: Flags) -> Doubles:
        """Proportion `[T]` of each frame's energy that is in bins `[T, bins]`."""
        frames, bins = np.nonzero(lobes)
        inside = np.bincount(frames, self.powers[frames, bins], len(self.energies))
        return np.asarray(inside / np.maximum(self.energies, 1e-20))


@dataclass(frozen=True)
class ToneMatch:
    """How many partials of a sound and of another are the same, within 15 cents or half a bin."""

    recall: float  # proportion of the first sound's partials that the second has
    precision: float  # proportion of the second's that the first has, in frames where the first has any
    tone_to_noise_lost: float  # dB, of the energy near the first's partials to the rest
    cents: float  # median deviation of those that are the same; NaN without any

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision."""
        return 2 * self.recall * self.precision / max(1e-9, self.recall + self.precision)


@dataclass(frozen=True)
class Steadiness:
    """How tonal one sound is: the proportion of its energy in partials, and how long these last."""

    share: float
    life: float  # mean of the partials by energy, as a proportion of the sound's length

    @property
    def is_tonal(self) -> bool:
        """Whether most energy is in partials that last."""
        return self.share > 0.8 and self.life > 0.5


def find_partials(sound: NDArray[np.floating], sample_rate: int) -> Partials:
    """Find the partials of a sound `[N]`: bins that stand out of their surroundings, with a parabola between them.

    Windows are Hann windows of 93 ms, every quarter of a window. A minute of sound takes some 60 MB.
    """
    size = window_size(sample_rate)
    hop, taper = size // 4, np.hanning(size + 1)[:-1]
    padded = np.pad(np.asarray(sound, np.float64), (size // 2, size // 2 + hop))
    windows, taper = sliding_window_view(padded, size)[::hop], taper / (taper.sum() / 2)  # [T, size]
    frequencies, levels = np.full((2, len(windows), MOST_PARTIALS), np.nan)
    powers, loudest = np.empty((len(windows), size // 2 + 1)), np.empty(len(windows))
    at_once = 32  # frames whose spectra stay in the processor's cache
    for first in range(0, len(windows), at_once):
        block = slice(first, first + at_once)
        spectra = np.fft.rfft(windows[block] * taper)
        powers[block] = np.square(spectra.real) + np.square(spectra.imag)
        amplitudes = np.sqrt(powers[block]) + 1e-7  # -140 dB
        loudest[block] = amplitudes.max(axis=1)
        frames, bins = _peaks(amplitudes)
        left, middle, right = (20 * np.log10(amplitudes[frames, bins + offset]) for offset in (-1, 0, 1))
        at = first + frames, np.arange(len(frames)) - np.searchsorted(frames, frames)  # from low to high in a frame
        frequencies[at] = bins + 0.5 * (left - right) / (left - 2 * middle + right - 1e-9)
        levels[at] = middle
    return Partials(
        frequencies=frequencies * (sample_rate / size),
        levels=levels,
        powers=powers,
        energies=powers.sum(axis=1),
        is_loud=loudest > loudest.max() * LOUD,
        hertz_per_bin=sample_rate / size,
        seconds=len(sound) / sample_rate,
        hop_seconds=hop / sample_rate,
    )


def window_size(sample_rate: int) -> int:
    """Samples of a window that tells partials apart."""
    return 4096 if sample_rate > 30_000 else 2048


def match(before: Partials, after: Partials) -> ToneMatch | None:
    """Look for the partials of `before` in `after`, a sound of the same length and sample rate, where `before` is loud.

    None where `before` has fewer than 30 in all: noise has no tone to lose.
    """
    chosen = before.is_loud & np.isfinite(before.frequencies[:, 0])
    here, there = before.frequencies[chosen], after.frequencies[chosen]
    count, shown = np.isfinite(here).sum(), np.isfinite(there).sum()
    if count < 30:
        return None
    distances = np.abs(here[:, :, None] - there[:, None])
    nearest = _smallest(distances)  # [frames, P]
    limit = np.maximum(before.closest_hertz, here * (2 ** (15.0 / 1200) - 1))
    frames, positions = np.nonzero(np.take_along_axis(distances, nearest[..., None], 2)[..., 0] <= limit)
    # Of partials that are near the same partial, the lowest has it.
    _, first = np.unique(frames * MOST_PARTIALS + nearest[frames, positions], return_index=True)
    mine = frames[first], positions[first]
    theirs = mine[0], nearest[mine]
    cents = np.abs(1200 * np.log2(there[theirs] / here[mine]))
    lost, kept = (_tone_to_noise(sound.shares(before.lobes)[chosen]) for sound in (before, after))
    return ToneMatch(
        recall=float(len(first) / count),
        precision=float(len(first) / max(1, shown)),
        tone_to_noise_lost=lost - kept,
        cents=float(np.median(cents)) if len(first) else float("nan"),
    )


def steadiness(partials: Partials) -> Steadiness:
    """Follow the partials of a sound from frame to frame; silence has none."""
    loud, energies = partials.is_loud, partials.energies[partials.is_loud]
    share = float((partials.shares(partials.lobes)[loud] * energies).sum() / max(1e-300, energies.sum()))
    frequencies = np.where(loud[:, None], partials.frequencies, np.nan)
    frames, positions = np.nonzero(np.isfinite(frequencies))
    tracks = _tracks(_links(frequencies, partials.closest_hertz))[frames, positions]
    energy = np.bincount(tracks, 10 ** (partials.levels[frames, positions] / 10))
    frames_lasted = (np.bincount(tracks) * energy).sum() / max(1e-300, energy.sum())
    return Steadiness(share, float(frames_lasted * partials.hop_seconds / partials.seconds))


@dataclass(frozen=True)
class Tone:
    """Tone of one decoded sound: its partials beside the original's, and whether each of the two is tonal."""

    match: ToneMatch | None  # None where the original has no tone to lose
    original_is_tonal: bool
    decoded_is_tonal: bool

    @classmethod
    def measure(cls, original: NDArray[np.floating], decoded: NDArray[np.floating], sample_rate: int) -> Self:
        """Compare `decoded` `[N]` with `original` `[N]`."""
        before, after = (find_partials(sound, sample_rate) for sound in (original, decoded))
        return cls(match(before, after), steadiness(before).is_tonal, steadiness(after).is_tonal)


def tone_summary(measured: Sequence[Tone]) -> dict[str, float]:
    """Medians `f1`, `tone_to_noise_lost` (dB) and `cents` over sounds, and shares `tonal_originals`, `tonal_decodes`.

    A median without any value is left out.
    """
    summary = {}
    for name in ("f1", "tone_to_noise_lost", "cents"):
        values = [getattr(tone.match, name, np.nan) for tone in measured]
        if np.isfinite(values).any():
            summary[name] = float(np.nanmedian(values))
    summary["tonal_originals"] = float(np.mean([tone.original_is_tonal for tone in measured]))
    summary["tonal_decodes"] = float(np.mean([tone.decoded_is_tonal for tone in measured]))
    return summary


def tone_line(metrics: Mapping[str, float]) -> str:
    """What metrics `tone/...` say, in one line; empty where nothing was measured."""
    if f"{TONE}tonal_originals" not in metrics:
        return ""
    tones = {name.removeprefix(TONE): value for name, value in metrics.items()}
    line = f"{tones['tonal_originals']:.0%} tonal, {tones['tonal_decodes']:.0%} once decoded"
    if "f1" in tones:
        cents = f", {tones['cents']:.1f} cents off" if "cents" in tones else ""
        ratio = f"tone-to-noise ratio {-tones['tone_to_noise_lost']:+.1f} dB"
        line += f"; partials found again {tones['f1']:.2f} (F1){cents}, {ratio}"
    return line


def _peaks(amplitudes: Doubles) -> tuple[Numbers, Numbers]:
    """Frames and bins of the partials in spectra `[T, bins]`, in order.

    A partial is 15 dB above the median of the 41 bins about it.
    """
    inner = amplitudes[:, 2:-2]
    highest = (inner > amplitudes[:, 3:-1]) & (inner > amplitudes.max(axis=1, keepdims=True) * LOUD)
    highest &= inner >= amplitudes[:, 1:-3]
    frames, bins = np.nonzero(highest)
    bins += 2
    heights = amplitudes[frames, bins]
    is_peak = (heights >= amplitudes[frames, bins - 2]) & (heights > amplitudes[frames, bins + 2])
    frames, bins, heights = frames[is_peak], bins[is_peak], heights[is_peak]
    # It stands out of their median when it stands out of more than half of them.
    half = 20
    around = sliding_window_view(np.pad(amplitudes, ((0, 0), (half, half)), mode="edge"), 2 * half + 1, axis=1)
    stands_out = (around[frames, bins] < (heights * 10 ** (-15 / 20))[:, None]).sum(axis=1) > half
    frames, bins, heights = frames[stands_out], bins[stands_out], heights[stands_out]
    order = np.lexsort((-heights, frames))
    kept = np.sort(order[np.arange(len(order)) - np.searchsorted(frames, frames) < MOST_PARTIALS])
    return frames[kept], bins[kept]


def _links(hertz: Doubles, closest_hertz: float) -> Numbers:
    """Position `[T, P]` in the frame before of the partial that each goes on from, -1 where it begins.

    From low to high, each takes the nearest that is left, within 25 cents or half a bin. All frames are followed at once.
    """
    before = np.full(hertz.shape, -1)
    cents = 1200 * np.log2(hertz)
    apart = np.abs(cents[1:, :, None] - cents[:-1, None])  # [T - 1, P, P]
    apart_hertz = np.abs(hertz[1:, :, None] - hertz[:-1, None])
    rows = np.arange(len(apart))
    for position in range(hertz.shape[1]):
        nearest = _smallest(apart[:, position])
        is_next = apart[rows, position, nearest] < 25.0
        is_next |= (apart_hertz[rows, position, nearest] < closest_hertz) & np.isfinite(apart[rows, position, nearest])
        before[1:, position][is_next] = nearest[is_next]
        apart[rows[is_next], :, nearest[is_next]] = np.nan
    return before


def _tracks(before: Numbers) -> Numbers:
    """A number `[T, P]` for each partial, the same in all frames that it lasts."""
    tracks = np.arange(before.size).reshape(before.shape)
    for frame in range(1, len(before)):
        goes_on = before[frame] >= 0
        tracks[frame, goes_on] = tracks[frame - 1, before[frame, goes_on]]
    return tracks


def _smallest(values: Doubles) -> Numbers:
    """Index of the smallest value of the last axis; 0 where all are NaN."""
    return np.asarray(np.where(np.isnan(values), np.inf, values).argmin(axis=-1))


def _tone_to_noise(shares: Doubles) -> float:
    """The mean of shares of tone `[T]` as a ratio of tone to the rest, in dB."""
    share = float(shares.mean())
    return float(10 * np.log10((share + 1e-6) / (1 - share + 1e-6)))
