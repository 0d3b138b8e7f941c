"""Search for the most similar recording to a sound, and the best alignment, in any space of features.

Recordings lie end to end. Lag `p` aligns the sound's first frame with frame `p` of the recordings; it is negative if
the sound begins before the first recording. Among few frames all lags are candidates. Among more, a cross-correlation
of segments of the sound finds the candidates, because a single part may be copied.

Shapes: `F` frames of a sound, `K` lags, `S` segments of all sounds, `C` features of a frame in the cross-correlation.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SEGMENT = 32  # frames of a segment
GROUP = 8  # neighbouring lags, which are ranked by their best score
EXHAUSTIVE = 1 << 18  # maximum of frames times lags for which all lags are candidates

Sound = NDArray[Any]  # [F, ...]
Lags = NDArray[np.int64]  # [K]
Flags = NDArray[np.bool_]
Costs = NDArray[np.float32]


@dataclass(frozen=True)
class Match:
    """Best alignment of a sound with a recording.

    The sound's frame 0 lies at frame `offset` of the recording, which may be negative. `likeness` is the mean
    similarity of the sound's frames, from 0 to 1. `copied_frames` is the longest run of matching frames in any
    recording. `edit_distance` is the number of substitutions, deletions and insertions divided by the number of the
    sound's frames. `semitones` is the interval from the recording up to the sound, 0 if their notes are unclear.
    """

    recording: int
    offset: int
    likeness: float
    copied_frames: int
    edit_distance: float
    semitones: int = 0


class Windows:
    """Windows of F frames of the recordings, one for each lag `[K]`.

    Recording `r` has the frames `starts[r]` to `starts[r + 1]`. Each window is cut into pieces at the ends of
    recordings.
    """

    def __init__(self, starts: NDArray[np.int64], lags: Lags, frames: int) -> None:
        positions = lags[:, None] + np.arange(frames)
        owners = np.searchsorted(starts, positions, side="right") - 1
        owners[(positions < 0) | (positions >= starts[-1])] = -1
        begins = np.ones(owners.shape, dtype=bool)
        begins[:, 1:] = owners[:, 1:] != owners[:, :-1]
        self.frames = positions.clip(
            0, starts[-1] - 1
        )  # [K, F], indices into the frames of all recordings
        self.owners = owners  # [K, F], recordings; -1 before the first and after the last
        self.pieces = np.flatnonzero(begins)  # indices into the flattened windows
        self.lengths = np.diff(self.pieces, append=owners.size)  # frames of each piece

    def per_piece(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of values `[K, F]` over each piece."""
        return np.add.reduceat(values.reshape(-1), self.pieces)

    def best_piece(self, likeness: NDArray[np.float64]) -> tuple[int, int, float]:
        """Lag index, recording and likeness of the piece with the highest sum of `likeness` `[K, F]`."""
        sums, owners = self.per_piece(likeness), self.owners.reshape(-1)[self.pieces]
        best = int(np.where(owners >= 0, sums, -1.0).argmax())
        count = self.frames.shape[1]
        return int(self.pieces[best]) // count, int(owners[best]), float(sums[best]) / count

    def longest_run(self, alike: Flags) -> int:
        """Longest run of True in `alike` `[K, F]` within one recording."""
        indices = np.arange(alike.size)
        before = np.where(alike.reshape(-1), -1, indices)  # the last mismatch
        before[self.pieces] = np.maximum(before[self.pieces], self.pieces - 1)
        return int((indices - np.maximum.accumulate(before)).max())


def edit_distance(costs: Costs) -> float:
    """Approximate-matching edit distance of F frames to any substring of M frames, divided by F (Sellers 1980).

    `costs` `[F, M]` are the substitution costs, from 0 to 1. An insertion or a deletion costs 1.
    """
    positions = np.arange(costs.shape[1] + 1, dtype=np.float32)
    row = np.zeros(len(positions), dtype=np.float32)
    for index, cost in enumerate(costs, start=1):
        step = np.minimum(row[1:] + 1, row[:-1] + cost)
        # Insertions add 1 a position: a running minimum once positions are subtracted.
        row = (
            np.minimum.accumulate(np.concatenate([[np.float32(index)], step]) - positions)
            + positions
        )
    return float(row.min() / len(costs))


