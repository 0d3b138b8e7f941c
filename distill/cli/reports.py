"""Reports of `distill generate` and `distill vary`: lines for the terminal and JSON."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.api import Generated, Model
from distill.generate.variations import Similarity, Varied
from distill.novelty.verdict import Novelty, explain


def print_note(model: Model) -> None:
    """Print what sounds are made with, where that is not a prior of the file."""
    if model.note:
        print(f"distill: note: {model.note}", file=sys.stderr)


def set_lines(made: Generated) -> list[str]:
    """Lines on the set of sounds: verdicts, distance, faults, seed."""
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
    if made.fault_report is not None:
        lines += made.fault_report.lines
    if any(one is None for one in made.novelty):
        lines.append("novelty and faults unknown: the model has no codes of its training recordings")
    return [*lines, f"seed {made.seed}"]


def generated_json(made: Generated, paths: Sequence[Path]) -> dict[str, Any]:
    """Sounds and set report for `--json`."""
    rows = [
        {
            "file": str(path),
            "seconds": seconds,
            "novelty": None if novelty is None else novelty.json(),
            "explanation": None if novelty is None else explain(novelty),
            "faults": None if faults is None else list(faults),
        }
        for path, seconds, novelty, faults in zip(paths, made.seconds, made.novelty, made.faults, strict=True)
    ]
    return {
        "seed": made.seed,
        "sample_rate": made.sample_rate,
        "sounds": rows,
        "redrawn": made.redrawn,
        "not_new": made.not_new,
        "summary": None if made.report is None else made.report.json(),
        "faults": None if made.fault_report is None else made.fault_report.json(),
    }


def similarity_line(similarity: Similarity, novelty: Novelty | None) -> str:
    """How a take compares with the recording that it varies, and with the training recordings, in one line."""
    verdict = "" if similarity.verdict is None else f"{similarity.verdict}: "
    own = (
        f"beside the recording {verdict}{similarity.equal_codes:.0%} of codes equal, {similarity.difference_db:.1f} dB"
    )
    return own if novelty is None else f"{own}; among the training recordings: {explain(novelty)}"


def varied_lines(made: Varied) -> list[str]:
    """Lines on all takes: equal ones, seed."""
    lines = []
    if made.equal:
        lines.append(
            f"{made.equal} take{'s' * (made.equal != 1)} the same as the recording or another take; "
            "a higher --strength changes more"
        )
    if any(one is None for one in made.novelty):
        lines.append("novelty unknown: the model has no codes of its training recordings")
    return [*lines, f"seed {made.seed}"]


def varied_json(made: Varied, paths: Sequence[Path]) -> dict[str, Any]:
    """Takes for `--json`."""
    rows = [
        {
            "file": str(path),
            "seconds": seconds,
            "similarity": asdict(similarity),
            "novelty": None if novelty is None else novelty.json(),
            "explanation": None if novelty is None else explain(novelty),
        }
        for path, seconds, similarity, novelty in zip(paths, made.seconds, made.similarity, made.novelty, strict=True)
    ]
    return {
        "seed": made.seed,
        "strength": made.strength,
        "sample_rate": made.sample_rate,
        "takes": rows,
        "redrawn": made.redrawn,
        "equal": made.equal,
    }
