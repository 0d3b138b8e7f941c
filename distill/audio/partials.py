"""Partials of sounds, to measure whether decoded tones are still tones.

Noise with the bands and envelope of a tone is close to it by level and mel distance. These metrics match the partials
of two sounds, and track the partials of one sound over time.

Shapes: `T` frames, `P` partials in a frame at most, `bins` of a spectrum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from distill.audio.measure import peak_offset

MOST_PARTIALS = 20  # in a frame: the loudest
LOUD = 10 ** (
    -40 / 20
)  # ignore anything softer, relative to the loudest frame and to a frame's loudest bin
TONE = "tone/"  # prefix of metrics

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Partials:
    """Partials in the frames of a sound, in ascending order, and its power spectra."""

    frequencies: Doubles  # [T, P] Hz, padded with NaN
    levels: Doubles  # [T, P] dB of a full-scale sine
    powers: Doubles  # [T, bins]
    energies: Doubles  # [T], summed powers
    is_loud: Flags  # [T]
    hertz_per_bin: float
    seconds: float
    hop_seconds: float

    @property
    def closest_hertz(self) -> float:
        """Distance in Hz below which two frequencies count as equal, whatever the cents: half a bin."""
        return 0.5 * self.hertz_per_bin

    @property
    def lobes(self) -> Flags:
        """Flags `[T, bins]` of the bins of partials: the main lobe of the window, two bins on each side."""
        frames, positions = np.nonzero(np.isfinite(self.frequencies))
        bins = np.rint(self.frequencies[frames, positions] / self.hertz_per_bin).astype(np.intp)
        lobes, last = np.zeros(self.powers.shape, bool), self.powers.shape[1] - 1
        for offset in range(-2, 3):
            lobes[frames, np.clip(bins + offset, 0, last)] = True
        return lobes

    def shares(self, lobes: Flags) -> Doubles:
        """Proportion `[T]` of each frame's energy in the flagged bins `[T, bins]`."""
        frames, bins = np.nonzero(lobes)
        inside = np.bincount(frames, self.powers[frames, bins], len(self.energies))
        return np.asarray(inside / np.maximum(self.energies, 1e-20))


@dataclass(frozen=True)
class ToneMatch:
    """Agreement between the partials of two sounds, within 15 cents or half a bin."""

    recall: float  # proportion of the first sound's partials present in the second
    precision: float  # proportion of the second's partials present in the first, in frames where the first has any
    tone_to_noise_lost: (
        float  # dB, loss in the ratio of energy near the first's partials to the rest
    )
    cents: float  # median deviation of matched partials; NaN if none

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision."""
        return 2 * self.recall * self.precision / max(1e-9, self.recall + self.precision)


@dataclass(frozen=True)
class Steadiness:
    """Tonality of one sound: proportion of its energy in partials, and duration of the partials."""

    share: float
    life: float  # energy-weighted mean duration of the partials, relative to the sound's length

    @property
    def is_tonal(self) -> bool:
        """Whether most of the energy is in lasting partials."""
        return self.share > 0.8 and self.life > 0.5


def find_partials(sound: NDArray[np.floating], sample_rate: int) -> Partials:
    """Find the partials of a sound `[N]`: spectral peaks above their surroundings, interpolated by a parabola.

    Hann windows last 93 ms, with a hop of a quarter window. A minute of sound takes about 60 MB.
    """
    size = window_size(sample_rate)
    hop, taper = size // 4, np.hanning(size + 1)[:-1]
    padded = np.pad(np.asarray(sound, np.float64), (size // 2, size // 2 + hop))
    # [T, size]
    windows, taper = sliding_window_view(padded, size)[::hop], taper / (taper.sum() / 2)
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
        left, middle, right = (
            20 * np.log10(amplitudes[frames, bins + offset]) for offset in (-1, 0, 1)
        )
        at = (
            first + frames,
            np.arange(len(frames)) - np.searchsorted(frames, frames),
        )  # in ascending order
        frequencies[at] = bins + peak_offset(left, middle, right)
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
    """Window length in samples that separates partials."""
    return 4096 if sample_rate > 30_000 else 2048


def match(before: Partials, after: Partials) -> ToneMatch | None:
    """Match the partials of `before` in `after`, of the same length and sample rate, in frames where `before` is loud.

    None if `before` has fewer than 30 partials in total: noise has no tone to lose.
    """
    chosen = before.is_loud & np.isfinite(before.frequencies[:, 0])
    here, there = before.frequencies[chosen], after.frequencies[chosen]
    count, shown = np.isfinite(here).sum(), np.isfinite(there).sum()
    if count < 30:
        return None
    distances = np.abs(here[:, :, None] - there[:, None])
    nearest = _smallest(distances)  # [frames, P]
    limit = np.maximum(before.closest_hertz, here * (2 ** (15.0 / 1200) - 1))
    frames, positions = np.nonzero(
        np.take_along_axis(distances, nearest[..., None], 2)[..., 0] <= limit
    )
    # If several partials are nearest to the same partial, the lowest gets it.
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
    """Measure tonality by tracking the partials of a sound from frame to frame; silence has none."""
    loud, energies = partials.is_loud, partials.energies[partials.is_loud]
    share = float(
        (partials.shares(partials.lobes)[loud] * energies).sum() / max(1e-300, energies.sum())
    )
    frequencies = np.where(loud[:, None], partials.frequencies, np.nan)
    frames, positions = np.nonzero(np.isfinite(frequencies))
    tracks = _tracks(_links(frequencies, partials.closest_hertz))[frames, positions]
    energy = np.bincount(tracks, 10 ** (partials.levels[frames, positions] / 10))
    frames_lasted = (np.bincount(tracks) * energy).sum() / max(1e-300, energy.sum())
    return Steadiness(share, float(frames_lasted * partials.hop_seconds / partials.seconds))


@dataclass(frozen=True)
class Tone:
    """Tone metrics of one decoded sound: match with the original's partials, and whether each sound is tonal."""

    match: ToneMatch | None  # None if the original has no tone to lose
    original_is_tonal: bool
    decoded_is_tonal: bool

    @classmethod
    def measure(
        cls, original: NDArray[np.floating], decoded: NDArray[np.floating], sample_rate: int
    ) -> Self:
        """Compare `decoded` `[N]` with `original` `[N]`."""
        before, after = (find_partials(sound, sample_rate) for sound in (original, decoded))
        return cls(match(before, after), steadiness(before).is_tonal, steadiness(after).is_tonal)


