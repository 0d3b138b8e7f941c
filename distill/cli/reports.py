"""What `distill generate` says of the sounds that it made, for people and for scripts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.api import Generated
from distill.novelty.verdict import Novelty
from distill.text import one_line


def novelty_words(novelty: Novelty) -> str:
    """The verdict on a sound in a line."""
    codes, spectra = novelty.codes, novelty.spectra
    alike = f"{codes.likeness:.0%} of its codes as in {one_line(codes.nearest)}"
    if novelty.by_spectra:
        alike = f"{spectra.difference_db:.1f} dB from {one_line(spectra.nearest)}"
    return f"{novelty.verdict}: {alike}, longest copied run {codes.copied_seconds:.2f} s"


def set_words(made: Generated) -> list[str]:
    """What can be said of all of them together."""
    lines = []
    if made.redrawn:
        left = f"; {made.not_new} still are not new enough" if made.not_new else ""
        lines.append(f"{made.redrawn} sound{'s' * (made.redrawn != 1)} drawn again for want of novelty{left}")
    report = made.report
    if report is not None:
        lines.append(
            f"{report.new} new, {report.close} close, {report.copies} copies; on average "
            f"{report.mean_percentile_codes:.0%} of held-out recordings are less like a training recording in codes, "
            f"{report.mean_percentile_spectra:.0%} in spectra (50 %: as new as held-out sound)"
        )
        if report.distance is not None:
            distance = report.distance
            lines.append(
                f"kernel distance to held-out sound {distance.value:.1f}, of as many training recordings "
                f"{distance.null_mean:.1f} ± {distance.null_deviation:.1f}"
            )
    if any(one is None for one in made.novelty):
        lines.append("how new they are is not known: the model was made without the codes of what it learnt")
    return [*lines, f"seed {made.seed}"]


def generated_json(made: Generated, paths: Sequence[Path]) -> dict[str, Any]:
    """All of it as JSON."""
    rows = [
        {
            "file": str(path),
            "seconds": seconds,
            "novelty": None if novelty is None else novelty.json(),
        }
        for path, seconds, novelty in zip(paths, made.seconds, made.novelty, strict=True)
    ]
    return {
        "seed": made.seed,
        "sample_rate": made.sample_rate,
        "sounds": rows,
        "redrawn": made.redrawn,
        "not_new": made.not_new,
        "summary": None if made.report is None else made.report.metrics(),
    }
