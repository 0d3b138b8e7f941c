"""Where in hours of recordings a sound may stand already: the places that an exact comparison should look at."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

SEGMENT = 32  # frames that are looked for together: what is copied may be a part of a sound
POOL = 2  # frames that are looked at as one
GROUP = 4  # neighbouring places, of which the best speaks for all
PLACES = 8  # groups that are remembered for each segment
ROWS = 1 << 13  # places at once
FEW = 1 << 18  # frames times places: so many are compared one and all

WIDTH = SEGMENT // POOL


def likely_lags(frames: Tensor, sounds: Sequence[Tensor]) -> list[Tensor]:
    """Lags at which parts of each of `sounds` `[F, C]` correlate most with `frames` `[N, C]`, without repetition, in order.

    At lag `p` the sound's first frame lies at frame `p`, which is negative where the sound begins before `frames` do.
    """
    by_sound: list[list[Tensor]] = [[] for _ in sounds]
    segments, owners, starts = [], [], []
    for number, sound in enumerate(sounds):
        if len(sound) * (len(frames) + len(sound)) <= FEW:
            by_sound[number].append(torch.arange(1 - len(sound), len(frames)))
            continue
        for start in range(0, len(sound), SEGMENT):
            segments.append(_pooled(sound[start : start + SEGMENT], WIDTH).flatten())
            owners.append(number)
            starts.append(start)
    if segments:
        found = _best_groups(frames, torch.stack(segments, dim=1))  # [S, PLACES], in pooled places
        reach = torch.arange(1 - POOL, GROUP * POOL)
        lags = (found * POOL)[..., None] + reach - torch.tensor(starts)[:, None, None]
        for owner, some in zip(owners, lags, strict=True):
            by_sound[owner].append(some.flatten())
    return [torch.cat(some).unique() for some in by_sound]


def _best_groups(frames: Tensor, segments: Tensor) -> Tensor:
    """The groups of places `[S, PLACES]` where `segments` `[WIDTH * C, S]` score most, as the first place of each."""
    best, where = torch.empty(segments.shape[1], 0), torch.empty(segments.shape[1], 0, dtype=torch.int64)
    for first, windows in _windows(frames):
        scores = (windows @ segments).view(len(windows) // GROUP, GROUP, -1).amax(dim=1).T  # [S, groups]
        top = scores.topk(min(PLACES, scores.shape[1]), dim=1)
        best = torch.cat([best, top.values], dim=1)
        where = torch.cat([where, top.indices * GROUP + first], dim=1)
        kept = best.topk(min(PLACES, best.shape[1]), dim=1)
        best, where = kept.values, where.gather(1, kept.indices)
    return where


def _windows(frames: Tensor) -> Iterator[tuple[int, Tensor]]:
    """All windows of WIDTH pooled frames, ROWS at a time, `[rows, WIDTH * C]`, with the place of the first of them."""
    places = (
        -(-len(frames) // POOL) + WIDTH - 1
    )  # the first window ends with the first frame, the last begins with the last
    for first in range(0, places, ROWS):
        count = -(-min(ROWS, places - first) // GROUP) * GROUP
        begin = (first - WIDTH + 1) * POOL
        piece = frames[max(0, begin) : max(0, begin + (count + WIDTH - 1) * POOL)]
        pooled = _pooled(nn.functional.pad(piece, (0, 0, max(0, -begin), 0)), count + WIDTH - 1)
        yield first - WIDTH + 1, pooled.unfold(0, WIDTH, 1).transpose(1, 2).reshape(count, -1)


def _pooled(frames: Tensor, count: int) -> Tensor:
    """`[F, C]` to `[count, C]`: sums of POOL frames, nothing after the last."""
    padded = nn.functional.pad(frames, (0, 0, 0, count * POOL - len(frames)))
    return padded.view(count, POOL, -1).sum(dim=1)
