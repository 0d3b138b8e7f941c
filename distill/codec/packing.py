"""Several sounds packed into one row, with gaps between them so that each is coded as if alone."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor

GAP_FRAMES = 3  # receptive field to one side of a convolution over frames; codewords and windows reach less far

T = TypeVar("T")


class PackedRow:
    """Layout of sounds of `frames` frames each, one after another in a row of F frames.

    `positions` `[F]` holds each frame's position in its own sound, -1 in gaps.
    """

    def __init__(self, frames: Sequence[int]) -> None:
        self.frames = tuple(frames)
        self.starts = list(accumulate((count + GAP_FRAMES for count in self.frames[:-1]), initial=0))
        positions = torch.full((self.starts[-1] + self.frames[-1],), -1)
        for start, count in zip(self.starts, self.frames, strict=True):
            positions[start : start + count] = torch.arange(count)
        self.positions = positions

    def pack(self, parts: Sequence[Tensor], step: int = 1) -> Tensor:
        """Pack one tensor a sound, `[n, ...]` with n up to `step` for each frame, to `[1, F * step, ...]`."""
        row = parts[0].new_zeros(1, len(self.positions) * step, *parts[0].shape[1:])
        for start, part in zip(self.starts, parts, strict=True):
            row[0, start * step : start * step + len(part)] = part
        return row

    def unpack(self, row: Tensor, step: int = 1) -> list[Tensor]:
        """Split `[1, F * step, ...]` into the sounds' parts, `[frames * step, ...]` each."""
        spans = zip(self.starts, self.frames, strict=True)
        return [row[0, start * step : (start + count) * step] for start, count in spans]


def inside_mask(positions: Tensor) -> Tensor | None:
    """Mask of frame positions `[F]`, fp32: 1 inside of sounds and 0 in gaps. None where there are no gaps."""
    inside = positions >= 0
    return None if bool(inside.all()) else inside.float()


def mask_gaps(x: Tensor, inside: Tensor | None) -> Tensor:
    """`[..., F, D]` times the mask `inside` `[F]`; unchanged where it is None."""
    return x if inside is None else x * inside[:, None]


def runs(items: Iterable[tuple[int, T]], most: int) -> Iterator[list[T]]:
    """Group the items of (frames, item) pairs, in order, into runs of at most `most` frames or one item."""
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
