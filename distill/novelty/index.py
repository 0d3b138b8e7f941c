"""Index of recordings that sounds are aligned with, in any space of features."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distill.novelty.alignment import Match
from distill.novelty.lag_search import Candidates, candidate_lags, find_candidates

Sound = NDArray[Any]  # [F, ...]


class Index(ABC):
    """Index of recordings, end to end.

    To search a library in parts, make an index of each: call `find_candidates` of all of them, choose with
    `lag_search.best_candidates`, and call `align`.
    """

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
