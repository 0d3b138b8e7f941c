"""Near-duplicate recordings: a search for recordings that share most of their fingerprints.

Candidates come from sorting the frames' bits under several band orders and comparing neighbours (Charikar, "Similarity
Estimation Techniques from Rounding Algorithms", STOC 2002), which tolerates errors in any band and costs the same
however common a frame is. Frames, sort keys and votes lie in files; about PART_FRAMES of them are sorted at a time. What
is held in memory are pairs of recordings with enough votes, some of which each recording has, however many there are.

Where an earlier search is known and recordings were added since, only neighbours of new frames are compared. Votes on
two known recordings can only be lost, where a new frame comes between two of theirs. The groups are the same.

Shapes: `F` frames, `R` recordings.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from distill.audio.fingerprint import BITS, I64, U32, Fingerprint, bit_differences, error_rate_limit
from distill.audio.known_pairs import SAME, UNKNOWN, KnownPairs, VoteCode, read_pairs, write_pairs

MINIMUM_LOUD_FRAMES = 16
MINIMUM_OVERLAP = 0.8

_BAND_ORDERS = 6
_NEIGHBOURS = 2
_INDEXED_BITS = 10
_FRAME_ERROR_RATE = 0.2
_MINIMUM_VOTES = 3
_LAGS_PER_PAIR = 2
PART_FRAMES = 1 << 20  # sorted at once
_AT_ONCE = 1 << 18  # frames or pairs of frames in temporary arrays
_SAMPLED = 1 << 16  # keys, at most, of which the bounds of the parts are quantiles

U64 = NDArray[np.uint64]


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
        frames = _Frames(self._folder, self._lengths)
        earlier = None if kept is None else read_pairs(kept, self._names, frames.code)
        pairs = _search(frames, self._folder, self._part_frames, earlier)
        best = _strongest_lags(pairs.votes, pairs.counts, frames.code.span)
        new = best[pairs.verdicts[best] == UNKNOWN]
        pairs.verdicts[new] = _same_sound(frames, pairs.votes[new])
        if kept is not None:
            write_pairs(kept, self._names, frames.code, pairs)
        first, second, _ = frames.code.decode(pairs.votes[best[pairs.verdicts[best] == SAME]])
        for pair in zip(first.tolist(), second.tolist(), strict=True):
            low, high = sorted(_root(groups, one) for one in pair)
            groups[high] = low
        return [_root(groups, index) for index in range(len(groups))]


class _Frames:
    """The frames of all recordings end to end; those of a kind lie in a file."""

    def __init__(self, folder: Path, lengths: Sequence[int]) -> None:
        self.lengths = np.array(lengths, dtype=np.int64)  # [R]
        self.starts = np.cumsum(self.lengths) - self.lengths  # [R]
        self.code = VoteCode(len(lengths), max(lengths))
        self.signs = np.memmap(folder / "signs", np.uint32, "r")  # [F]
        self.sure = np.memmap(folder / "sure", np.uint32, "r")  # [F]
        is_loud = np.memmap(folder / "loud", np.bool_, "r")
        _write(folder / "recording", (np.full(count, one, np.int32) for one, count in enumerate(self.lengths.tolist())))
        self.recording = np.memmap(folder / "recording", np.int32, "r")  # [F]
        parts = _slices(len(is_loud))
        _write(folder / "loud-frames", (part.start + np.flatnonzero(is_loud[part]) for part in parts))
        self.loud = _mapped(folder / "loud-frames", np.int64)
        self.loud_counts = np.zeros(len(lengths), dtype=np.int64)  # [R]
        for part in _slices(len(self.loud)):
            self.loud_counts += np.bincount(self.recording[self.loud[part]], minlength=len(lengths))
        self.loud_starts = np.cumsum(self.loud_counts) - self.loud_counts  # [R]

    def indexed(self) -> Iterator[I64]:
        """Loud frames with enough sure bits, of recordings with enough loud frames, in parts."""
        for part in _slices(len(self.loud)):
            loud = self.loud[part]
            loud = loud[np.bitwise_count(self.sure[loud]) >= _INDEXED_BITS]
            yield loud[self.loud_counts[self.recording[loud]] >= MINIMUM_LOUD_FRAMES]


def _write(path: Path, parts: Iterable[NDArray[Any]]) -> None:
    with path.open("wb") as file:
        for part in parts:
            file.write(np.ascontiguousarray(part).data)


def _mapped(path: Path, kind: type[Any]) -> NDArray[Any]:
    """A file as an array; a file without bytes has no map."""
    return np.memmap(path, kind, "r") if path.stat().st_size else np.empty(0, kind)


def _search(
    frames: _Frames, folder: Path, part_frames: int, earlier: tuple[KnownPairs, NDArray[np.bool_]] | None
) -> KnownPairs:
    """Pairs with enough votes, and the lags beside theirs: those of an earlier search, and those of its recordings or new ones."""
    known, is_known = earlier or (KnownPairs.none(), np.zeros(len(frames.lengths), dtype=np.bool_))
    _write(folder / "indexed", frames.indexed())
    indexed = _mapped(folder / "indexed", np.int64)
    # The votes of a recording with later ones lie in one file; a frame gives up to _BAND_ORDERS * _NEIGHBOURS.
    files = -(-2 * _BAND_ORDERS * _NEIGHBOURS * len(indexed) // (8 * part_frames))
    bounds = np.searchsorted(frames.starts, np.linspace(0, len(frames.signs), files + 1)[1:-1])
    edges = frames.code.encode(bounds, np.zeros_like(bounds), np.full_like(bounds, -frames.code.longest))
    paths = [folder / f"votes-{number}" for number in range(files)]
    lost: list[I64] = [np.empty(0, dtype=np.int64)]
    orders = np.random.default_rng(0)
    for _ in range(_BAND_ORDERS):
        tables = _spread_tables(orders.permutation(BITS))
        _write(folder / "keys", (_sort_key(frames, indexed[part], tables) for part in _slices(len(indexed))))
        parted = _Parted()
        for order, first_own in _sorted_parts(indexed, _mapped(folder / "keys", np.uint64), part_frames):
            is_old = is_known[frames.recording[order]]
            for step in range(1, _NEIGHBOURS + 1):
                later = np.arange(max(step, first_own), len(order))
                later = later[~(is_old[later] & is_old[later - step])]
                for part in _slices(len(later)):
                    at = later[part]
                    _append_votes(paths, np.sort(_votes(frames, order[at - step], order[at])), edges)
            for earlier_frames, later_frames in parted.by_new(order[first_own:], is_old[first_own:]):
                for part in _slices(len(later_frames)):
                    lost.append(known.among(_votes(frames, earlier_frames[part], later_frames[part])))
    found = [_counted(path) for path in paths if path.exists()]
    return _with_enough_votes(known.without(np.concatenate(lost))).joined(found)


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


def _slices(count: int) -> Iterator[slice]:
    return (slice(first, min(first + _AT_ONCE, count)) for first in range(0, count, _AT_ONCE))


def _pairs(votes: I64, frames: _Frames) -> I64:
    """Rows `[P, 3]` of votes: recording with fewer loud frames, the other, lag in frames."""
    first, second, lag = frames.code.decode(votes)
    swap = frames.loud_counts[second] < frames.loud_counts[first]
    return np.stack([np.where(swap, second, first), np.where(swap, first, second), np.where(swap, -lag, lag)], axis=1)


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
            for part in _slices(len(keys))
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


def _sort_key(frames: _Frames, at: I64, tables: U64) -> U64:
    """Sort keys of the frames `at`: bits in the order of the bands, the first in the highest bits; sure before sign."""
    return _spread(frames.sure[at], tables) | (_spread(frames.signs[at], tables) >> np.uint64(1))


def _spread(bits: U32, tables: U64) -> U64:
    octets = np.ascontiguousarray(bits, dtype="<u4").view(np.uint8).reshape(-1, 4)
    key: U64 = tables[0][octets[:, 0]] | tables[1][octets[:, 1]] | tables[2][octets[:, 2]] | tables[3][octets[:, 3]]
    return key


def _votes(frames: _Frames, a: I64, b: I64) -> I64:
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


def _strongest_lags(votes: I64, counts: I64, span: int) -> I64:
    """Where the lags of each pair with the most votes are, if they are enough."""
    support = _support(votes, counts)
    enough = np.flatnonzero(support >= _MINIMUM_VOTES)
    pair = votes[enough] // span
    ranked = np.lexsort((enough, -support[enough], pair))
    pair = pair[ranked]
    rank = np.arange(len(pair)) - np.searchsorted(pair, pair)
    return enough[ranked[rank < _LAGS_PER_PAIR]]


def _same_sound(frames: _Frames, votes: I64) -> NDArray[np.bool_]:
    """For each of the votes, whether the two recordings are near-duplicates at its lag or one frame to a side."""
    pairs = _pairs(votes, frames)
    same = np.zeros(len(pairs), dtype=np.bool_)
    for batch in _batches(frames.loud_counts[pairs[:, 0]]):
        for offset in (-1, 0, 1):
            same[batch] |= _match_at(frames, *(pairs[batch] + [0, 0, offset]).T)
    return same


def _batches(sizes: I64) -> Iterator[slice]:
    """Slices over `sizes` of about _AT_ONCE each."""
    batch = np.cumsum(sizes) // _AT_ONCE
    cuts = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(sizes)]
    return (slice(start, stop) for start, stop in pairwise(cuts) if stop > start)


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


def _root(groups: list[int], index: int) -> int:
    """Smallest index of the group of `index` (union-find with path halving)."""
    while groups[index] != index:
        groups[index] = groups[groups[index]]
        index = groups[index]
    return index