class Index(ABC):
    """Recordings, end to end, that sounds are aligned with: a space of features."""

    pool: ClassVar[int]  # frames pooled in the cross-correlation, a divisor of GROUP

    def __init__(self, frames: Sound, lengths: Sequence[int]) -> None:
        """Index `frames` `[F, ...]` of recordings, end to end, which have `lengths` frames."""
        self.frames = frames
        self.starts: NDArray[np.int64] = np.cumsum([0, *lengths])

    def match(self, sounds: Sequence[Sound]) -> list[Match]:
        """Best alignment of each sound with a recording; the first of several equals."""
        lags = self.candidate_lags(sounds)
        return [
            self._best_match(sound, candidates)
            for sound, candidates in zip(sounds, lags, strict=True)
        ]

    def candidate_lags(self, sounds: Sequence[Sound]) -> list[Lags]:
        """Candidate lags of each sound, ascending and unique."""
        count = len(self.frames)
        candidates: list[list[Lags]] = [[] for _ in sounds]
        segments: list[tuple[int, int]] = []  # sound, first frame in it
        features: list[Tensor] = []
        for number, sound in enumerate(sounds):
            if len(sound) * (count + len(sound)) <= EXHAUSTIVE:
                candidates[number].append(np.arange(1 - len(sound), count))
                continue
            query = self._query(sound)
            for start in range(0, len(sound), SEGMENT):
                segments.append((number, start))
                features.append(
                    self._pooled(query[start : start + SEGMENT], SEGMENT // self.pool).flatten()
                )
        groups: Iterable[Lags] = self._best_groups(torch.stack(features, dim=1)) if segments else []
        for (number, start), first in zip(segments, groups, strict=True):
            length = min(SEGMENT, len(sounds[number]) - start)
            overlapping = first[first + GROUP - 1 + length > 0]
            candidates[number].append(
                (overlapping[:, None] + np.arange(1 - self.pool, GROUP) - start).flatten()
            )
        lags = [np.unique(np.concatenate(parts)) for parts in candidates]
        return [
            own[(own > -len(sound)) & (own < count)]
            for own, sound in zip(lags, sounds, strict=True)
        ]

    def _best_groups(
        self, segments: Tensor, count: int = 8, windows_at_once: int = 1 << 13
    ) -> NDArray[np.int64]:
        """First frames `[S, n]` of the best-correlated groups of lags of segments `[SEGMENT / pool * C, S]`.

        Features of the recordings are computed window by window, to save memory.
        """
        total, width, per_group = len(self.frames), SEGMENT // self.pool, GROUP // self.pool
        best = torch.empty(segments.shape[1], 0)
        where = torch.empty(segments.shape[1], 0, dtype=torch.int64)
        # The first window ends with the first frame, the last begins with the last one.
        for first in range(self.pool - SEGMENT, total, windows_at_once * self.pool):
            lags = -(-min(windows_at_once * self.pool, total - first) // GROUP) * per_group
            stop = min(total, max(0, first + (lags + width - 1) * self.pool))
            piece = nn.functional.pad(
                self._features_at(max(0, first), stop), (0, 0, max(0, -first), 0)
            )
            windows = (
                self._pooled(piece, lags + width - 1)
                .unfold(0, width, 1)
                .transpose(1, 2)
                .reshape(lags, -1)
            )
            scores = (
                (windows @ segments).view(lags // per_group, per_group, -1).amax(dim=1).T
            )  # [S, groups]
            top = scores.topk(min(count, scores.shape[1]), dim=1)
            best = torch.cat([best, top.values], dim=1)
            where = torch.cat([where, top.indices * GROUP + first], dim=1)
            best, kept = best.topk(min(count, best.shape[1]), dim=1)
            where = where.gather(1, kept)
        return where.numpy()

    def _pooled(self, frames: Tensor, count: int) -> Tensor:
        """Sum pooling with zero padding: `[F, C]` to `[count, C]`."""
        padded = nn.functional.pad(frames, (0, 0, 0, count * self.pool - len(frames)))
        return padded.view(count, self.pool, -1).sum(dim=1)

    def _best_match(self, sound: Sound, lags: Lags) -> Match:
        """Best alignment at one of these lags."""
        windows = Windows(self.starts, lags, len(sound))
        likeness, copied, gains = self._compare(sound, windows)
        index, recording, best = windows.best_piece(likeness)
        begin, end = self.starts[recording : recording + 2].tolist()
        lag, slack = int(lags[index]), 16  # frames: edits may shift the alignment this far
        stretch = self.frames[max(begin, lag - slack) : min(end, lag + len(sound) + slack)]
        gain = gains[index][windows.owners[index] == recording][0]
        edits = edit_distance(self._costs(sound, stretch, gain))
        return Match(recording, lag - begin, best, windows.longest_run(copied), edits)

    @abstractmethod
    def _features_at(self, start: int, stop: int) -> Tensor:
        """Features `[stop - start, C]` of frames of all recordings."""

    @abstractmethod
    def _query(self, sound: Sound) -> Tensor:
        """Features `[F, C]` of a sound; the score is their product with the features of the recordings."""

    @abstractmethod
    def _compare(
        self, sound: Sound, windows: Windows
    ) -> tuple[NDArray[np.float64], Flags, NDArray[np.float32]]:
        """Likeness of frames (0 outside the recordings), copied frames, and the sound's gain in dB, each `[K, F]`."""

    @abstractmethod
    def _costs(self, sound: Sound, stretch: Sound, gain: np.float32) -> Costs:
        """Costs `[F, M]` of substituting each of M frames of a recording for each frame of a sound."""


class CodeIndex(Index):
    """Index of recordings' codes.

    The similarity of two frames is the proportion of equal codes. A frame counts as copied if its first code and at
    least three quarters of all its codes are equal.
    """

    pool = 2

    def __init__(self, recordings: Sequence[NDArray[np.integer]]) -> None:
        """`recordings` are codes `[F, Q]`."""
        codes = np.concatenate(recordings).astype(np.uint16, copy=False)
        super().__init__(codes, list(map(len, recordings)))
        generator = torch.Generator().manual_seed(0)
        sizes = (
            codes.shape[1],
            int(codes.max()) + 1,
            16,
        )  # levels, codewords, projected dimensions
        self._signs = torch.randint(0, 2, sizes, generator=generator).float() * 2 - 1

    def _features_at(self, start: int, stop: int) -> Tensor:
        return self._query(self.frames[start:stop])

    def _query(self, sound: Sound) -> Tensor:
        """Random projection of codes `[F, Q]` to sums of sign vectors `[F, 16]`, nearly orthogonal."""
        levels, sizes, _ = self._signs.shape
        rows = torch.from_numpy(sound.astype(np.int64)).clamp_max(sizes - 1) + sizes * torch.arange(
            levels
        )
        return nn.functional.embedding_bag(rows, self._signs.flatten(0, 1), mode="sum")

    def _compare(
        self, sound: Sound, windows: Windows
    ) -> tuple[NDArray[np.float64], Flags, NDArray[np.float32]]:
        equal = (self.frames[windows.frames] == sound.astype(np.uint16)) & (windows.owners >= 0)[
            ..., None
        ]
        agreement = (
            np.einsum("kfq->kf", equal.view(np.uint8)) / equal.shape[2]
        )  # a fifth of the time of a mean
        return (
            agreement,
            equal[..., 0] & (agreement >= 0.75),
            np.zeros(windows.frames.shape, np.float32),
        )

    def _costs(self, sound: Sound, stretch: Sound, gain: np.float32) -> Costs:  # noqa: ARG002
        costs: Costs = (stretch != sound.astype(np.uint16)[:, None]).mean(axis=2, dtype=np.float32)
        return costs
