"""Synthetic sequences for the memory: motifs of random codes among real frames, to be retrieved later.

Motifs for training begin with an even code, those for probes with an odd one, so that they never overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from distill.codes.store import Codes

KEY_FRAMES = VALUE_FRAMES = 4
MOTIF_FRAMES = KEY_FRAMES + VALUE_FRAMES  # frames of a motif

Frames = NDArray[np.int64]


class FrameSource:
    """Real frames to place between motifs, and the frequency of each code to draw motifs from."""

    def __init__(self, recordings: Sequence[Codes], codebook_size: int) -> None:
        self.recordings, self.codebook_size = recordings, codebook_size
        frames = np.concatenate(list(recordings))
        self.shares = [np.bincount(level, minlength=codebook_size) / len(frames) for level in frames.astype(np.int64).T]

    def excerpt(self, rng: Generator, count: int) -> Frames:
        """Take `count` real frames `[count, Q]` of one recording or, where it is shorter, of several."""
        parts: list[Frames] = []
        while count > 0:
            recording = self.recordings[int(rng.integers(len(self.recordings)))]
            first = int(rng.integers(max(1, len(recording) - count + 1)))
            parts.append(np.asarray(recording[first : first + count], dtype=np.int64))
            count -= len(parts[-1])
        return np.concatenate(parts)

    def motifs(self, rng: Generator, count: int, parity: int) -> Frames:
        """Draw motifs `[count, MOTIF_FRAMES, Q]` by code frequency; the first code of each has `parity` 0 or 1."""
        drawn = [rng.choice(self.codebook_size, (count, MOTIF_FRAMES), p=share) for share in self.shares]
        motifs = np.stack(drawn, axis=2)
        first = np.where(np.arange(self.codebook_size) % 2 == parity, self.shares[0], 0)
        # Where no code of that parity is in use, all of them are equally likely.
        total = first.sum()
        first = first / total if total else (np.arange(self.codebook_size) % 2 == parity) / (self.codebook_size // 2)
        motifs[:, 0, 0] = rng.choice(self.codebook_size, count, p=first)
        return motifs


@dataclass(frozen=True, eq=False)
class MotifSequence:
    """A sequence `frames` `[T, Q]` in which every motif occurs twice.

    `values` are the positions at which the value of each motif's second occurrence begins.
    """

    frames: Frames
    values: list[int]


def motif_sequence(rng: Generator, source: FrameSource, count: int, distance: int) -> MotifSequence:
    """Draw `count` motifs, then `distance` real frames, then the same motifs in another order; real frames between.

    All sequences have one length: torch keeps kernels for each length in memory.
    """
    motifs = source.motifs(rng, count, 0)
    order = [*range(count), *rng.permutation(count).tolist()]
    gaps = rng.integers(KEY_FRAMES, size=len(order))
    gaps[count] = distance
    gaps[0] = distance + (len(order) - 1) * (KEY_FRAMES - 1) - gaps[1:].sum()
    parts, values, end = [], [0] * count, 0
    for index, (number, gap) in enumerate(zip(order, gaps.tolist(), strict=True)):
        if gap:
            parts.append(source.excerpt(rng, gap))
        parts.append(motifs[number])
        end += gap + MOTIF_FRAMES
        if index >= count:
            values[number] = end - VALUE_FRAMES
    return MotifSequence(np.concatenate(parts), values)


@dataclass(frozen=True, eq=False)
class Haystack:
    """A sequence `frames` `[T, Q]` of motifs with real frames between and after them.

    `motifs` `[count, MOTIF_FRAMES, Q]` are in the order of the sequence; `absent` are as many that do not occur in it.
    """

    frames: Frames
    motifs: Frames
    absent: Frames


def haystack(rng: Generator, source: FrameSource, count: int, distance: int) -> Haystack:
    """Draw a haystack of `count` motifs, with `distance` real frames after the last."""
    drawn = source.motifs(rng, 2 * count, 1)
    motifs, absent = drawn[:count], drawn[count:]
    parts = []
    for motif in motifs:
        parts += [motif, source.excerpt(rng, 1 + int(rng.integers(KEY_FRAMES)))]
    return Haystack(np.concatenate([*parts, source.excerpt(rng, distance)]), motifs, absent)
