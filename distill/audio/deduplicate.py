"""Near-duplicate recordings: a search for recordings that share most of their fingerprints."""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import numpy as np

from distill.audio.candidates import PART_FRAMES, find_candidates, strongest_lags
from distill.audio.fingerprint import Fingerprint
from distill.audio.fingerprint_frames import FingerprintFrames
from distill.audio.known_pairs import SAME, UNKNOWN, read_pairs, write_pairs
from distill.audio.same_sound import are_same_sound


class FingerprintFiles:
    """Fingerprints of recordings end to end in temporary files, in `folder` or where the system has them.

    Use as a context manager: append all of them, then ask for `groups`.
    """

    def __init__(self, folder: Path | None = None, part_frames: int = PART_FRAMES) -> None:
        self._temporary = TemporaryDirectory(dir=folder, prefix=".near-duplicates-")
        self._folder, self._part_frames = Path(self._temporary.name), part_frames
        self._files = {name: (self._folder / name).open("wb") for name in ("signs", "sure", "loud")}
        self._lengths: list[int] = []
        self._names: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        self._temporary.cleanup()

    def append(self, one: Fingerprint, name: str) -> None:
        """Add the fingerprint of the next recording; equal names have equal fingerprints."""
        for part, file in self._files.items():
            file.write(np.ascontiguousarray(getattr(one, part)).data)
        self._lengths.append(len(one.loud))
        self._names.append(name)

    def groups(self, kept: Path | None = None) -> list[int]:
        """Group near-duplicates: for each recording the smallest index in its group, its own where it is alone.

        Two recordings are near-duplicates if, at one lag, at least MINIMUM_OVERLAP of the loud frames of the one with
        fewer lie inside the other and their bit error rate is below `error_rate_limit`. Groups are the transitive closure.
        What was found is kept in the file `kept`, and what an earlier search kept there is not searched again.
        """
        groups = list(range(len(self._lengths)))
        for file in self._files.values():
            file.flush()
        if len(groups) < 2 or not sum(self._lengths):
            return groups
        frames = FingerprintFrames(self._folder, self._lengths)
        known = read_pairs(kept, self._names, frames.code)
        pairs = find_candidates(frames, self._folder, self._part_frames, *known)
        best = strongest_lags(pairs.votes, pairs.counts, frames.code.span)
        new = best[pairs.verdicts[best] == UNKNOWN]
        pairs.verdicts[new] = are_same_sound(frames, pairs.votes[new])
        if kept is not None:
            write_pairs(kept, self._names, frames.code, pairs)
        first, second, _ = frames.code.decode(pairs.votes[best[pairs.verdicts[best] == SAME]])
        for pair in zip(first.tolist(), second.tolist(), strict=True):
            low, high = sorted(_root(groups, one) for one in pair)
            groups[high] = low
        return [_root(groups, index) for index in range(len(groups))]


def _root(groups: list[int], index: int) -> int:
    """Smallest index of the group of `index` (union-find with path halving)."""
    while groups[index] != index:
        groups[index] = groups[groups[index]]
        index = groups[index]
    return index
