"""Search for the recording that a sound is most like, and the best alignment with it, in any space of features.

Recordings lie end to end. At lag `p` the sound's first frame is aligned with their frame `p`, which is negative where the sound
begins before the first of them. Among few frames all lags are tried. Among more, a cross-correlation of segments of the
sounds finds the candidates: a part of a sound may be copied alone.

Shapes: `F` frames of a sound, `K` lags, `S` segments of all sounds, `C` features of a frame in the cross-correlation.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SEGMENT = 32  # frames of a segment
GROUP = 8  # neighbouring lags, whose best score counts
EXHAUSTIVE = 1 << 18  # frames times lags: below it all lags are candidates

Sound = NDArray[Any]  # [F, ...]
Lags = NDArray[np.int64]  # [K]
Flags = NDArray[np.bool_]
Costs = NDArray[np.float32]


@dataclass(frozen=True)
class Match:
    """The best alignment of a sound with a recording.

    The sound's frame 0 lies at frame `offset` of the recording, which may be negative. `likeness`, the similarity from
    0 to 1, is the mean over the sound's frames. `copied_frames` is the longest run of matching frames in any recording.
    `edit_distance` is the number of substitutions, deletions and insertions divided by the sound's frames. `semitones` is
    how much higher the sound is than the recording, 0 where notes do not tell.
    """

    recording: int
    offset: int
    likeness: float
    copied_frames: int
    edit_distance: float
    semitones: int = 0


class Windows:
    """The frames of recordings that a sound of F frames is aligned with at lags `[K]`.

    Recording `r` has the frames `starts[r]` to `starts[r + 1]`. A window is cut into pieces, one a recording.
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
        """Sums over the pieces of values `[K, F]`."""
        return np.add.reduceat(values.reshape(-1), self.pieces)

    def best_piece(self, likeness: NDArray[np.float64]) -> tuple[int, int, float]:
        """Lag index, recording and mean likeness over F of the piece with the highest sum of `likeness` `[K, F]`."""
        sums, owners = self.per_piece(likeness), self.owners.reshape(-1)[self.pieces]
        best = int(np.where(owners >= 0, sums, -1.0).argmax())
        count = self.frames.shape[1]
        return int(self.pieces[best]) // count, int(owners[best]), float(sums[best]) / count

    def longest_run(self, alike: Flags) -> int:
        """The longest run of True in `alike` `[K, F]` within one recording."""
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
    """Recordings, end to end, that sounds are aligned with."""

    pool: ClassVar[int]  # frames pooled in the cross-correlation, a divisor of GROUP

    def __init__(self, frames: Sound, lengths: Sequence[int]) -> None:
        """Index `frames` `[F, ...]` of recordings, end to end, which have `lengths` frames."""
        self.frames = frames
        self.starts: NDArray[np.int64] = np.cumsum([0, *lengths])

    def match(self, sounds: Sequence[Sound]) -> list[Match]:
        """The best alignment of each of `sounds` with a recording; of equals the first."""
        lags = self.candidate_lags(sounds)
        return [
            self._best_match(sound, candidates)
            for sound, candidates in zip(sounds, lags, strict=True)
        ]

    def candidate_lags(self, sounds: Sequence[Sound]) -> list[Lags]:
        """The lags at which each of `sounds` is tried, ascending and unique."""
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
        groups = (
            self._best_groups(torch.stack(features, dim=1))
            if segments
            else np.empty((0, 0), np.int64)
        )
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
        self, segments: Tensor, most: int = 8, windows_at_once: int = 1 << 13
    ) -> NDArray[np.int64]:
        """First frames `[S, n]` of the groups of lags at which segments `[SEGMENT / pool * C, S]` correlate most.

        Features of the recordings are never held together.
        """
        total, width, per_group = len(self.frames), SEGMENT // self.pool, GROUP // self.pool
        best, where = (
            torch.empty(segments.shape[1], 0),
            torch.empty(segments.shape[1], 0, dtype=torch.int64),
        )
        # The first window ends with the first frame, the last begins with the last one.
        for first in range(self.pool - SEGMENT, total, windows_at_once * self.pool):
            count = -(-min(windows_at_once * self.pool, total - first) // GROUP) * per_group
            stop = min(total, max(0, first + (count + width - 1) * self.pool))
            piece = nn.functional.pad(
                self._features_at(max(0, first), stop), (0, 0, max(0, -first), 0)
            )
            windows = (
                self._pooled(piece, count + width - 1)
                .unfold(0, width, 1)
                .transpose(1, 2)
                .reshape(count, -1)
            )
            scores = (
                (windows @ segments).view(count // per_group, per_group, -1).amax(dim=1).T
            )  # [S, groups]
            top = scores.topk(min(most, scores.shape[1]), dim=1)
            best = torch.cat([best, top.values], dim=1)
            where = torch.cat([where, top.indices * GROUP + first], dim=1)
            best, kept = best.topk(min(most, best.shape[1]), dim=1)
            where = where.gather(1, kept)
        return where.numpy()

    def _pooled(self, frames: Tensor, count: int) -> Tensor:
        """Sum pooling with zero padding: `[F, C]` to `[count, C]`."""
        padded = nn.functional.pad(frames, (0, 0, 0, count * self.pool - len(frames)))
        return padded.view(count, self.pool, -1).sum(dim=1)

    def _best_match(self, sound: Sound, lags: Lags) -> Match:
        """The best alignment at one of these lags."""
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
        """Features `[F, C]` of a sound; their product with the features of frames is the score."""

    @abstractmethod
    def _compare(
        self, sound: Sound, windows: Windows
    ) -> tuple[NDArray[np.float64], Flags, NDArray[np.float32]]:
        """Likeness of frames, which are copied, and the sound's gain in dB, each `[K, F]`; nothing is like a gap."""

    @abstractmethod
    def _costs(self, sound: Sound, stretch: Sound, gain: np.float32) -> Costs:
        """Costs `[F, M]` of substituting frames of a stretch of M frames for frames of a sound."""


class CodeIndex(Index):
    """Index of recordings' codes.

    The similarity of two frames is the share of equal codes. A frame counts as copied where its first code and at least
    three quarters of all its codes are equal.
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
        )  # levels, codewords, dimensions of the projection
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
