"""Report of `distill generate`: lines for the terminal and JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.api import Generated
from distill.novelty.explain import explain


def set_lines(made: Generated) -> list[str]:
    """Lines on the set of sounds: verdicts, distance, seed."""
    lines = []
    if made.redrawn:
        left = f"; {made.not_new} still are not new enough" if made.not_new else ""
        lines.append(f"{made.redrawn} sound{'s' * (made.redrawn != 1)} drawn again for lack of novelty{left}")
    report = made.report
    if report is not None:
        lines.append(
            f"{report.new} new, {report.close} close, {report.copies} copies; mean novelty percentile "
            f"{report.mean_percentile_codes:.0%} in codes, {report.mean_percentile_spectra:.0%} in spectra "
            "(50 %: as new as held-out recordings)"
        )
        lines.append(report.distance_sentence)
    if any(one is None for one in made.novelty):
        lines.append("novelty unknown: the model has no codes of its training recordings")
    return [*lines, f"seed {made.seed}"]


def generated_json(made: Generated, paths: Sequence[Path]) -> dict[str, Any]:
    """Sounds and set report for `--json`."""
    rows = [
        {
            "file": str(path),
            "seconds": seconds,
            "novelty": None if novelty is None else novelty.json(),
            "explanation": None if novelty is None else explain(novelty),
        }
        for path, seconds, novelty in zip(paths, made.seconds, made.novelty, strict=True)
    ]
    return {
        "seed": made.seed,
        "sample_rate": made.sample_rate,
        "sounds": rows,
        "redrawn": made.redrawn,
        "not_new": made.not_new,
        "summary": None if made.report is None else made.report.json(),
    }
