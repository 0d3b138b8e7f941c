"""Alignment of a sound with recordings at given lags, for any frame-wise similarity."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Costs = NDArray[np.float32]

SLACK = 16  # frames by which edits may shift a sound from its alignment


@dataclass(frozen=True)
class Match:
    """The best alignment of a sound with a recording.

    The sound's frame 0 lies at frame `offset` of the recording, which may be negative. `likeness`, the similarity from
    0 to 1, is the mean over the sound's frames. `copied_frames` is the longest run of matching frames in any recording.
    `edit_distance` is the number of substitutions, deletions and insertions divided by the sound's frames.
    """

    recording: int
    offset: int
    likeness: float
    copied_frames: int
    edit_distance: float


@dataclass(frozen=True, eq=False)
class Windows:
    """The frames of recordings that a sound of F frames is aligned with at K lags."""

    frames: NDArray[np.int64]  # [K, F], indices into the frames of all recordings
    owners: NDArray[np.int64]  # [K, F], recordings; -1 before the first and after the last
    pieces: NDArray[np.int64]  # [P], indices into the flattened windows at which a recording begins

    def per_piece(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Segment sums: `[K, F]` to `[P]`."""
        return np.add.reduceat(values.reshape(-1), self.pieces)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each piece, `[P]`."""
        return np.diff(self.pieces, append=self.frames.size)


def windows_at(starts: NDArray[np.int64], lags: NDArray[np.int64], frames: int) -> Windows:
    """Windows of a sound of F frames at `lags` `[K]`; recording `r` has frames `starts[r]` to `starts[r + 1]`."""
    positions = lags[:, None] + np.arange(frames)
    owners = np.searchsorted(starts, positions, side="right") - 1
    owners[(positions < 0) | (positions >= starts[-1])] = -1
    begins = np.ones(owners.shape, dtype=bool)
    begins[:, 1:] = owners[:, 1:] != owners[:, :-1]
    return Windows(positions.clip(0, starts[-1] - 1), owners, np.flatnonzero(begins))


def best_piece(windows: Windows, likeness: NDArray[np.float64]) -> tuple[int, int, float]:
    """Lag index, recording and mean likeness over F of the piece with the highest sum of `likeness` `[K, F]`."""
    sums = windows.per_piece(likeness)
    owners = windows.owners.reshape(-1)[windows.pieces]
    best = int(np.where(owners >= 0, sums, -1.0).argmax())
    count = windows.frames.shape[1]
    return int(windows.pieces[best]) // count, int(owners[best]), float(sums[best]) / count


def longest_run(windows: Windows, alike: Flags) -> int:
    """The longest run of True in `alike` `[K, F]` within one recording."""
    flat = alike.reshape(-1)
    indices = np.arange(len(flat))
    before = np.where(flat, -1, indices)  # the last mismatch
    before[windows.pieces] = np.maximum(before[windows.pieces], windows.pieces - 1)
    return int((indices - np.maximum.accumulate(before)).max())


def edit_distance(costs: Costs) -> float:
    """Approximate-matching edit distance of F frames to any substring of M frames, divided by F (Sellers 1980).

    `costs` `[F, M]` are the substitution costs, from 0 to 1. An insertion or a deletion costs 1.
    """
    count, others = costs.shape
    positions = np.arange(others + 1, dtype=np.float32)
    row = np.zeros(others + 1, dtype=np.float32)
    for index, cost in enumerate(costs, start=1):
        step = np.minimum(row[1:] + 1, row[:-1] + cost)
        # Insertions add 1 a position: a running minimum once positions are subtracted.
        row = np.minimum.accumulate(np.concatenate([[np.float32(index)], step]) - positions) + positions
    return float(row.min() / count)
