"""Sequences of recurring motifs among real frames, for training and probing a memory.

Training motifs start with an even code and probe motifs with an odd code, so they never overlap.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from distill.codes.sequences import bos_token
from distill.codes.store import Codes

KEY_FRAMES = VALUE_FRAMES = 4
MOTIF_FRAMES = KEY_FRAMES + VALUE_FRAMES  # frames of a motif

Frames = NDArray[np.int64]


class FrameSource:
    """Real frames to place between motifs, and code frequencies for sampling motifs."""

    def __init__(self, recordings: Sequence[Codes], codebook_sizes: Sequence[int]) -> None:
        self.recordings = recordings
        frames = np.concatenate(list(recordings)).astype(np.int64)
        levels = zip(frames.T, codebook_sizes, strict=True)
        self.shares = [np.bincount(level, minlength=size) / len(frames) for level, size in levels]

    def excerpt(self, rng: Generator, count: int) -> Frames:
        """Take `count` real frames `[count, Q]` from a random recording, or from several if it is too short."""
        parts = [np.zeros((0, len(self.shares)), dtype=np.int64)]
        while count > 0:
            recording = self.recordings[int(rng.integers(len(self.recordings)))]
            first = int(rng.integers(max(1, len(recording) - count + 1)))
            parts.append(np.asarray(recording[first : first + count], dtype=np.int64))
            count -= len(parts[-1])
        return np.concatenate(parts)

    def motifs(self, rng: Generator, count: int, parity: int) -> Frames:
        """Sample motifs `[count, MOTIF_FRAMES, Q]` by code frequency; the first code of each has `parity` 0 or 1."""
        drawn = [rng.choice(len(share), (count, MOTIF_FRAMES), p=share) for share in self.shares]
        motifs = np.stack(drawn, axis=2)
        has_parity = np.arange(len(self.shares[0])) % 2 == parity
        first = np.where(has_parity, self.shares[0], 0)
        if not first.any():  # if no code of that parity is in use, sample them uniformly
            first = has_parity.astype(np.float64)
        motifs[:, 0, 0] = rng.choice(len(first), count, p=first / first.sum())
        return motifs


def motif_sequence(
    rng: Generator, source: FrameSource, count: int, distance: int
) -> tuple[Frames, NDArray[np.bool_]]:
    """Make a sequence of `count` motifs, `distance` real frames, and the same motifs shuffled, with gaps between.

    Returns `frames` `[T, Q]` and a mask `[T]`: True in the value of a motif's second occurrence. All sequences have the
    same length, because torch keeps kernels for each length in memory.
    """
    motifs = source.motifs(rng, count, 0)
    order = [*range(count), *rng.permutation(count).tolist()]
    gaps = rng.integers(KEY_FRAMES, size=len(order))
    gaps[count] = distance
    gaps[0] = distance + (len(order) - 1) * (KEY_FRAMES - 1) - gaps[1:].sum()
    parts, is_value = [], []
    for index, (number, gap) in enumerate(zip(order, gaps.tolist(), strict=True)):
        parts += [source.excerpt(rng, gap), motifs[number]]
        is_value += [False] * (gap + KEY_FRAMES) + [index >= count] * VALUE_FRAMES
    return np.concatenate(parts), np.array(is_value)


def haystack(
    rng: Generator, source: FrameSource, count: int, distance: int
) -> tuple[Frames, Frames]:
    """Make a sequence of `count` motifs with real frames between them, and `distance` more real frames at the end.

    Returns `frames` `[T, Q]` and motifs `[2 * count, MOTIF_FRAMES, Q]`: the motifs of the sequence in order, then
    `count` motifs that do not occur in it.
    """
    motifs = source.motifs(rng, 2 * count, 1)
    parts = []
    for motif in motifs[:count]:
        parts += [motif, source.excerpt(rng, 1 + int(rng.integers(KEY_FRAMES)))]
    return np.concatenate([*parts, source.excerpt(rng, distance)]), motifs


def with_bos(frames: Frames, codebook_size: int) -> Tensor:
    """Prepend BOS to `frames` `[T, Q]` and add a batch dimension: `[1, 1 + T, Q]`."""
    codes = torch.from_numpy(frames)
    return torch.cat([torch.full_like(codes[:1], bos_token(codebook_size)), codes])[None]
