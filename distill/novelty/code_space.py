"""Codes that stand in recordings already."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codes.store import Codes
from distill.novelty.alignment import Match, best_piece, edit_distance, longest_run, stretch_around, windows_at
from distill.novelty.lag_search import likely_lags

SIGNS = 16  # that stand for a code where places are looked for
SIGNS_SEED = 0
POOL = 2  # frames that places are looked for by together
COPIED = 0.75  # share of a frame's codes that must be the same


class CodeIndex:
    """Codes of recordings, to be searched by alignment.

    Frames are as like as the share of their codes that are the same. A frame counts as copied where its first code and at
    least three quarters of all are.
    """

    def __init__(self, recordings: Sequence[NDArray[np.integer]]) -> None:
        """`recordings` are codes `[F, Q]`."""
        self.codes = np.concatenate(recordings).astype(np.uint16, copy=False)
        self.starts = np.cumsum([0, *map(len, recordings)])
        generator = torch.Generator().manual_seed(SIGNS_SEED)
        sizes = (self.codes.shape[1], int(self.codes.max()) + 1, SIGNS)
        self._signs = torch.randint(0, 2, sizes, generator=generator).float() * 2 - 1
        self._known = self._signed(self.codes)

    def match(self, sounds: Sequence[Codes]) -> list[Match]:
        """The best alignment of each of `sounds` `[F, Q]` with a recording."""
        asked = [self._signed(codes) for codes in sounds]
        lags = likely_lags(self._known, asked, POOL)
        return [self._aligned(codes, some.numpy()) for codes, some in zip(sounds, lags, strict=True)]

    def _aligned(self, codes: Codes, lags: NDArray[np.int64]) -> Match:
        windows = windows_at(self.starts, lags, len(codes))
        sought = codes.astype(np.uint16)
        equal = (self.codes[windows.frames] == sought) & (windows.owners >= 0)[..., None]  # [K, F, Q]
        agreement = equal.mean(axis=2)
        number, recording, likeness = best_piece(windows, agreement)
        lag = int(lags[number])
        run = longest_run(windows, equal[..., 0] & (agreement >= COPIED))
        stretch = self.codes[stretch_around(self.starts, recording, lag, len(codes))]
        edits = edit_distance((stretch != sought[:, None]).mean(axis=2, dtype=np.float32))
        return Match(recording, lag - int(self.starts[recording]), likeness, run, edits)

    def _signed(self, codes: NDArray[np.integer]) -> Tensor:
        """Codes `[F, Q]` as sums of random signs `[F, SIGNS]`: those of different codes are nearly orthogonal."""
        levels, sizes, _ = self._signs.shape
        numbers = torch.from_numpy(codes.astype(np.int64)).clamp_max(sizes - 1) + sizes * torch.arange(levels)
        return nn.functional.embedding_bag(numbers, self._signs.flatten(0, 1), mode="sum")
