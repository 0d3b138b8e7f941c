"""Several sounds in one row, with gaps between them in which nothing is heard, so that each comes out as if alone."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor

GAP_FRAMES = 3  # as far as a convolution over frames hears; codewords and windows reach less far

T = TypeVar("T")


class Row:
    """Places of sounds of `frames` frames each, one after another in a row.

    `numbers` `[F]` holds each frame's number in its own sound, -1 in gaps.
    """

    def __init__(self, frames: Sequence[int]) -> None:
        self.frames = tuple(frames)
        self.starts = list(accumulate((count + GAP_FRAMES for count in self.frames[:-1]), initial=0))
        numbers = torch.full((self.starts[-1] + self.frames[-1],), -1)
        for start, count in zip(self.starts, self.frames, strict=True):
            numbers[start : start + count] = torch.arange(count)
        self.numbers = numbers

    def lay(self, parts: Sequence[Tensor], step: int = 1) -> Tensor:
        """What belongs to the sounds, `[n, ...]` each with n up to `step` for each frame, to `[1, F * step, ...]`."""
        row = parts[0].new_zeros(1, len(self.numbers) * step, *parts[0].shape[1:])
        for start, part in zip(self.starts, parts, strict=True):
            row[0, start * step : start * step + len(part)] = part
        return row

    def take(self, row: Tensor, step: int = 1) -> list[Tensor]:
        """The sounds' parts of `[1, F * step, ...]`, `[frames * step, ...]` each."""
        positions = zip(self.starts, self.frames, strict=True)
        return [row[0, start * step : (start + count) * step] for start, count in positions]


def gaps(numbers: Tensor) -> Tensor | None:
    """Of frame numbers `[F]` 1 inside of sounds and 0 in gaps, fp32. None where there are no gaps."""
    inside = numbers >= 0
    return None if bool(inside.all()) else inside.float()


def mask_gaps(x: Tensor, inside: Tensor | None) -> Tensor:
    """`[..., F, D]` with 0 where `inside` `[F]` is 0 and not 1; as it is where there are no gaps."""
    return x if inside is None else x * inside[:, None]


def runs(items: Iterable[tuple[int, T]], most: int) -> Iterator[list[T]]:
    """(frames, item) in order, in runs of at most `most` frames or one item."""
    run: list[T] = []
    total = 0
    for frames, item in items:
        if run and total + frames > most:
            yield run
            run, total = [], 0
        run.append(item)
        total += frames
    if run:
        yield run
