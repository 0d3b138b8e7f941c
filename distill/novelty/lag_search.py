"""Candidate lags by cross-correlation: where in hours of recordings an exact alignment should look."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

SEGMENT = 32  # frames of a query: what is copied may be a part of a sound
GROUP = 8  # neighbouring lags of which the best score counts
BEST_GROUPS = 8  # groups kept for each segment
ROWS = 1 << 13  # windows in one matrix product
EXHAUSTIVE = 1 << 18  # frames times lags up to which all lags are candidates

Frames = Callable[[int, int], Tensor]


def likely_lags(frames: Frames, count: int, sounds: Sequence[Tensor], pool: int) -> list[Tensor]:
    """Lags, ascending and unique, at which segments of each of `sounds` `[F, C]` correlate most with `count` frames.

    `frames(start, stop)` gives the features `[stop - start, C]` of some of them; they are never held together. At lag `p`
    the sound's first frame lies at frame `p`, which is negative where the sound begins before the first of them. Frames
    are sum-pooled by `pool`, a divisor of GROUP.
    """
    by_sound: list[list[Tensor]] = [[] for _ in sounds]
    segments, owners, starts = [], [], []
    for index, sound in enumerate(sounds):
        if len(sound) * (count + len(sound)) <= EXHAUSTIVE:
            by_sound[index].append(torch.arange(1 - len(sound), count))
            continue
        for start in range(0, len(sound), SEGMENT):
            segments.append(_pooled(sound[start : start + SEGMENT], SEGMENT // pool, pool).flatten())
            owners.append(index)
            starts.append(start)
    if segments:
        found = _best_groups(frames, count, torch.stack(segments, dim=1), pool)
        lags = found[..., None] + torch.arange(1 - pool, GROUP) - torch.tensor(starts)[:, None, None]
        for owner, candidates in zip(owners, lags, strict=True):
            by_sound[owner].append(candidates.flatten())
    return [torch.cat(candidates).unique() for candidates in by_sound]


def _best_groups(frames: Frames, count: int, segments: Tensor, pool: int) -> Tensor:
    """First frames `[S, BEST_GROUPS]` of the groups of lags with the highest scores.

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
    return where


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
