"""Near-duplicate recordings: those that share most of their fingerprints at one lag.

Candidates come from sorting the frames' bits under several band orders and comparing neighbours (Charikar, "Similarity
Estimation Techniques from Rounding Algorithms", STOC 2002), which tolerates errors in any band and costs the same
however common a frame is. Two frames that match are a vote for their recordings at a lag. Pairs with enough votes are
compared frame by frame. All is in memory: about 100 bytes a frame, of which a second has 125.

Shapes: `F` frames of all recordings end to end, `R` recordings, `P` pairs of recordings at a lag.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from distill.audio.fingerprint import BITS, I64, U32, Fingerprint, bit_differences, error_rate_limit

MINIMUM_OVERLAP = 0.8

_MINIMUM_LOUD_FRAMES = 16
_INDEXED_BITS = 10
_BAND_ORDERS = 6
_NEIGHBOURS = 2
_FRAME_ERROR_RATE = 0.2
_MINIMUM_VOTES = 3
_LAGS_PER_PAIR = 2
_AT_ONCE = 1 << 18  # frames or pairs of frames in temporary arrays
_VOTES_AT_ONCE = 1 << 22

U64 = NDArray[np.uint64]


def near_duplicate_groups(fingerprints: Sequence[Fingerprint]) -> list[int]:
    """Group near-duplicates: for each recording the smallest index in its group, its own where it is alone.

    Two recordings are near-duplicates if, at one lag, at least MINIMUM_OVERLAP of the loud frames of the one with
    fewer lie inside the other and their bit error rate is below `error_rate_limit`. Groups are the transitive closure.
    """
    groups = list(range(len(fingerprints)))
    if not any(len(one.loud) for one in fingerprints):
        return groups
    frames = _Frames(fingerprints)
    pairs = np.concatenate([_candidates(part, frames.span) for part in _by_recording(_sorted_votes(frames), frames)])
    for first, second in frames.pairs(pairs[_are_same_sound(frames, pairs)])[:, :2].tolist():
        low, high = sorted((_root(groups, first), _root(groups, second)))
        groups[high] = low
    return [_root(groups, index) for index in range(len(groups))]


class _Frames:
    """The frames of all recordings end to end."""

    def __init__(self, fingerprints: Sequence[Fingerprint]) -> None:
        self.lengths = np.array([len(one.loud) for one in fingerprints], dtype=np.int64)  # [R]
        self.starts = np.cumsum(self.lengths) - self.lengths  # [R]
        self.signs = np.concatenate([one.signs for one in fingerprints])  # [F]
        self.sure = np.concatenate([one.sure for one in fingerprints])  # [F]
        self.recording = np.repeat(np.arange(len(fingerprints), dtype=np.int32), self.lengths)  # [F]
        self.loud = np.flatnonzero(np.concatenate([one.loud for one in fingerprints]))
        self.loud_counts = np.bincount(self.recording[self.loud], minlength=len(fingerprints))  # [R]
        self.loud_starts = np.cumsum(self.loud_counts) - self.loud_counts  # [R]
        self.longest = int(self.lengths.max())
        self.span = 2 * self.longest + 1  # lags of a pair

    def vote(self, a: I64, b: I64) -> I64:
        """Votes of the pairs of frames `a` and `b` that match and are of two recordings, one integer each.

        Sorted, they are in the order of pairs, then of lags.
        """
        half_errors, bits = bit_differences(self.signs[a], self.sure[a], self.signs[b], self.sure[b])
        keep = (self.recording[a] != self.recording[b]) & (half_errors <= 2 * _FRAME_ERROR_RATE * bits)
        low, high = np.minimum(a[keep], b[keep]), np.maximum(a[keep], b[keep])
        first, second = (self.recording[one].astype(np.int64) for one in (low, high))
        lag = (high - self.starts[second]) - (low - self.starts[first])
        return np.asarray((first * len(self.lengths) + second) * self.span + lag + self.longest, dtype=np.int64)

    def pairs(self, votes: I64) -> I64:
        """Rows `[P, 3]` of votes: the first recording, the second, and how many frames that is later."""
        pair = votes // self.span
        first, second = pair // len(self.lengths), pair % len(self.lengths)
        return np.stack([first, second, votes % self.span - self.longest], axis=1)


def _sorted_votes(frames: _Frames) -> I64:
    """All votes."""
    loud = frames.loud[np.bitwise_count(frames.sure[frames.loud]) >= _INDEXED_BITS]
    indexed = loud[frames.loud_counts[frames.recording[loud]] >= _MINIMUM_LOUD_FRAMES]
    votes = np.empty(_BAND_ORDERS * _NEIGHBOURS * len(indexed), dtype=np.int64)
    count = 0
    orders = np.random.default_rng(0)
    for _ in range(_BAND_ORDERS):
        order = indexed[_sorting(frames, indexed, _spread_tables(orders.permutation(BITS)))]
        for step in range(1, _NEIGHBOURS + 1):
            for part in _slices(len(order) - step):
                later = order[part.start + step : part.stop + step]
                found = frames.vote(order[part], later)
                votes[count : count + len(found)] = found
                count += len(found)
    votes = votes[:count]
    votes.sort()
    return votes


def _sorting(frames: _Frames, at: I64, tables: U64) -> I64:
    """Order of the frames `at` by their bits in the order of bands, the first in the highest bits; sure before sign."""
    keys = np.empty(len(at), dtype=np.uint64)
    for part in _slices(len(at)):
        own = at[part]
        keys[part] = _spread(frames.sure[own], tables) | (_spread(frames.signs[own], tables) >> np.uint64(1))
    return np.argsort(keys, kind="stable")


def _spread_tables(bands: I64) -> U64:
    """For each byte of 32 bits and each value of it `[4, 256]`: its bits at twice their rank in `bands`, from the top."""
    values = np.arange(256, dtype=np.uint64)
    tables = np.zeros((4, 256), dtype=np.uint64)
    for rank, band in enumerate(bands.tolist()):
        bit = (values >> np.uint64(band % 8)) & np.uint64(1)
        tables[band // 8] |= bit << np.uint64(2 * (BITS - rank) - 1)
    return tables


def _spread(bits: U32, tables: U64) -> U64:
    octets = np.ascontiguousarray(bits, dtype="<u4").view(np.uint8).reshape(-1, 4)
    key: U64 = tables[0][octets[:, 0]] | tables[1][octets[:, 1]] | tables[2][octets[:, 2]] | tables[3][octets[:, 3]]
    return key


def _by_recording(votes: I64, frames: _Frames) -> Iterator[I64]:
    """Sorted votes in parts of about _VOTES_AT_ONCE, each with all those of its first recordings."""
    per_recording = len(frames.lengths) * frames.span
    start = 0
    while start < len(votes):
        last = votes[min(start + _VOTES_AT_ONCE, len(votes)) - 1]
        stop = int(np.searchsorted(votes, (last // per_recording + 1) * per_recording))
        yield votes[start:stop]
        start = stop
    yield votes[:0]  # so that there is one


def _candidates(votes: I64, span: int) -> I64:
    """Those of sorted votes whose pair has the most votes at their lag and those beside it, if they are enough."""
    votes, counts = np.unique(votes, return_counts=True)
    support = counts.copy()
    adjacent = np.flatnonzero(np.diff(votes) == 1)
    support[adjacent] += counts[adjacent + 1]
    support[adjacent + 1] += counts[adjacent]
    enough = np.flatnonzero(support >= _MINIMUM_VOTES)
    pair = votes[enough] // span
    ranked = np.lexsort((enough, -support[enough], pair))
    pair = pair[ranked]
    rank = np.arange(len(pair)) - np.searchsorted(pair, pair)
    return np.asarray(votes[enough[ranked[rank < _LAGS_PER_PAIR]]], dtype=np.int64)


def _are_same_sound(frames: _Frames, votes: I64) -> NDArray[np.bool_]:
    """For each of the votes, whether the two recordings are near-duplicates at its lag or one frame to a side."""
    first, second, lag = frames.pairs(votes).T
    swap = frames.loud_counts[second] < frames.loud_counts[first]
    shorter, longer = np.where(swap, second, first), np.where(swap, first, second)
    lag = np.where(swap, -lag, lag)
    same = np.zeros(len(votes), dtype=np.bool_)
    batch = np.cumsum(frames.loud_counts[shorter]) // _AT_ONCE
    for start, stop in pairwise([0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(votes)]):
        for offset in (-1, 0, 1):
            own = slice(start, stop)
            same[own] |= _match_at(frames, shorter[own], longer[own], lag[own] + offset)
    return same


def _match_at(frames: _Frames, shorter: I64, longer: I64, lag: I64) -> NDArray[np.bool_]:
    """Whether the loud frames of each `shorter` recording match the frames of `longer` that are `lag` later."""
    counts = frames.loud_counts[shorter]
    pair = np.repeat(np.arange(len(shorter)), counts)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
    a = frames.loud[frames.loud_starts[shorter][pair] + within]
    position = a - frames.starts[shorter][pair] + lag[pair]
    inside = (position >= 0) & (position < frames.lengths[longer][pair])
    a, pair = a[inside], pair[inside]
    b = frames.starts[longer][pair] + position[inside]
    half_errors, bits = bit_differences(frames.signs[a], frames.sure[a], frames.signs[b], frames.sure[b])
    overlap, errors, total = (
        np.bincount(pair, weights=weights, minlength=len(shorter)) for weights in (None, half_errors / 2, bits)
    )
    return (overlap >= MINIMUM_OVERLAP * counts) & (errors < error_rate_limit(total.astype(np.int64)) * total)


def _slices(count: int) -> Iterator[slice]:
    """Slices of _AT_ONCE or fewer that cover `count`."""
    return (slice(first, min(first + _AT_ONCE, count)) for first in range(0, count, _AT_ONCE))


def _root(groups: list[int], index: int) -> int:
    """Smallest index of the group of `index` (union-find with path halving)."""
    while groups[index] != index:
        groups[index] = groups[groups[index]]
        index = groups[index]
    return index
