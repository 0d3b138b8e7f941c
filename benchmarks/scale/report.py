"""Table of what `benchmarks.scale` measured."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """A row for each stage: seconds with DVC's own and without, most memory of a process and of all, files, bytes."""
    lines = [
        "| recordings | step | seconds | of these the stage | largest process, MB | all processes, MB | files | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for found in results:
        for name, one in found["stages"].items():
            lines.append(
                f"| {found['recordings']:,} | {name} | {one['seconds']:.0f} | {one['stage_seconds']:.1f} | "
                f"{one['largest'] / 1e6:.0f} | {one['together'] / 1e6:.0f} | {one['files'] or '–'} | "
                f"{one['bytes'] / 1e6:.0f} |"
            )
    return "\n".join(lines)
