"""`metrics.jsonl`: what happened in a training, a line each, readable while it runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.storage.files import canonical_json, write_bytes

METRICS_LOG = "metrics.jsonl"

Line = dict[str, float | int | str]


class MetricsLog:
    """Lines in memory and, with a path, in a file. No times are in it, so that equal trainings leave equal journals."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.lines: list[Line] = []

    def add(self, values: Mapping[str, float | int | str]) -> None:
        """Append a line. It is on disk for readers at once, for power cuts when `CheckpointStore` saves next."""
        line = json.loads(canonical_json(dict(values)))
        self.lines.append(line)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json_lines([line]))

    def rewind(self, lines: list[Any]) -> None:
        """Go back to what a checkpoint remembers: what came later will come again."""
        self.lines = [dict(line) for line in lines]
        if self.path is not None and (self.lines or self.path.exists()):
            write_bytes(self.path, json_lines(self.lines).encode())


def json_lines(lines: Sequence[Mapping[str, Any]]) -> str:
    """Lines as `metrics.jsonl` has them."""
    return "".join(canonical_json(dict(line)) + "\n" for line in lines)
