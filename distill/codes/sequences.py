"""Training sequences: coded recordings between BOS and EOS frames, and the windows and batches that a prior reads.

All levels number their tokens alike: codes below V, the largest codebook size, then BOS and EOS. A level with fewer
codes leaves the numbers between its last code and V unused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from distill.audio.side_info import UNKNOWN, SideInfo
from distill.codes.store import Codes
from distill.training.distributed import WHOLE

NUM_SPECIAL_TOKENS = 2
IGNORED = -100  # target of padding: the cross-entropy's ignore_index


def bos_token(codebook_size: int) -> int:
    """BOS: the token of every level in the frame before the first."""
    return codebook_size


def eos_token(codebook_size: int) -> int:
    """EOS: the token of the first level in the frame after the last. The frame's other levels are ignored."""
    return codebook_size + 1


def possible_tokens(codebook_sizes: Sequence[int]) -> NDArray[np.bool_]:
    """Mask `[Q, V + 2]` of each level's possible tokens: its codes, and EOS at the first. BOS is never predicted."""
    size = max(codebook_sizes)
    possible: NDArray[np.bool_] = (
        np.arange(size + NUM_SPECIAL_TOKENS) < np.array(codebook_sizes)[:, None]
    )
    possible[0, eos_token(size)] = True
    return possible


