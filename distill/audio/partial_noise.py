"""Noise between the partials of held tones, in dB relative to these partials.

A tone decoded with fizz between its partials still has the right bands, the right partials and nearly the right
tone-to-noise ratio. This measure compares each gap between two neighbouring partials with the louder of the two.

Shapes: `N` samples, `G` gaps, `S` sounds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

SIZE, HOP, LATER = 8192, 4096, 2048  # samples: window, hop, and how long a partial has to last
REGIONS = (60, 1250, 2500, 5000, 10_000)  # Hz, lower edges of the frequency regions
# dB: largest distance below the loudest bin, least height above the bins around, largest decay within LATER samples
LOUD, PROMINENT, LASTING = 55.0, 15.0, 12.0
AROUND = 40  # bins on each side that a partial has to stand out from
# Relative detuning allowed for a decoded partial; half width of its lobe in bins
OUT_OF_TUNE, LOBE = 0.004, 3
FEWEST = 20  # gaps that a region needs for a median
NOISE = "partial_noise/"  # prefix of metrics

Doubles = NDArray[np.float64]


class PartialNoise(NamedTuple):
    """Levels `[G, S]` of gaps in dB relative to the louder adjacent partial, and region indices `[G]`."""

    regions: NDArray[np.intp]
    levels: Doubles

    @classmethod
    def measure(
        cls, original: NDArray[np.floating], sample_rate: int, *others: NDArray[np.floating]
    ) -> Self:
        """Measure `original` `[N]`, and `others` of the same length, at the partials of `original`.

        The first column of the levels belongs to the original.
        """
        found = list(_gaps(original, sample_rate, others))
        levels = np.array([gap for _, gap in found]).reshape(-1, 1 + len(others))
        return cls(np.array([region for region, _ in found], np.intp), levels)

    @classmethod
    def of_all(cls, measured: Iterable["PartialNoise"]) -> Self:
        """Concatenate the gaps of several sounds."""
        regions, levels = zip(*measured, strict=True)
        return cls(np.concatenate(regions), np.concatenate(levels))

    def medians(self) -> dict[int, Doubles]:
        """Median levels `[S]` of each region with at least `FEWEST` gaps, by the lower edge of the region in Hz."""
        chosen = {hertz: self.regions == number for number, hertz in enumerate(REGIONS)}
        return {
            hertz: np.median(self.levels[own], axis=0)
            for hertz, own in chosen.items()
            if own.sum() >= FEWEST
        }


def partial_noise_summary(measured: Iterable[PartialNoise]) -> dict[str, float]:
    """Median levels `<hertz>/original` and `<hertz>/decoded` in dB, and `distance`, their mean absolute difference.

    Each measurement compares an original with its decoded version. Empty if no region has enough gaps.
    """
    medians = PartialNoise.of_all(measured).medians()
    levels = {
        f"{hertz}/{name}": float(level)
        for hertz, pair in medians.items()
        for name, level in zip(("original", "decoded"), pair, strict=True)
    }
    distances = [abs(float(decoded - original)) for original, decoded in medians.values()]
    return {**levels, "distance": float(np.mean(distances))} if distances else {}


def partial_noise_line(metrics: Mapping[str, float]) -> str:
    """Summary of the `partial_noise/...` metrics in one line, or ""."""
    levels = _levels_in_words(metrics, ("decoded", "original"))
    return f"{metrics[f'{NOISE}distance']:.1f} dB from the originals': {levels}" if levels else ""


def own_partial_noise(
    sounds: Mapping[str, Sequence[NDArray[np.floating]]], sample_rate: int
) -> dict[str, float]:
    """Metrics `partial_noise/<hertz>/<name>`: median gap levels in dB of sets of sounds, each at its own partials."""
    medians = {
        name: PartialNoise.of_all(PartialNoise.measure(one, sample_rate) for one in own).medians()
        for name, own in sounds.items()
        if own
    }
    return {
        f"{NOISE}{hertz}/{name}": float(level[0])
        for name in medians
        for hertz, level in medians[name].items()
    }


def own_partial_noise_line(metrics: Mapping[str, float]) -> str:
    """Summary of the `own_partial_noise` metrics for generated, decoded and recorded sounds in one line, or ""."""
    levels = _levels_in_words(metrics, ("generated", "decoded", "recorded"))
    return (
        f"noise between partials, beside them (once decoded, recorded): {levels}" if levels else ""
    )


def _levels_in_words(metrics: Mapping[str, float], names: Sequence[str]) -> str:
    """Level of the first name in dB, with the other names' levels in brackets, for each region that has them all."""
    found = []
    for hertz in REGIONS:
        keys = [f"{NOISE}{hertz}/{name}" for name in names]
        if metrics.keys() >= set(keys):
            first, *others = (f"{metrics[key]:.0f}" for key in keys)
            found.append(f"{first} dB ({', '.join(others)}) from {hertz} Hz")
    return ", ".join(found)


def _gaps(
    original: NDArray[np.floating], sample_rate: int, others: Iterable[NDArray[np.floating]]
) -> Iterator[tuple[int, list[float]]]:
    """Region index and levels `[S]` of each gap between lasting partials."""
    narrowest, widest = 14, 120  # bins between two partials whose gap is measured
    sounds = [np.asarray(sound, np.float64) for sound in (original, *others)]
    for start in range(SIZE // 4, len(original) - SIZE - LATER, HOP):
        first, *rest = (_spectrum(sound[start : start + SIZE]) for sound in sounds)
        later = _spectrum(sounds[0][start + LATER : start + LATER + SIZE])
        partials = _partials(first, later)
        for low, high in pairwise(partials):
            near = max(LOBE, int(OUT_OF_TUNE * high))
            region = int(np.searchsorted(REGIONS, low * sample_rate / SIZE, side="right")) - 1
            if region >= 0 and max(narrowest, 2 * near + 8) <= high - low <= widest:
                yield region, [_level(spectrum, low, high, near) for spectrum in (first, *rest)]


def _spectrum(samples: Doubles) -> Doubles:
    """Levels `[bins]` of a window of samples in dB. A Blackman window has no side lobes that would count as noise."""
    return np.asarray(20 * np.log10(np.abs(np.fft.rfft(samples * np.blackman(SIZE), SIZE)) + 1e-9))


def _partials(spectrum: Doubles, later: Doubles) -> NDArray[np.intp]:
    """Bins of the partials in levels `[bins]` that are still present in a later window, in ascending order."""
    inner = spectrum[2:-2]
    is_peak = (
        (inner > spectrum[1:-3])
        & (inner > spectrum[3:-1])
        & (inner > spectrum[:-4])
        & (inner > spectrum[4:])
    )
    loudest = spectrum.max()
    bins = (
        np.flatnonzero(is_peak & (inner > loudest - LOUD)) + 2
        if loudest > 0
        else np.empty(0, np.intp)
    )
    around = [float(np.median(spectrum[max(0, at - AROUND) : at + AROUND + 1])) for at in bins]
    lasting = [float(later[at - 1 : at + 2].max()) for at in bins]
    kept = (spectrum[bins] > np.array(around) + PROMINENT) & (
        np.array(lasting) > spectrum[bins] - LASTING
    )
    return np.asarray(bins[kept])


def _level(spectrum: Doubles, low: int, high: int, near: int) -> float:
    """Mean power between two partials in dB relative to the louder one; each may lie `near` bins off."""
    between = spectrum[low + near + LOBE : high - near - LOBE + 1]
    louder = max(spectrum[at - near : at + near + 1].max() for at in (low, high))
    return float(10 * np.log10(np.mean(10 ** (between / 10))) - louder)
