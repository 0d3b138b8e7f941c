"""Sequences of codes in which something must be remembered: motifs of random codes among real frames, said again later.

What they teach and what they test never overlap: motifs for training begin with an even code, those for probes with an odd one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from distill.codes.store import Codes

KEY_FRAMES = VALUE_FRAMES = 4
MOTIF_FRAMES = KEY_FRAMES + VALUE_FRAMES  # of a motif

Frames = NDArray[np.int64]


class FrameSource:
    """Real frames for what lies between motifs, and how often each code comes, for the motifs."""

    def __init__(self, recordings: Sequence[Codes], codebook_size: int) -> None:
        self.recordings, self.codebook_size = recordings, codebook_size
        frames = np.concatenate(list(recordings))
        self.shares = [np.bincount(level, minlength=codebook_size) / len(frames) for level in frames.astype(np.int64).T]

    def excerpt(self, rng: Generator, count: int) -> Frames:
        """`count` real frames `[count, Q]`: of one recording or, where it is shorter, of several."""
        parts: list[Frames] = []
        while count > 0:
            recording = self.recordings[int(rng.integers(len(self.recordings)))]
            first = int(rng.integers(max(1, len(recording) - count + 1)))
            parts.append(np.asarray(recording[first : first + count], dtype=np.int64))
            count -= len(parts[-1])
        return np.concatenate(parts)

    def motifs(self, rng: Generator, count: int, parity: int) -> Frames:
        """`[count, MOTIF_FRAMES, Q]`, each code drawn by its share; the first code of each is even or odd as `parity` says."""
        drawn = [rng.choice(self.codebook_size, (count, MOTIF_FRAMES), p=share) for share in self.shares]
        motifs = np.stack(drawn, axis=2)
        first = np.where(np.arange(self.codebook_size) % 2 == parity, self.shares[0], 0)
        # A codebook of which one half is never used still has codes of that parity.
        total = first.sum()
        first = first / total if total else (np.arange(self.codebook_size) % 2 == parity) / (self.codebook_size // 2)
        motifs[:, 0, 0] = rng.choice(self.codebook_size, count, p=first)
        return motifs


@dataclass(frozen=True, eq=False)
class MotifSequence:
    """A sequence in which motifs come and come again: `frames` `[T, Q]`, and where the values that come again begin, motif by
    motif."""

    frames: Frames
    values: list[int]


def motif_sequence(rng: Generator, source: FrameSource, count: int, distance: int) -> MotifSequence:
    """`count` motifs, real frames before and between them, and `distance` frames after the last all of them again in another order.

    All are equally long: kernels for each length are kept in memory.
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
    """Motifs `[count, MOTIF_FRAMES, Q]` in the order in which they came, real frames between and after them, as `frames` `[T, Q]`; and as
    many `absent` motifs that did not come."""

    frames: Frames
    motifs: Frames
    absent: Frames


def haystack(rng: Generator, source: FrameSource, count: int, distance: int) -> Haystack:
    """`count` motifs, and after the last of them `distance` real frames."""
    drawn = source.motifs(rng, 2 * count, 1)
    motifs, absent = drawn[:count], drawn[count:]
    parts = []
    for motif in motifs:
        parts += [motif, source.excerpt(rng, 1 + int(rng.integers(KEY_FRAMES)))]
    return Haystack(np.concatenate([*parts, source.excerpt(rng, distance)]), motifs, absent)