def tone_summary(measured: Sequence[Tone]) -> dict[str, float]:
    """Medians `f1`, `tone_to_noise_lost` (dB) and `cents`; proportions `tonal_originals` and `tonal_decodes`.

    Medians without values are left out.
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
    """Summary of the `tone/...` metrics in one line, or "" if there are none."""
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
    """Frames and bins of the partials in spectra `[T, bins]`, in ascending order.

    A partial is a peak 15 dB above the median of the 41 bins around it.
    """
    inner = amplitudes[:, 2:-2]
    highest = (inner > amplitudes[:, 3:-1]) & (inner > amplitudes.max(axis=1, keepdims=True) * LOUD)
    highest &= inner >= amplitudes[:, 1:-3]
    frames, bins = np.nonzero(highest)
    bins += 2
    heights = amplitudes[frames, bins]
    is_peak = (heights >= amplitudes[frames, bins - 2]) & (heights > amplitudes[frames, bins + 2])
    frames, bins, heights = frames[is_peak], bins[is_peak], heights[is_peak]
    # A peak exceeds the median by 15 dB if it exceeds more than half of the bins by 15 dB.
    half = 20
    around = sliding_window_view(
        np.pad(amplitudes, ((0, 0), (half, half)), mode="edge"), 2 * half + 1, axis=1
    )
    stands_out = (around[frames, bins] < (heights * 10 ** (-15 / 20))[:, None]).sum(axis=1) > half
    frames, bins, heights = frames[stands_out], bins[stands_out], heights[stands_out]
    order = np.lexsort((-heights, frames))
    kept = np.sort(order[np.arange(len(order)) - np.searchsorted(frames, frames) < MOST_PARTIALS])
    return frames[kept], bins[kept]


def _links(hertz: Doubles, closest_hertz: float) -> Numbers:
    """Position `[T, P]` of each partial's predecessor in the previous frame, -1 where a partial begins.

    In ascending order, each partial takes the nearest predecessor left, within 25 cents or half a bin. Vectorised over
    all frames.
    """
    before = np.full(hertz.shape, -1)
    cents = 1200 * np.log2(hertz)
    apart = np.abs(cents[1:, :, None] - cents[:-1, None])  # [T - 1, P, P]
    apart_hertz = np.abs(hertz[1:, :, None] - hertz[:-1, None])
    rows = np.arange(len(apart))
    for position in range(hertz.shape[1]):
        nearest = _smallest(apart[:, position])
        is_next = apart[rows, position, nearest] < 25.0
        is_next |= (apart_hertz[rows, position, nearest] < closest_hertz) & np.isfinite(
            apart[rows, position, nearest]
        )
        before[1:, position][is_next] = nearest[is_next]
        apart[rows[is_next], :, nearest[is_next]] = np.nan
    return before


def _tracks(before: Numbers) -> Numbers:
    """Track number `[T, P]` of each partial, equal in all frames of a track."""
    tracks = np.arange(before.size).reshape(before.shape)
    for frame in range(1, len(before)):
        goes_on = before[frame] >= 0
        tracks[frame, goes_on] = tracks[frame - 1, before[frame, goes_on]]
    return tracks


def _smallest(values: Doubles) -> Numbers:
    """Index of the smallest value along the last axis; 0 if all are NaN."""
    return np.asarray(np.where(np.isnan(values), np.inf, values).argmin(axis=-1))


def _tone_to_noise(shares: Doubles) -> float:
    """Tone-to-noise ratio in dB of the mean of tone proportions `[T]`."""
    share = float(shares.mean())
    return float(10 * np.log10((share + 1e-6) / (1 - share + 1e-6)))
