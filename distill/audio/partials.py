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

LONG_WINDOW, SHORT_WINDOW, LONG_ABOVE_HZ = 4096, 2048, 30_000  # samples, by sample rate: about 93 ms
HOPS = 4  # a window
BLOCK = 32  # frames whose spectra are held at once: these stay in the processor's cache
FLOOR = 1e-7  # added to an amplitude: -140 dB
LOUD = 10 ** (-40 / 20)  # of a sound's loudest frame, and of a frame's loudest bin: what is softer does not count
BELOW, SURROUNDINGS = 10 ** (-15 / 20), 41  # so far below a partial is the median of so many bins about it
MOST_PARTIALS = 20  # of a frame, the loudest
REACH = 2  # bins on each side that are below a partial, and belong to it: the main lobe of the window
SAME_CENTS, NEXT_CENTS, SAME_BINS = 15.0, 25.0, 0.5  # between a partial and that of another sound, of the next frame
FEWEST_PARTIALS = 30  # of all frames of a sound, to compare it by
FEWEST_FRAMES = 4  # of a partial, to say how steady it is
TONAL_SHARE, TONAL_LIFE = 0.8, 0.5
TONE = "tone/"  # prefix of metrics

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Partials:
    """Partials of the frames of a sound, from low to high, with the spectra that they were found in."""

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
        """Distance in Hz below which two frequencies are the same, however many cents that is."""
        return SAME_BINS * self.hertz_per_bin

    @property
    def lobes(self) -> Flags:
        """The bins `[T, bins]` that belong to partials."""
        frames, positions = np.nonzero(np.isfinite(self.frequencies))
        bins = np.rint(self.frequencies[frames, positions] / self.hertz_per_bin).astype(np.intp)
        found, last = np.zeros(self.powers.shape, bool), self.powers.shape[1] - 1
        for offset in range(-REACH, REACH + 1):
            found[frames, np.clip(bins + offset, 0, last)] = True
        return found

    def shares(self, lobes: Flags) -> Doubles:
        """Share `[T]` of each frame's energy that is in bins `[T, bins]`."""
        frames, bins = np.nonzero(lobes)
        inside = np.bincount(frames, self.powers[frames, bins], len(self.energies))
        return np.asarray(inside / np.maximum(self.energies, 1e-20))


@dataclass(frozen=True)
class ToneMatch:
    """The partials of a sound found again in another, within 15 cents or half a bin."""

    recall: float  # share of the first sound's partials that the second has
    precision: float  # share of the second's, in frames where the first has any
    f1: float
    tone_to_noise_lost: float  # dB, of the energy near the first's partials to the rest
    level: float  # median absolute difference of those found, dB; NaN without any
    cents: float  # median deviation of those found; NaN without any


@dataclass(frozen=True)
class Steadiness:
    """How tonal one sound is: the share of its energy in partials, and how long these last."""

    share: float
    life: float  # mean of the partials by energy, as a share of the sound's length
    wobble: float  # median change of a partial from frame to frame, in cents; NaN where none lasts

    @property
    def is_tonal(self) -> bool:
        """Whether most energy is in partials that last."""
        return self.share > TONAL_SHARE and self.life > TONAL_LIFE


