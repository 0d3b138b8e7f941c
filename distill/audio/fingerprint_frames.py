"""Fingerprint frames of all recordings end to end, in files that are mapped into memory.

Shapes: `F` frames, `R` recordings.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.audio.known_pairs import VoteCode

AT_ONCE = 1 << 18  # frames or pairs of frames in temporary arrays


class FingerprintFrames:
    """The frames of all recordings end to end; those of a kind lie in a file."""

    def __init__(self, folder: Path, lengths: Sequence[int]) -> None:
        self.lengths = np.array(lengths, dtype=np.int64)  # [R]
        self.starts = np.cumsum(self.lengths) - self.lengths  # [R]
        self.code = VoteCode(len(lengths), max(lengths))
        self.signs = np.memmap(folder / "signs", np.uint32, "r")  # [F]
        self.sure = np.memmap(folder / "sure", np.uint32, "r")  # [F]
        is_loud = np.memmap(folder / "loud", np.bool_, "r")
        write_parts(
            folder / "recording", (np.full(count, one, np.int32) for one, count in enumerate(self.lengths.tolist()))
        )
        self.recording = np.memmap(folder / "recording", np.int32, "r")  # [F]
        parts = slices(len(is_loud))
        write_parts(folder / "loud-frames", (part.start + np.flatnonzero(is_loud[part]) for part in parts))
        self.loud = mapped(folder / "loud-frames", np.int64)
        self.loud_counts = np.zeros(len(lengths), dtype=np.int64)  # [R]
        for part in slices(len(self.loud)):
            self.loud_counts += np.bincount(self.recording[self.loud[part]], minlength=len(lengths))
        self.loud_starts = np.cumsum(self.loud_counts) - self.loud_counts  # [R]


def slices(count: int) -> Iterator[slice]:
    """Slices of AT_ONCE or fewer that cover `count`."""
    return (slice(first, min(first + AT_ONCE, count)) for first in range(0, count, AT_ONCE))


def write_parts(path: Path, parts: Iterable[NDArray[Any]]) -> None:
    """Write arrays end to end."""
    with path.open("wb") as file:
        for part in parts:
            file.write(np.ascontiguousarray(part).data)


def mapped(path: Path, kind: type[Any]) -> NDArray[Any]:
    """A file as an array; a file without bytes has no map."""
    return np.memmap(path, kind, "r") if path.stat().st_size else np.empty(0, kind)
