"""Index of recordings that sounds are aligned with, in any space of features."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distill.novelty.alignment import Match
from distill.novelty.lag_search import Candidates, best_candidates, candidate_lags, find_candidates

Sound = NDArray[Any]  # [F, ...]


class Index(ABC):
    """Index of recordings, end to end. `match_in_parts` searches a library by an index of each part."""

    pool: ClassVar[int]  # frames pooled in the lag search

    def __init__(self, lengths: Sequence[int]) -> None:
        self.starts: NDArray[np.int64] = np.cumsum([0, *lengths])

    def match(self, sounds: Sequence[Sound]) -> list[Match]:
        """The best alignment of each of `sounds` with a recording."""
        matches = self.align(sounds, self.find_candidates(sounds))
        return [match for match in matches if match is not None]

    def find_candidates(self, sounds: Sequence[Sound]) -> Candidates:
        """Where each of `sounds` may lie."""
        return find_candidates(self._features_at, self._frames, [self._query(sound) for sound in sounds], self.pool)

    def align(self, sounds: Sequence[Sound], found: Candidates) -> list[Match | None]:
        """The best alignment of each of `sounds` at its candidates, None for a sound that has none."""
        lags = candidate_lags(found, self._frames, list(map(len, sounds)), self.pool)
        return [
            self._best_match(sound, candidates) if len(candidates) else None
            for sound, candidates in zip(sounds, lags, strict=True)
        ]

    @property
    def _frames(self) -> int:
        return int(self.starts[-1])

    @abstractmethod
    def _features_at(self, start: int, stop: int) -> Tensor:
        """Features `[stop - start, C]` of frames of all recordings."""

    @abstractmethod
    def _query(self, sound: Sound) -> Tensor:
        """Features `[F, C]` of a sound, the product of which with those of frames is the score."""

    @abstractmethod
    def _best_match(self, sound: Sound, lags: NDArray[np.int64]) -> Match:
        """The best alignment at one of these lags."""


def match_in_parts(index_of: Callable[[int], Index], firsts: Sequence[int], sounds: Sequence[Sound]) -> list[Match]:
    """The best alignment of each of `sounds` with a recording of any part, as one index of all would find it.

    `index_of(n)` gives the index of part n, whose first recording is `firsts[n]` of all. Of equals the first is best;
    the copied run is the longest of any part.
    """
    found = best_candidates([index_of(part).find_candidates(sounds) for part in range(len(firsts))])
    best: dict[int, Match] = {}
    for part, first in enumerate(firsts):
        for row, match in enumerate(index_of(part).align(sounds, found[part])):
            if match is not None:
                before = best.get(row)
                numbered = replace(match, recording=match.recording + first)
                winner = numbered if before is None or match.likeness > before.likeness else before
                run = match.copied_frames if before is None else max(match.copied_frames, before.copied_frames)
                best[row] = replace(winner, copied_frames=run)
    return [best[row] for row in range(len(sounds))]
