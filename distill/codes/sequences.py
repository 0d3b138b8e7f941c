"""Training sequences: coded recordings between BOS and EOS frames, and the windows of them that a prior is given."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NUM_SPECIAL_TOKENS = 2
IGNORED = -100  # target of padding: the cross-entropy's ignore_index


def bos_token(codebook_size: int) -> int:
    """Token of every level of the frame before the first: BOS."""
    return codebook_size


def eos_token(codebook_size: int) -> int:
    """Token of the first level of the frame after the last: EOS. The other levels of that frame are ignored."""
    return codebook_size + 1


def window_start(inputs: int, context_frames: int) -> int:
    """Start of the context window of the next frame in sampling, given the number of `inputs` so far.

    Up to `context_frames` the window holds all inputs; beyond, it restarts with the last half of the window before.
    """
    step = context_frames - context_frames // 2
    return max(0, -(-(inputs - context_frames) // step)) * step


class CodeSequences:
    """Concatenated sequences BOS, codes, EOS of recordings: `frames` `[n, Q]` uint16.

    Sequence `i` has `lengths[i]` frames from `starts[i]` on, BOS and EOS included. `labels[i]` counts from 1, 0 is
    none; `labels` is None without labels. So do `folds`, which are None where no recording is left out of counts.
    """

    def __init__(
        self,
        recordings: Iterable[NDArray[np.integer]],
        codebook_size: int,
        num_quantizers: int,
        labels: Sequence[int] | None = None,
        folds: Sequence[int] | None = None,
    ) -> None:
        bos = np.full((1, num_quantizers), bos_token(codebook_size), dtype=np.uint16)
        eos = np.full((1, num_quantizers), eos_token(codebook_size), dtype=np.uint16)
        parts: list[NDArray[np.uint16]] = []
        self.lengths: list[int] = []
        for codes in recordings:
            parts += [bos, codes.astype(np.uint16, copy=False), eos]
            self.lengths.append(len(codes) + 2)
        self.frames = np.concatenate(parts) if parts else np.zeros((0, num_quantizers), dtype=np.uint16)
        self.starts = np.cumsum([0, *self.lengths])
        self.labels, self.folds = (None if own is None else np.asarray(own, dtype=np.int64) for own in (labels, folds))


@dataclass(frozen=True, slots=True)
class Window:
    """Frames `start` to `stop` of a sequence as inputs, with the next frame of each as target."""

    sequence: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def covering_windows(lengths: Sequence[int], context_frames: int) -> list[Window]:
    """Consecutive windows: every frame of a sequence but the first is a target exactly once."""
    return [
        Window(index, start, min(start + context_frames, length - 1))
        for index, length in enumerate(lengths)
        for start in range(0, length - 1, context_frames)
    ]


def window_count(length: int, context_frames: int) -> int:
    """Number of windows that cover a sequence."""
    return -(-(length - 1) // context_frames)


def random_windows(
    lengths: Sequence[int], counts: Sequence[int], context_frames: int, generator: np.random.Generator
) -> list[Window]:
    """Stratified random windows, `counts[i]` of sequence `i`; beginnings and endings keep their share."""
    windows = []
    for index, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        inputs = length - 1
        last = max(0, inputs - context_frames)  # the latest frame to start at
        for part in range(count):
            low, high = last * part // count, last * (part + 1) // count
            start = int(generator.integers(low, high + 1))
            if generator.random() < 0.5:
                start = 0 if part == 0 else last if part == count - 1 else start
            windows.append(Window(index, start, min(start + context_frames, inputs)))
    return windows


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of windows: `inputs` and `targets` `[B, T, Q]` int64, `positions` of the first inputs and `labels` `[B]`.

    Positions count from BOS. Labels are None without labels, 0 for none; so are `folds` `[B]`. Padding is IGNORED in
    targets.
    """

    inputs: Tensor
    targets: Tensor
    positions: Tensor
    labels: Tensor | None = None
    folds: Tensor | None = None

    def part(self, number: int, of: int) -> "Batch":
        """Every `of`-th window from `number` on; where there is none, one whose targets are all IGNORED."""
        if number >= len(self.positions):
            first = self.map(lambda part: part[:1])
            return replace(first, targets=torch.full_like(first.targets, IGNORED))
        return self.map(lambda part: part[number::of])

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with `change` applied to every tensor."""
        labels, folds = (None if part is None else change(part) for part in (self.labels, self.folds))
        return Batch(change(self.inputs), change(self.targets), change(self.positions), labels, folds)


def pad_batch(
    sequences: CodeSequences, windows: Sequence[Window], rows: int | None = None, longest: int | None = None
) -> Batch:
    """Pad windows to a batch of `rows` rows, by default their number, and `longest` positions, by default the longest.

    Padding is 0 in inputs, positions, labels and folds, and IGNORED in targets.
    """
    levels = sequences.frames.shape[1]
    rows = rows or len(windows)
    longest = longest or max(len(window) for window in windows)
    inputs = np.zeros((rows, longest, levels), dtype=np.int64)
    targets = np.full((rows, longest, levels), IGNORED, dtype=np.int64)
    positions = np.zeros(rows, dtype=np.int64)
    for row, window in enumerate(windows):
        first = sequences.starts[window.sequence] + window.start
        inputs[row, : len(window)] = sequences.frames[first : first + len(window)]
        targets[row, : len(window)] = sequences.frames[first + 1 : first + 1 + len(window)]
        if window.stop == sequences.lengths[window.sequence] - 1:
            targets[row, len(window) - 1, 1:] = IGNORED  # EOS is one target
        positions[row] = window.start

    def by_row(numbers: NDArray[np.int64] | None) -> Tensor | None:
        if numbers is None:
            return None
        padded = torch.zeros(rows, dtype=torch.int64)
        padded[: len(windows)] = torch.from_numpy(numbers[[window.sequence for window in windows]])
        return padded

    labels, folds = by_row(sequences.labels), by_row(sequences.folds)
    return Batch(torch.from_numpy(inputs), torch.from_numpy(targets), torch.from_numpy(positions), labels, folds)
