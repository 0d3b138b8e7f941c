"""Candidate lags by cross-correlation: where in hours of recordings an exact alignment should look.

Sounds are cut into segments. Shapes: `S` segments of all sounds, `C` features of a frame.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SEGMENT = 32  # frames of a query: what is copied may be a part of a sound
GROUP = 8  # neighbouring lags of which the best score counts
BEST_GROUPS = 8  # groups kept for each segment
ROWS = 1 << 13  # windows in one matrix product
EXHAUSTIVE = 1 << 18  # frames times lags up to which all lags are candidates

Frames = Callable[[int, int], Tensor]


class Candidates(NamedTuple):
    """For each segment the groups of lags with the highest scores, `[S, BEST_GROUPS]`: scores, -inf for none, and first frames."""

    scores: NDArray[np.float32]
    groups: NDArray[np.int64]


def find_candidates(frames: Frames, count: int, sounds: Sequence[Tensor], pool: int) -> Candidates:
    """The groups of lags at which segments of `sounds` `[F, C]` correlate most with `count` frames.

    `frames(start, stop)` gives the features `[stop - start, C]` of some of them; they are never held together. Frames are
    sum-pooled by `pool`, a divisor of GROUP. There are none for sounds of which all lags are candidates.
    """
    owners, starts = _segments([len(sound) for sound in sounds])
    shape = (len(owners), BEST_GROUPS)
    scores, groups = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int64)
    searched = [
        number for number, owner in enumerate(owners.tolist()) if not _are_all_candidates(len(sounds[owner]), count)
    ]
    if searched:
        segments = [
            _pooled(sounds[owners[number]][starts[number] : starts[number] + SEGMENT], SEGMENT // pool, pool).flatten()
            for number in searched
        ]
        best, where = _best_groups(frames, count, torch.stack(segments, dim=1), pool)
        lengths = torch.tensor([[min(SEGMENT, len(sounds[owners[number]]) - starts[number])] for number in searched])
        best[where + GROUP - 1 + lengths <= 0] = -torch.inf  # all of the segment lies before the first frame
        scores[searched, : best.shape[1]], groups[searched, : best.shape[1]] = best.numpy(), where.numpy()
    return Candidates(scores, groups)


def best_candidates(parts: Sequence[Candidates]) -> list[Candidates]:
    """Those of each part whose scores are among the BEST_GROUPS of all parts."""
    scores = np.concatenate([part.scores for part in parts], axis=1)
    least = np.partition(scores, -BEST_GROUPS, axis=1)[:, -BEST_GROUPS, None]
    return [Candidates(np.where(part.scores >= least, part.scores, -np.inf), part.groups) for part in parts]


def candidate_lags(found: Candidates, count: int, lengths: Sequence[int], pool: int) -> list[NDArray[np.int64]]:
    """The candidate lags, ascending and unique, of sounds of so many frames among `count` frames.

    At lag `p` the sound's first frame lies at frame `p`, which is negative where the sound begins before the first of them.
    """
    owners, starts = _segments(lengths)
    lags = found.groups[..., None] + np.arange(1 - pool, GROUP) - starts[:, None, None]
    is_found = found.scores > -np.inf
    ends = np.searchsorted(owners, np.arange(len(lengths) + 1))
    return [
        np.arange(1 - length, count)
        if _are_all_candidates(length, count)
        else _overlapping(np.unique(lags[start:stop][is_found[start:stop]]), length, count)
        for length, start, stop in zip(lengths, ends[:-1], ends[1:], strict=True)
    ]


def _overlapping(lags: NDArray[np.int64], length: int, count: int) -> NDArray[np.int64]:
    """The lags at which a sound of so many frames lies beside any of `count` frames."""
    return lags[(lags > -length) & (lags < count)]


def _are_all_candidates(length: int, count: int) -> bool:
    return length * (count + length) <= EXHAUSTIVE


def _segments(lengths: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The sound of each segment, and the segment's first frame in it."""
    starts = [np.arange(0, length, SEGMENT) for length in lengths]
    owners = np.repeat(np.arange(len(lengths)), [len(one) for one in starts])
    return owners, np.concatenate([np.empty(0, np.int64), *starts])


def _best_groups(frames: Frames, count: int, segments: Tensor, pool: int) -> tuple[Tensor, Tensor]:
    """Scores and first frames `[S, n]` of the groups of lags with the highest scores, n at most BEST_GROUPS.

    `segments` are `[SEGMENT / pool * C, S]`.
    """
    best, where = torch.empty(segments.shape[1], 0), torch.empty(segments.shape[1], 0, dtype=torch.int64)
    per_group = GROUP // pool
    for first, windows in _windows(frames, count, pool):
        scores = (windows @ segments).view(len(windows) // per_group, per_group, -1).amax(dim=1).T  # [S, groups]
        top = scores.topk(min(BEST_GROUPS, scores.shape[1]), dim=1)
        best = torch.cat([best, top.values], dim=1)
        where = torch.cat([where, top.indices * GROUP + first], dim=1)
        kept = best.topk(min(BEST_GROUPS, best.shape[1]), dim=1)
        best, where = kept.values, where.gather(1, kept.indices)
    return best, where


def _windows(frames: Frames, total: int, pool: int) -> Iterator[tuple[int, Tensor]]:
    """Pooled windows of SEGMENT frames in steps of `pool`, ROWS at a time, with the first frame of the first window.

    Windows are `[rows, SEGMENT / pool * C]`. The first of all ends with the first of `total` frames, the last begins
    with the last.
    """
    width = SEGMENT // pool
    for first in range(pool - SEGMENT, total, ROWS * pool):
        count = -(-min(ROWS * pool, total - first) // GROUP) * GROUP // pool
        piece = frames(max(0, first), min(total, max(0, first + (count + width - 1) * pool)))
        pooled = _pooled(nn.functional.pad(piece, (0, 0, max(0, -first), 0)), count + width - 1, pool)
        yield first, pooled.unfold(0, width, 1).transpose(1, 2).reshape(count, -1)


def _pooled(frames: Tensor, count: int, pool: int) -> Tensor:
    """Sum pooling with zero padding: `[F, C]` to `[count, C]`."""
    padded = nn.functional.pad(frames, (0, 0, 0, count * pool - len(frames)))
    return padded.view(count, pool, -1).sum(dim=1)