def find_partials(sound: NDArray[np.floating], sample_rate: int) -> Partials:
    """Find the partials of a sound `[N]`: bins that stand out of their surroundings, with a parabola between them.

    Windows are Hann windows of 93 ms, every quarter of one. A minute of sound takes some 60 MB.
    """
    size = window_size(sample_rate)
    hop, taper = size // HOPS, np.hanning(size + 1)[:-1]
    padded = np.pad(np.asarray(sound, np.float64), (size // 2, size // 2 + hop))
    windows, taper = sliding_window_view(padded, size)[::hop], taper / (taper.sum() / 2)  # [T, size]
    found = np.full((2, len(windows), MOST_PARTIALS), np.nan)
    powers, loudest = np.empty((len(windows), size // 2 + 1)), np.empty(len(windows))
    for first in range(0, len(windows), BLOCK):
        block = slice(first, first + BLOCK)
        spectra = np.fft.rfft(windows[block] * taper)
        powers[block] = np.square(spectra.real) + np.square(spectra.imag)
        amplitudes = np.sqrt(powers[block]) + FLOOR
        loudest[block] = amplitudes.max(axis=1)
        frames, bins = _peaks(amplitudes)
        left, middle, right = (20 * np.log10(amplitudes[frames, bins + offset]) for offset in (-1, 0, 1))
        positions = np.arange(len(frames)) - np.searchsorted(frames, frames)  # of each in its frame, from low to high
        found[0, first + frames, positions] = bins + 0.5 * (left - right) / (left - 2 * middle + right - 1e-9)
        found[1, first + frames, positions] = middle
    return Partials(
        frequencies=found[0] * (sample_rate / size),
        levels=found[1],
        powers=powers,
        energies=powers.sum(axis=1),
        is_loud=loudest > loudest.max() * LOUD,
        hertz_per_bin=sample_rate / size,
        seconds=len(sound) / sample_rate,
        hop_seconds=hop / sample_rate,
    )


def window_size(sample_rate: int) -> int:
    """Samples of a window that tells partials apart."""
    return LONG_WINDOW if sample_rate > LONG_ABOVE_HZ else SHORT_WINDOW


def match(one: Partials, other: Partials) -> ToneMatch | None:
    """Look for the partials of `one` in `other`, a sound of the same length and sample rate, in the loud frames of `one`.

    None where `one` has fewer than 30 in all: noise has no tone to lose.
    """
    chosen = one.is_loud & np.isfinite(one.frequencies[:, 0])
    here, there = one.frequencies[chosen], other.frequencies[chosen]
    count, shown = np.isfinite(here).sum(), np.isfinite(there).sum()
    if count < FEWEST_PARTIALS:
        return None
    distances = np.abs(here[:, :, None] - there[:, None])
    nearest = _smallest(distances)  # [frames, P]
    limit = np.maximum(one.closest_hertz, here * (2 ** (SAME_CENTS / 1200) - 1))
    frames, positions = np.nonzero(np.take_along_axis(distances, nearest[..., None], 2)[..., 0] <= limit)
    # Of partials that are near the same one, the lowest has it.
    _, first = np.unique(frames * MOST_PARTIALS + nearest[frames, positions], return_index=True)
    mine = frames[first], positions[first]
    theirs = mine[0], nearest[mine]
    recall, precision = len(first) / count, len(first) / max(1, shown)
    ratios = [_tone_to_noise(of.shares(one.lobes)[chosen]) for of in (one, other)]
    cents = np.abs(1200 * np.log2(there[theirs] / here[mine]))
    errors = np.abs(other.levels[chosen][theirs] - one.levels[chosen][mine])
    level, deviation = (float(np.median(values)) if len(first) else float("nan") for values in (errors, cents))
    f1 = 2 * recall * precision / max(1e-9, recall + precision)
    return ToneMatch(float(recall), float(precision), float(f1), ratios[0] - ratios[1], level, deviation)


def steadiness(partials: Partials) -> Steadiness:
    """Follow the partials of a sound from frame to frame; silence has none."""
    loud = partials.is_loud
    energies = partials.energies[loud]
    if not energies.sum() > 0:
        return Steadiness(0.0, 0.0, float("nan"))
    share = float(np.average(partials.shares(partials.lobes)[loud], weights=energies))
    frequencies = np.where(loud[:, None], partials.frequencies, np.nan)
    frames, positions = np.nonzero(np.isfinite(frequencies))
    if not len(frames):
        return Steadiness(share, 0.0, float("nan"))
    cents = 1200 * np.log2(frequencies)
    before = _links(cents, frequencies, partials.closest_hertz)
    tracks = _tracks(before)[frames, positions]
    lengths = np.bincount(tracks)
    energy = np.bincount(tracks, 10 ** (partials.levels[frames, positions] / 10))
    life = float(np.average(lengths, weights=energy)) * partials.hop_seconds / partials.seconds
    # The change of each partial that goes on, then the median of each that goes on for long, sorted by both.
    goes_on = (before[frames, positions] >= 0) & (lengths[tracks] >= FEWEST_FRAMES)
    now = frames[goes_on], positions[goes_on]
    steps, of = np.abs(cents[now] - cents[now[0] - 1, before[now]]), tracks[goes_on]
    steps = steps[np.lexsort((steps, of))]
    _, counts = np.unique(of, return_counts=True)
    starts = np.cumsum(counts) - counts
    medians = (steps[starts + (counts - 1) // 2] + steps[starts + counts // 2]) / 2
    return Steadiness(share, life, float(np.median(medians)) if len(medians) else float("nan"))


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
    matches = [one.match for one in measured if one.match is not None]
    columns = {name: [getattr(one, name) for one in matches] for name in ("f1", "tone_to_noise_lost", "cents")}
    finite = {name: [value for value in values if np.isfinite(value)] for name, values in columns.items()}
    return {
        **{name: float(np.median(values)) for name, values in finite.items() if values},
        "tonal_originals": float(np.mean([one.original_is_tonal for one in measured])),
        "tonal_decodes": float(np.mean([one.decoded_is_tonal for one in measured])),
    }


def tone_line(metrics: Mapping[str, float]) -> str:
    """What metrics `tone/...` say, in one line; empty where nothing was measured."""
    if f"{TONE}tonal_originals" not in metrics:
        return ""
    found = {name.removeprefix(TONE): value for name, value in metrics.items()}
    line = f"{found['tonal_originals']:.0%} tonal, {found['tonal_decodes']:.0%} once decoded"
    if "f1" in found:
        cents = f", {found['cents']:.1f} cents off" if "cents" in found else ""
        ratio = f"tone-to-noise ratio {-found['tone_to_noise_lost']:+.1f} dB"
        line += f"; partials found again {found['f1']:.2f} (F1){cents}, {ratio}"
    return line


def _peaks(amplitudes: Doubles) -> tuple[Numbers, Numbers]:
    """Frames and bins of the partials in spectra `[T, bins]`, in order."""
    inner = amplitudes[:, 2:-2]
    highest = (inner > amplitudes[:, 3:-1]) & (inner > amplitudes.max(axis=1, keepdims=True) * LOUD)
    highest &= inner >= amplitudes[:, 1:-3]
    frames, bins = np.nonzero(highest)
    bins += 2
    heights = amplitudes[frames, bins]
    is_peak = (heights >= amplitudes[frames, bins - 2]) & (heights > amplitudes[frames, bins + 2])
    frames, bins, heights = frames[is_peak], bins[is_peak], heights[is_peak]
    # A partial stands out of the median of its surroundings when it stands out of more than half of them.
    half = SURROUNDINGS // 2
    windows = sliding_window_view(np.pad(amplitudes, ((0, 0), (half, half)), mode="edge"), SURROUNDINGS, axis=1)
    stands_out = (windows[frames, bins] < (heights * BELOW)[:, None]).sum(axis=1) > half
    frames, bins, heights = frames[stands_out], bins[stands_out], heights[stands_out]
    order = np.lexsort((-heights, frames))
    kept = np.sort(order[np.arange(len(order)) - np.searchsorted(frames, frames) < MOST_PARTIALS])
    return frames[kept], bins[kept]


def _links(cents: Doubles, hertz: Doubles, closest_hertz: float) -> Numbers:
    """Position `[T, P]` in the frame before of the partial that each goes on from, -1 where it begins.

    From low to high, each takes the nearest that is left. All frames are followed at once.
    """
    before = np.full(hertz.shape, -1)
    apart = np.abs(cents[1:, :, None] - cents[:-1, None])  # [T - 1, P, P]
    apart_hertz = np.abs(hertz[1:, :, None] - hertz[:-1, None])
    rows = np.arange(len(apart))
    for position in range(hertz.shape[1]):
        nearest = _smallest(apart[:, position])
        is_next = apart[rows, position, nearest] < NEXT_CENTS
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
