"""Metrics log of a training, `metrics.jsonl`: a line for each event, readable while training runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.storage.files import canonical_json, write_bytes

METRICS_LOG = "metrics.jsonl"

Line = dict[str, float | int | str]


class MetricsLog:
    """Metrics log in memory and, with a path, in a file. It holds no times, so that equal trainings have equal logs."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.lines: list[Line] = []

    def add(self, values: Mapping[str, float | int | str]) -> None:
        """Append a line. Readers see it at once; it survives a power cut after the next checkpoint."""
        line = json.loads(canonical_json(dict(values)))
        self.lines.append(line)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json_lines([line]))

    def rewind(self, lines: list[Any]) -> None:
        """Replace the log by the `lines` of a checkpoint: later ones will be logged again."""
        self.lines = [dict(line) for line in lines]
        if self.path is not None and (self.lines or self.path.exists()):
            write_bytes(self.path, json_lines(self.lines).encode())


def json_lines(lines: Sequence[Mapping[str, Any]]) -> str:
    """Lines in the format of `metrics.jsonl`."""
    return "".join(canonical_json(dict(line)) + "\n" for line in lines)