def window_start(inputs: int, context_frames: int) -> int:
    """Start of the context window of the next frame in sampling, given the number of `inputs` so far.

    Up to `context_frames` the window holds all inputs; beyond, it restarts with the last half of the previous window.
    """
    step = context_frames - context_frames // 2
    return max(0, -(-(inputs - context_frames) // step)) * step


@dataclass(frozen=True, eq=False)
class CodedRecording:
    """A recording as a prior learns it: coded views `[F, Q]`, the first without augmentation.

    `label` and `fold` count from 1; 0 means no label or fold. Recordings of a fold are left out of counts together;
    near-duplicates share a fold. `path` serves reports; `side_info` serves sounds generated like the recording.
    """

    views: Sequence[Codes]
    group: str = ""  # id of its group of near-duplicates
    label: int = 0
    fold: int = 0
    path: str = ""
    side_info: SideInfo = field(default_factory=lambda: UNKNOWN)

    @property
    def codes(self) -> Codes:
        """Codes `[F, Q]` int64 of the first view."""
        return self.views[0].astype(np.int64)


class CodeSequences:
    """Sequences (BOS, codes, EOS) of recordings, assembled on reading so that the codes are not copied.

    Sequence `i` has `lengths[i]` frames with BOS and EOS; `labels[i]` and `folds[i]` are as in `CodedRecording`.
    """

    def __init__(
        self,
        recordings: Sequence[Codes],
        codebook_sizes: Sequence[int],
        labels: ArrayLike = 0,
        folds: ArrayLike = 0,
    ) -> None:
        self.codebook_size, self.num_quantizers = max(codebook_sizes), len(codebook_sizes)
        self._recordings = recordings
        self.lengths = np.array([len(codes) for codes in recordings], dtype=np.int64) + 2
        self.labels, self.folds = (
            np.broadcast_to(own, len(recordings)).astype(np.int64) for own in (labels, folds)
        )

    def read(self, sequence: int, start: int, stop: int) -> NDArray[np.int64]:
        """Read frames `start` to `stop` of a sequence, at least one: `[stop - start, Q]`."""
        count = int(self.lengths[sequence]) - 2
        first, last = max(0, start - 1), min(stop - 1, count)
        frames = np.empty((stop - start, self.num_quantizers), dtype=np.int64)
        if first < last:
            frames[first + 1 - start : last + 1 - start] = self._recordings[sequence][first:last]
        if start == 0:
            frames[0] = bos_token(self.codebook_size)
        if stop == count + 2:
            frames[-1] = eos_token(self.codebook_size)
        return frames

    def joined(self) -> NDArray[np.int64]:
        """Concatenate all sequences: `[n, Q]`."""
        none = np.zeros((0, self.num_quantizers), dtype=np.int64)
        return np.concatenate(
            [none, *(self.read(index, 0, length) for index, length in enumerate(self.lengths))]
        )

    def count_targets(self, windows: Sequence["Window"]) -> int:
        """Count the targets of windows: every code, and each EOS frame as a single target."""
        ends = sum(window.stop == int(self.lengths[window.sequence]) - 1 for window in windows)
        return sum(map(len, windows)) * self.num_quantizers - ends * (self.num_quantizers - 1)


@dataclass(frozen=True, slots=True)
class Window:
    """Frames `start` to `stop` of a sequence as inputs; the target of each is its next frame."""

    sequence: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def covering_windows(lengths: Sequence[int], context_frames: int) -> list[Window]:
    """Consecutive windows: every frame of a sequence, except the first, is a target exactly once."""
    return [
        Window(index, start, min(start + context_frames, length - 1))
        for index, length in enumerate(lengths)
        for start in range(0, length - 1, context_frames)
    ]


def random_windows(
    lengths: Sequence[int],
    counts: Sequence[int],
    context_frames: int,
    generator: np.random.Generator,
) -> list[Window]:
    """Stratified random windows, `counts[i]` of sequence `i`; starts and ends of sequences are not underrepresented."""
    windows = []
    for index, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        inputs = length - 1
        last = max(0, inputs - context_frames)  # latest possible start
        for part in range(count):
            low, high = last * part // count, last * (part + 1) // count
            start = int(generator.integers(low, high + 1))
            if generator.random() < 0.5:
                start = {count - 1: last, 0: 0}.get(part, start)
            windows.append(Window(index, start, min(start + context_frames, inputs)))
    return windows


class Batch(NamedTuple):
    """A batch of windows: `inputs` and `targets` `[B, T, Q]` int64, and `positions` `[B]` of the first inputs.

    Positions count from BOS. `labels` and `folds` `[B]` are as in `CodedRecording`; None means 0 for all. Padding is
    IGNORED in targets.
    """

    inputs: Tensor
    targets: Tensor
    positions: Tensor
    labels: Tensor | None = None
    folds: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Apply `change` to every tensor."""
        return Batch(*(None if part is None else change(part) for part in self))  # type: ignore[arg-type]


def pad_batch(
    sequences: CodeSequences,
    windows: Sequence[Window],
    rows: int | None = None,
    longest: int | None = None,
    share: slice = WHOLE,
) -> Batch:
    """Pad windows to a batch with `rows` rows (default: one per window) and `longest` positions (default: as needed).

    Padding is 0 in inputs, positions, labels and folds, and IGNORED in targets. Only the windows of a process's `share`
    are read. A process without a window gets a row of padding, because every process must take part in the step.
    """
    levels = sequences.num_quantizers
    longest = longest or max(len(window) for window in windows)
    rows = len(range(rows or len(windows))[share]) or 1
    windows = windows[share]
    inputs = np.zeros((rows, longest, levels), dtype=np.int64)
    targets = np.full((rows, longest, levels), IGNORED, dtype=np.int64)
    positions = np.zeros(rows, dtype=np.int64)
    for row, window in enumerate(windows):
        frames = sequences.read(window.sequence, window.start, window.stop + 1)
        inputs[row, : len(window)] = frames[:-1]
        targets[row, : len(window)] = frames[1:]
        if window.stop == sequences.lengths[window.sequence] - 1:
            targets[row, len(window) - 1, 1:] = IGNORED  # EOS is one target
        positions[row] = window.start

    def by_row(numbers: NDArray[np.int64]) -> Tensor:
        padded = torch.zeros(rows, dtype=torch.int64)
        padded[: len(windows)] = torch.from_numpy(numbers[[window.sequence for window in windows]])
        return padded

    labels, folds = by_row(sequences.labels), by_row(sequences.folds)
    return Batch(
        torch.from_numpy(inputs),
        torch.from_numpy(targets),
        torch.from_numpy(positions),
        labels,
        folds,
    )


def flatten_codes(codes: Tensor) -> Tensor:
    """Flattening pattern: `[B, F, Q]` to `[B, F * Q]`, frame by frame, coarse level first."""
    return codes.reshape(codes.shape[0], -1)


def unflatten_codes(tokens: Tensor, num_quantizers: int) -> Tensor:
    """Inverse of `flatten_codes`: `[B, F * Q, ...]` to `[B, F, Q, ...]`.

    Raises ValueError unless the length is a whole number of frames.
    """
    if tokens.shape[1] % num_quantizers:
        raise ValueError(f"expected a multiple of {num_quantizers} tokens, found {tokens.shape[1]}")
    return tokens.reshape(tokens.shape[0], -1, num_quantizers, *tokens.shape[2:])


def flatten_window(inputs: Tensor, targets: Tensor) -> Tensor:
    """Flattened input tokens `[B, T * Q]`: the token before each code of `targets` `[B, T, Q]`.

    Targets are the frames after `inputs` `[B, T, Q]`. The first token is the last code of the first input frame;
    IGNORED becomes 0.
    """
    return torch.cat([inputs[:, 0, -1:], flatten_codes(targets)[:, :-1]], dim=1).clamp_min(0)
