"""Candidates for near-duplicates: pairs of recordings of which many frames are alike at one lag.

They come from sorting the frames' bits under several band orders and comparing neighbours (Charikar, "Similarity
Estimation Techniques from Rounding Algorithms", STOC 2002), which tolerates errors in any band and costs the same
however common a frame is. Frames, sort keys and votes lie in files; about PART_FRAMES of them are sorted at a time. What
is held in memory are pairs of recordings with enough votes, some of which each recording has, however many there are.

Where an earlier search is known and recordings were added since, only neighbours of new frames are compared. Votes on
two known recordings can only be lost, where a new frame comes between two of theirs. The candidates are the same.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.audio.fingerprint import BITS, I64, U32, bit_differences
from distill.audio.fingerprint_frames import FingerprintFrames, mapped, slices, write_parts
from distill.audio.known_pairs import KnownPairs

PART_FRAMES = 1 << 20  # sorted at once

_MINIMUM_LOUD_FRAMES = 16
_INDEXED_BITS = 10
_BAND_ORDERS = 6
_NEIGHBOURS = 2
_FRAME_ERROR_RATE = 0.2
_MINIMUM_VOTES = 3
_LAGS_PER_PAIR = 2
_SAMPLED = 1 << 16  # keys, at most, of which the bounds of the parts are quantiles

U64 = NDArray[np.uint64]


def find_candidates(
    frames: FingerprintFrames, folder: Path, part_frames: int, known: KnownPairs, is_known: NDArray[np.bool_]
) -> KnownPairs:
    """Pairs with enough votes, and the lags beside theirs.

    `known` are those of an earlier search among the recordings that `is_known` `[R]` marks. Working files go into `folder`.
    """
    write_parts(folder / "indexed", _indexed(frames))
    indexed = mapped(folder / "indexed", np.int64)
    # The votes of a recording with later ones lie in one file; a frame gives up to _BAND_ORDERS * _NEIGHBOURS.
    files = -(-2 * _BAND_ORDERS * _NEIGHBOURS * len(indexed) // (8 * part_frames))
    bounds = np.searchsorted(frames.starts, np.linspace(0, len(frames.signs), files + 1)[1:-1])
    edges = frames.code.encode(bounds, np.zeros_like(bounds), np.full_like(bounds, -frames.code.longest))
    paths = [folder / f"votes-{number}" for number in range(files)]
    lost: list[I64] = [np.empty(0, dtype=np.int64)]
    orders = np.random.default_rng(0)
    for _ in range(_BAND_ORDERS):
        tables = _spread_tables(orders.permutation(BITS))
        write_parts(folder / "keys", (_sort_key(frames, indexed[part], tables) for part in slices(len(indexed))))
        parted = _Parted()
        for order, first_own in _sorted_parts(indexed, mapped(folder / "keys", np.uint64), part_frames):
            is_old = is_known[frames.recording[order]]
            for step in range(1, _NEIGHBOURS + 1):
                later = np.arange(max(step, first_own), len(order))
                later = later[~(is_old[later] & is_old[later - step])]
                for part in slices(len(later)):
                    at = later[part]
                    _append_votes(paths, np.sort(_votes(frames, order[at - step], order[at])), edges)
            for earlier_frames, later_frames in parted.by_new(order[first_own:], is_old[first_own:]):
                for part in slices(len(later_frames)):
                    lost.append(known.among(_votes(frames, earlier_frames[part], later_frames[part])))
    found = [_counted(path) for path in paths if path.exists()]
    return _with_enough_votes(known.without(np.concatenate(lost))).joined(found)


def strongest_lags(votes: I64, counts: I64, span: int) -> I64:
    """Where the lags of each pair with the most votes are, if they are enough."""
    support = _support(votes, counts)
    enough = np.flatnonzero(support >= _MINIMUM_VOTES)
    pair = votes[enough] // span
    ranked = np.lexsort((enough, -support[enough], pair))
    pair = pair[ranked]
    rank = np.arange(len(pair)) - np.searchsorted(pair, pair)
    return enough[ranked[rank < _LAGS_PER_PAIR]]


def _indexed(frames: FingerprintFrames) -> Iterator[I64]:
    """Loud frames with enough sure bits, of recordings with enough loud frames, in parts."""
    for part in slices(len(frames.loud)):
        loud = frames.loud[part]
        loud = loud[np.bitwise_count(frames.sure[loud]) >= _INDEXED_BITS]
        yield loud[frames.loud_counts[frames.recording[loud]] >= _MINIMUM_LOUD_FRAMES]


def _counted(path: Path) -> KnownPairs:
    """Pairs with enough votes among those of a file, which is removed."""
    votes, counts = np.unique(np.fromfile(path, np.int64), return_counts=True)
    path.unlink()
    return _with_enough_votes(KnownPairs.unknown(votes, counts))


class _Parted:
    """Pairs of known frames that were neighbours in sorted order before there were new frames, and are not any more."""

    def __init__(self) -> None:
        self._count = 0
        self._order = self._places = np.empty(0, dtype=np.int64)  # of the last known frames

    def by_new(self, order: I64, is_old: NDArray[np.bool_]) -> Iterator[tuple[I64, I64]]:
        """The pairs of which the later frame is in the next part of the order: their earlier frames and their later ones."""
        places = self._count + np.flatnonzero(is_old)
        before, self._count = len(self._order), self._count + len(order)
        order, places = np.concatenate([self._order, order[is_old]]), np.concatenate([self._places, places])
        for step in range(1, _NEIGHBOURS + 1):
            later = np.arange(max(step, before), len(order))
            later = later[places[later] - places[later - step] > _NEIGHBOURS]
            yield order[later - step], order[later]
        self._order, self._places = order[-_NEIGHBOURS:], places[-_NEIGHBOURS:]


def _append_votes(paths: Sequence[Path], votes: I64, edges: I64) -> None:
    """Append sorted votes to the files that `edges` divide them among."""
    for path, own in zip(paths, np.split(votes, np.searchsorted(votes, edges)), strict=True):
        if len(own):
            with path.open("ab") as file:
                file.write(np.ascontiguousarray(own).data)


def _sorted_parts(indexed: I64, keys: U64, part_frames: int) -> Iterator[tuple[I64, int]]:
    """The frames `indexed`, sorted by their keys, in parts of about `part_frames`, each after the last ones before it.

    With each part comes where its own frames begin. Frames of equal keys keep their order.
    """
    sample = np.sort(keys[:: -(-len(keys) // _SAMPLED) or 1])
    parts = -(-len(keys) // part_frames)
    bounds = [0, *sample[[len(sample) * part // parts for part in range(1, parts)]].tolist(), 1 << 64]
    before = np.empty(0, dtype=np.int64)
    for low, high in pairwise(bounds):
        inside = [
            part.start + np.flatnonzero((keys[part] >= np.uint64(low)) & (keys[part] <= np.uint64(high - 1)))
            for part in slices(len(keys))
            if high > low
        ]
        at = np.concatenate([np.empty(0, dtype=np.int64), *inside])
        order = np.concatenate([before, indexed[at[np.argsort(keys[at], kind="stable")]]])
        yield order, len(before)
        before = order[-_NEIGHBOURS:]


def _spread_tables(bands: I64) -> U64:
    """For each byte of 32 bits and each value of it `[4, 256]`: its bits at twice their rank in `bands`, from the top."""
    values = np.arange(256, dtype=np.uint64)
    tables = np.zeros((4, 256), dtype=np.uint64)
    for rank, band in enumerate(bands.tolist()):
        bit = (values >> np.uint64(band % 8)) & np.uint64(1)
        tables[band // 8] |= bit << np.uint64(2 * (BITS - rank) - 1)
    return tables


def _sort_key(frames: FingerprintFrames, at: I64, tables: U64) -> U64:
    """Sort keys of the frames `at`: bits in the order of the bands, the first in the highest bits; sure before sign."""
    return _spread(frames.sure[at], tables) | (_spread(frames.signs[at], tables) >> np.uint64(1))


def _spread(bits: U32, tables: U64) -> U64:
    octets = np.ascontiguousarray(bits, dtype="<u4").view(np.uint8).reshape(-1, 4)
    key: U64 = tables[0][octets[:, 0]] | tables[1][octets[:, 1]] | tables[2][octets[:, 2]] | tables[3][octets[:, 3]]
    return key


def _votes(frames: FingerprintFrames, a: I64, b: I64) -> I64:
    """Votes of the frame pairs that match and are of two recordings."""
    half_errors, bits = bit_differences(frames.signs[a], frames.sure[a], frames.signs[b], frames.sure[b])
    keep = (frames.recording[a] != frames.recording[b]) & (half_errors <= 2 * _FRAME_ERROR_RATE * bits)
    low, high = np.minimum(a[keep], b[keep]), np.maximum(a[keep], b[keep])
    first, second = (frames.recording[one].astype(np.int64) for one in (low, high))
    lag = (high - frames.starts[second]) - (low - frames.starts[first])
    return frames.code.encode(first, second, lag)


def _support(votes: I64, counts: I64) -> I64:
    """Votes of each pair at each lag, those of neighbouring lags included."""
    support = counts.copy()
    adjacent = np.flatnonzero(np.diff(votes) == 1)
    support[adjacent] += counts[adjacent + 1]
    support[adjacent + 1] += counts[adjacent]
    return support


def _with_enough_votes(pairs: KnownPairs) -> KnownPairs:
    """The pairs at lags with enough votes, and at those beside, which count for them."""
    enough = _support(pairs.votes, pairs.counts) >= _MINIMUM_VOTES
    adjacent = np.diff(pairs.votes) == 1
    chosen = enough.copy()
    chosen[:-1] |= adjacent & enough[1:]
    chosen[1:] |= adjacent & enough[:-1]
    return pairs.at(chosen)
