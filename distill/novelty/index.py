"""Index of recordings that sounds are aligned with, in any space of features, and that of their codes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.novelty.alignment import (
    SLACK,
    Costs,
    Flags,
    Match,
    Windows,
    best_piece,
    edit_distance,
    longest_run,
    windows_at,
)
from distill.novelty.lag_search import Candidates, best_candidates, candidate_lags, find_candidates

SIGNS = 16  # dimensions of the random projection of a code in the lag search
SIGNS_SEED = 0
COPIED = 0.75  # share of a frame's codes that are equal in a copied frame

Sound = NDArray[Any]  # [F, ...]


class Index(ABC):
    """Index of recordings, end to end. `match_in_parts` searches a library by an index of each part."""

    pool: ClassVar[int]  # frames pooled in the lag search

    def __init__(self, frames: Sound, lengths: Sequence[int]) -> None:
        """`frames` `[F, ...]` are those of recordings of so many frames, end to end."""
        self.frames = frames
        self.starts: NDArray[np.int64] = np.cumsum([0, *lengths])

    def match(self, sounds: Sequence[Sound]) -> list[Match]:
        """The best alignment of each of `sounds` with a recording."""
        return match_in_parts(lambda _: self, [0], sounds)

    def find_candidates(self, sounds: Sequence[Sound]) -> Candidates:
        """Where each of `sounds` may lie."""
        queries = [self._query(sound) for sound in sounds]
        return find_candidates(self._features_at, len(self.frames), queries, self.pool)

    def align(self, sounds: Sequence[Sound], found: Candidates) -> list[Match | None]:
        """The best alignment of each of `sounds` at its candidates, None for a sound that has none."""
        lags = candidate_lags(found, len(self.frames), list(map(len, sounds)), self.pool)
        return [
            self._best_match(sound, candidates) if len(candidates) else None
            for sound, candidates in zip(sounds, lags, strict=True)
        ]

    def _best_match(self, sound: Sound, lags: NDArray[np.int64]) -> Match:
        """The best alignment at one of these lags."""
        windows = windows_at(self.starts, lags, len(sound))
        likeness, copied, gains = self._compare(sound, windows)
        index, recording, best = best_piece(windows, likeness)
        begin, end = self.starts[recording : recording + 2].tolist()
        lag = int(lags[index])
        stretch = self.frames[max(begin, lag - SLACK) : min(end, lag + len(sound) + SLACK)]
        gain = gains[index][windows.owners[index] == recording][0]
        edits = edit_distance(self._costs(sound, stretch, gain))
        return Match(recording, lag - begin, best, longest_run(windows, copied), edits)

    @abstractmethod
    def _features_at(self, start: int, stop: int) -> Tensor:
        """Features `[stop - start, C]` of frames of all recordings."""

    @abstractmethod
    def _query(self, sound: Sound) -> Tensor:
        """Features `[F, C]` of a sound, the product of which with those of frames is the score."""

    @abstractmethod
    def _compare(self, sound: Sound, windows: Windows) -> tuple[NDArray[np.float64], Flags, NDArray[np.float32]]:
        """Likeness of frames, which are copied, and the sound's gain in dB, each `[K, F]`; nothing is like a gap."""

    @abstractmethod
    def _costs(self, sound: Sound, stretch: Sound, gain: np.float32) -> Costs:
        """Costs `[F, M]` of substituting frames of a stretch of M frames for those of a sound."""


class CodeIndex(Index):
    """Index of recordings' codes, searched by alignment.

    The similarity of two frames is the share of equal codes. A frame counts as copied where its first code and at least
    three quarters of all its codes are equal.
    """

    pool = 2

    def __init__(self, recordings: Sequence[NDArray[np.integer]]) -> None:
        """`recordings` are codes `[F, Q]`."""
        codes = np.concatenate(recordings).astype(np.uint16, copy=False)
        super().__init__(codes, list(map(len, recordings)))
        generator = torch.Generator().manual_seed(SIGNS_SEED)
        sizes = (codes.shape[1], int(codes.max()) + 1, SIGNS)
        self._signs = torch.randint(0, 2, sizes, generator=generator).float() * 2 - 1

    def _features_at(self, start: int, stop: int) -> Tensor:
        return self._query(self.frames[start:stop])

    def _query(self, sound: Sound) -> Tensor:
        """Random projection of codes `[F, Q]` to sums of sign vectors `[F, SIGNS]`, nearly orthogonal."""
        levels, sizes, _ = self._signs.shape
        rows = torch.from_numpy(sound.astype(np.int64)).clamp_max(sizes - 1) + sizes * torch.arange(levels)
        return nn.functional.embedding_bag(rows, self._signs.flatten(0, 1), mode="sum")

    def _compare(self, sound: Sound, windows: Windows) -> tuple[NDArray[np.float64], Flags, NDArray[np.float32]]:
        equal = (self.frames[windows.frames] == sound.astype(np.uint16)) & (windows.owners >= 0)[..., None]
        agreement = equal.mean(axis=2)  # of [K, F, Q]
        return agreement, equal[..., 0] & (agreement >= COPIED), np.zeros(windows.frames.shape, np.float32)

    def _costs(self, sound: Sound, stretch: Sound, gain: np.float32) -> Costs:  # noqa: ARG002
        costs: Costs = (stretch != sound.astype(np.uint16)[:, None]).mean(axis=2, dtype=np.float32)
        return costs


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
