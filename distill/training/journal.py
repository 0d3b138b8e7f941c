"""`metrics.jsonl`: what happened in a training, a line each, readable while it runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.files import canonical_json

JOURNAL = "metrics.jsonl"

Line = dict[str, float | int | str]


class Journal:
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
                file.write(canonical_json(line) + "\n")

    def rewind(self, lines: list[Any]) -> None:
        """Go back to what a checkpoint remembers: what came later will come again."""
        self.lines = [dict(line) for line in lines]
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """The whole file."""
        return "".join(canonical_json(line) + "\n" for line in self.lines)
