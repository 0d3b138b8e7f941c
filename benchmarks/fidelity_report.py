"""Report of how decoded sounds hold up beside their originals: level, peak, attack, envelope, treble, told apart."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.codec import CodecReport
from benchmarks.opus import MISSING
from benchmarks.quality import Quality
from benchmarks.report import Grid, Section, number
from benchmarks.telling_apart import accuracy
from distill.codec.fidelity import Fidelity

ORIGINALS = "originals"
COLUMNS = (
    "codec",
    "kbit/s",
    "level, dB",
    "level, absolute",
    "peak, dB",
    "attack, ms",
    "attack - original's",
    "envelope",
    "before attack, dB",
    "above 6 kHz, dB",
    "flutter, dB",
    "told apart",
)


def fidelity_section(report: CodecReport, command: str) -> Section:
    """Fidelity of every codec on one corpus, and over all splits where there are several."""
    rates = {one.name: one.bits_per_second for one in report.systems}
    qualities = {one.name: one.quality for one in report.systems}
    grids = [_grid(report.attacks, qualities, rates, report.seed)]
    text = (
        f"`{command}`: {len(report.held_out)} held-out recordings; medians and [10th, 90th percentile], decoded minus "
        "original, except the absolute level (mean) and `told apart` (mean and [95 % interval], .5 is chance)."
    )
    if report.pooled is not None:
        grids.append(_grid(report.pooled.attacks, report.pooled.qualities, rates, report.seed))
        pooled = report.pooled
        text += f" Below, the {len(pooled.attacks)} of {pooled.splits} splits, with the bitrates of the first."
    if not report.opus:
        text += f" {MISSING}"
    return Section(f"fidelity {report.corpus}", f"Fidelity on `{report.corpus}`", text, tuple(grids))


def _grid(attacks: Sequence[float], qualities: Mapping[str, Quality], rates: Mapping[str, float], seed: int) -> Grid:
    original = (ORIGINALS, "–", *["–"] * 3, _spread(attacks, "{:.1f}"), *["–"] * 6)
    return Grid(COLUMNS, (original, *(_row(name, rates[name], one, attacks, seed) for name, one in qualities.items())))


def _row(name: str, rate: float, quality: Quality, attacks: Sequence[float], seed: int) -> tuple[str, ...]:
    found = quality.fidelity
    told = accuracy(quality.told_apart, seed)
    decoded = [before + one.attack_ms for before, one in zip(attacks, found, strict=True)]
    levels = np.array([one.level_db for one in found])
    absolute = float(np.abs(levels[np.isfinite(levels)]).mean()) if np.isfinite(levels).any() else float("nan")
    return (
        name,
        f"{rate / 1000:.2f}",
        _spread(_values(found, "level_db"), "{:+.1f}"),
        number(absolute, 1),
        _spread(_values(found, "peak_db"), "{:+.1f}"),
        _spread(decoded, "{:.1f}"),
        _spread(_values(found, "attack_ms"), "{:+.1f}"),
        _spread(_values(found, "envelope"), "{:.2f}"),
        _spread(_values(found, "pre_attack_db"), "{:+.1f}"),
        _spread(_values(found, "treble_db"), "{:+.1f}"),
        _spread(_values(found, "flutter_db"), "{:+.1f}"),
        "–" if not np.isfinite(told.mean) else f"{told.mean:.2f} [{told.low:.2f}, {told.high:.2f}]",
    )


def _values(found: Sequence[Fidelity], name: str) -> list[float]:
    return [getattr(one, name) for one in found]


def _spread(values: Sequence[float], form: str) -> str:
    """Median and 10th and 90th percentile of the values that are finite."""
    finite = [one for one in values if np.isfinite(one)]
    if not finite:
        return "–"
    low, middle, high = (form.format(one) for one in np.percentile(finite, (10, 50, 90)).tolist())
    return f"{middle} [{low}, {high}]"
