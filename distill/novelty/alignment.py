"""Exact comparison of a sound with recordings at given lags, whatever it is that frames are compared by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Numbers = NDArray[np.float32]

SLACK = 16  # frames by which edits may shift a sound against where it is aligned


@dataclass(frozen=True)
class Match:
    """The best alignment of a sound with a recording.

    The sound's frame 0 lies at frame `offset` of the recording, which may be negative. `likeness`, from 0 to 1, is the
    mean over the sound's frames; `copied_frames` is the longest run of frames that are alike, in any recording;
    `edit_distance` the share of the sound's frames to be changed, left out or put in to have a stretch of the recording.
    """

    recording: int
    offset: int
    likeness: float
    copied_frames: int
    edit_distance: float


@dataclass(frozen=True, eq=False)
class Windows:
    """The stretches of recordings that a sound of F frames lies beside at K lags."""

    frames: NDArray[np.int64]  # [K, F], numbers among all frames
    owners: NDArray[np.int64]  # [K, F], recordings; -1 before the first and after the last
    pieces: NDArray[np.int64]  # [P], in the flattened windows, where each stretch of one recording begins

    def per_piece(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over the frames of each piece: `[K, F]` to `[P]`."""
        return np.add.reduceat(values.reshape(-1), self.pieces)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each piece."""
        return np.diff(self.pieces, append=self.frames.size)


def windows_at(starts: NDArray[np.int64], lags: NDArray[np.int64], frames: int) -> Windows:
    """What lies beside a sound at these lags. Recording `r` has frames `starts[r]` to `starts[r + 1]`."""
    positions = lags[:, None] + np.arange(frames)
    owners = np.searchsorted(starts, positions, side="right") - 1
    owners[(positions < 0) | (positions >= starts[-1])] = -1
    begins = np.ones(owners.shape, dtype=bool)
    begins[:, 1:] = owners[:, 1:] != owners[:, :-1]
    return Windows(positions.clip(0, starts[-1] - 1), owners, np.flatnonzero(begins))


def stretch_around(starts: NDArray[np.int64], recording: int, lag: int, frames: int) -> slice:
    """The frames of a recording that a sound of F frames at this lag could be turned into."""
    begin, end = starts[recording : recording + 2]
    return slice(max(begin, lag - SLACK), min(end, lag + frames + SLACK))


def best_piece(windows: Windows, likeness: NDArray[np.float64]) -> tuple[int, int, float]:
    """Lag number, recording and likeness of the piece with the highest sum of `likeness` `[K, F]`, as a mean over F."""
    sums = windows.per_piece(likeness)
    owners = windows.owners.reshape(-1)[windows.pieces]
    best = int(np.where(owners >= 0, sums, -1.0).argmax())
    count = windows.frames.shape[1]
    return int(windows.pieces[best]) // count, int(owners[best]), float(sums[best]) / count


def longest_run(windows: Windows, alike: Flags) -> int:
    """The most frames in a row that are `alike` `[K, F]` and of one recording."""
    flat = alike.reshape(-1)
    numbers = np.arange(len(flat))
    before = np.where(flat, -1, numbers)  # the last frame that does not count
    before[windows.pieces] = np.maximum(before[windows.pieces], windows.pieces - 1)
    return int((numbers - np.maximum.accumulate(before)).max())


def edit_distance(costs: Numbers) -> float:
    """The least cost to turn a sound of F frames into any stretch of M frames, divided by F.

    To put `costs[i, j]` a frame for another costs from 0 to 1, to leave one out or put one in costs 1 (Sellers 1980:
    the stretch may begin and end anywhere).
    """
    count, others = costs.shape
    positions = np.arange(others + 1, dtype=np.float32)
    row = np.zeros(others + 1, dtype=np.float32)
    for number, cost in enumerate(costs, start=1):
        step = np.minimum(row[1:] + 1, row[:-1] + cost)
        # What is put in from the left adds 1 a place: a running minimum of what is left when places are taken off.
        row = np.minimum.accumulate(np.concatenate([[np.float32(number)], step]) - positions) + positions
    return float(row.min() / count)
