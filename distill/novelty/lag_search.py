"""Where in hours of recordings a sound may stand already: the places that an exact comparison should look at."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

SEGMENT = 32  # frames that are looked for together: what is copied may be a part of a sound
GROUP = 8  # frames, of which the best speaks for all that a segment could begin with
PLACES = 8  # groups that are remembered for each segment
ROWS = 1 << 13  # places at once
FEW = 1 << 18  # frames times places: so many are compared one and all


def likely_lags(frames: Tensor, sounds: Sequence[Tensor], pool: int) -> list[Tensor]:
    """Lags at which parts of each of `sounds` `[F, C]` correlate most with `frames` `[N, C]`, without repetition, in order.

    At lag `p` the sound's first frame lies at frame `p`, which is negative where the sound begins before `frames` do.
    `pool` frames, a divisor of GROUP, are looked at as one.
    """
    by_sound: list[list[Tensor]] = [[] for _ in sounds]
    segments, owners, starts = [], [], []
    for number, sound in enumerate(sounds):
        if len(sound) * (len(frames) + len(sound)) <= FEW:
            by_sound[number].append(torch.arange(1 - len(sound), len(frames)))
            continue
        for start in range(0, len(sound), SEGMENT):
            segments.append(_pooled(sound[start : start + SEGMENT], SEGMENT // pool, pool).flatten())
            owners.append(number)
            starts.append(start)
    if segments:
        found = _best_groups(frames, torch.stack(segments, dim=1), pool)
        lags = found[..., None] + torch.arange(1 - pool, GROUP) - torch.tensor(starts)[:, None, None]
        for owner, some in zip(owners, lags, strict=True):
            by_sound[owner].append(some.flatten())
    return [torch.cat(some).unique() for some in by_sound]


def _best_groups(frames: Tensor, segments: Tensor, pool: int) -> Tensor:
    """The groups of places `[S, PLACES]` where `segments` `[SEGMENT / pool * C, S]` score most, as their first frame."""
    best, where = torch.empty(segments.shape[1], 0), torch.empty(segments.shape[1], 0, dtype=torch.int64)
    together = GROUP // pool
    for first, windows in _windows(frames, pool):
        scores = (windows @ segments).view(len(windows) // together, together, -1).amax(dim=1).T  # [S, groups]
        top = scores.topk(min(PLACES, scores.shape[1]), dim=1)
        best = torch.cat([best, top.values], dim=1)
        where = torch.cat([where, top.indices * GROUP + first], dim=1)
        kept = best.topk(min(PLACES, best.shape[1]), dim=1)
        best, where = kept.values, where.gather(1, kept.indices)
    return where


def _windows(frames: Tensor, pool: int) -> Iterator[tuple[int, Tensor]]:
    """All windows of SEGMENT frames in steps of `pool`, ROWS at a time, pooled, `[rows, SEGMENT / pool * C]`, with the
    number of the first one's first frame. The first of all ends with the first of `frames`, the last begins with the last."""
    width = SEGMENT // pool
    for first in range(pool - SEGMENT, len(frames), ROWS * pool):
        count = -(-min(ROWS * pool, len(frames) - first) // GROUP) * GROUP // pool
        piece = frames[max(0, first) : max(0, first + (count + width - 1) * pool)]
        pooled = _pooled(nn.functional.pad(piece, (0, 0, max(0, -first), 0)), count + width - 1, pool)
        yield first, pooled.unfold(0, width, 1).transpose(1, 2).reshape(count, -1)


def _pooled(frames: Tensor, count: int, pool: int) -> Tensor:
    """`[F, C]` to `[count, C]`: sums of `pool` frames, nothing after the last."""
    padded = nn.functional.pad(frames, (0, 0, 0, count * pool - len(frames)))
    return padded.view(count, pool, -1).sum(dim=1)
