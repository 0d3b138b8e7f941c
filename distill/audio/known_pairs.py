"""Pairs of recordings that a search for near-duplicates looked at, kept so that a later search builds on them.

A vote is two frames that match, of two recordings at a lag. Votes are coded as one integer each, so that sorting them
sorts by pair, then by lag. Shapes: `R` recordings, `P` pairs at a lag.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from distill.audio.fingerprint import I64
from distill.storage.files import write_bytes

UNKNOWN, OTHER, SAME = -1, 0, 1  # verdicts on a pair at a lag

I8 = NDArray[np.int8]


@dataclass(frozen=True)
class VoteCode:
    """How votes on `recordings` recordings, of which the longest has `longest` frames, are coded."""

    recordings: int
    longest: int

    @property
    def span(self) -> int:
        return 2 * self.longest + 1

    def encode(self, first: I64, second: I64, lag: I64) -> I64:
        """Votes on recordings `first` before `second`, whose frames are `lag` later."""
        return np.asarray((first * self.recordings + second) * self.span + lag + self.longest, dtype=np.int64)

    def decode(self, votes: I64) -> tuple[I64, I64, I64]:
        """The first recording of each vote, the second, and the lag."""
        pair = votes // self.span
        return pair // self.recordings, pair % self.recordings, votes % self.span - self.longest


@dataclass(frozen=True)
class KnownPairs:
    """Votes `[P]`, sorted and each once, how often each was cast, and the verdict on its pair at its lag."""

    votes: I64
    counts: I64
    verdicts: I8

    @classmethod
    def none(cls) -> Self:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int8))

    @classmethod
    def unknown(cls, votes: I64, counts: I64) -> Self:
        return cls(votes, counts, np.full(len(votes), UNKNOWN, np.int8))

    def at(self, chosen: NDArray[np.bool_]) -> Self:
        return type(self)(self.votes[chosen], self.counts[chosen], self.verdicts[chosen])

    def joined(self, others: Sequence[Self]) -> Self:
        """These and others, of votes that these do not have."""
        votes, counts, verdicts = (
            np.concatenate([getattr(one, name) for one in (self, *others)]) for name in ("votes", "counts", "verdicts")
        )
        order = np.argsort(votes)
        return type(self)(votes[order], counts[order], verdicts[order])

    def among(self, votes: I64) -> I64:
        """Those of some votes that these have."""
        at = np.searchsorted(self.votes, votes)
        is_inside = at < len(self.votes)
        votes = votes[is_inside]
        return np.asarray(votes[self.votes[at[is_inside]] == votes], dtype=np.int64)

    def without(self, lost: I64) -> Self:
        """These without votes that they have and that are cast no more; one that was cast twice may be lost once."""
        counts = self.counts.copy()
        np.subtract.at(counts, np.searchsorted(self.votes, lost), 1)
        return type(self)(self.votes, counts, self.verdicts).at(counts > 0)


def write_pairs(path: Path, names: Sequence[str], code: VoteCode, pairs: KnownPairs) -> None:
    """Write what a search among recordings of these names found, atomically."""
    first, second, lag = (part.astype(np.int32) for part in code.decode(pairs.votes))
    arrays: dict[str, NDArray[Any]] = {
        "names": np.frombuffer("\n".join(names).encode(), np.uint8),
        "first": first,
        "second": second,
        "lag": lag,
        "counts": pairs.counts.astype(np.int32),
        "verdicts": pairs.verdicts,
    }
    write_bytes(path, save(arrays))


def read_pairs(path: Path | None, names: Sequence[str], code: VoteCode) -> tuple[KnownPairs, NDArray[np.bool_]]:
    """What an earlier search found, in terms of the recordings `names`, and which of these it knew, `[R]`.

    Nothing where a search has to begin anew: there was none that can be read, one of its recordings is gone or at another
    place among the others, or most recordings are new.
    """
    known = np.zeros(len(names), dtype=np.bool_)
    if path is None:
        return KnownPairs.none(), known
    try:
        arrays = load_file(path)
        earlier = arrays["names"].tobytes().decode().split("\n")
        columns = np.stack([arrays[name].astype(np.int64) for name in ("first", "second", "lag", "counts", "verdicts")])
    except (OSError, SafetensorError, KeyError, ValueError):
        return KnownPairs.none(), known
    places = {name: index for index, name in enumerate(names)}
    now = np.array([places.get(name, -1) for name in earlier], dtype=np.int64)
    if now[0] < 0 or (np.diff(now) <= 0).any() or 2 * len(now) < len(names):
        return KnownPairs.none(), known
    known[now] = True
    first, second, lag, counts, verdicts = columns
    return KnownPairs(code.encode(now[first], now[second], lag), counts, verdicts.astype(np.int8)), known
