"""Nearest recording in code space: alignment by the share of equal codes."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codes.store import Codes
from distill.novelty.alignment import Match, best_piece, edit_distance, longest_run, stretch_around, windows_at
from distill.novelty.index import Index

SIGNS = 16  # dimensions of the random projection of a code in the lag search
SIGNS_SEED = 0
POOL = 2  # frames pooled in the lag search
COPIED = 0.75  # share of a frame's codes that are equal in a copied frame


class CodeIndex(Index):
    """Index of recordings' codes, searched by alignment.

    The similarity of two frames is the share of equal codes. A frame counts as copied where its first code and at least
    three quarters of all its codes are equal.
    """

    pool = POOL

    def __init__(self, recordings: Sequence[NDArray[np.integer]]) -> None:
        """`recordings` are codes `[F, Q]`."""
        super().__init__(list(map(len, recordings)))
        self.codes = np.concatenate(recordings).astype(np.uint16, copy=False)
        generator = torch.Generator().manual_seed(SIGNS_SEED)
        sizes = (self.codes.shape[1], int(self.codes.max()) + 1, SIGNS)
        self._signs = torch.randint(0, 2, sizes, generator=generator).float() * 2 - 1

    def _features_at(self, start: int, stop: int) -> Tensor:
        return self._projected(self.codes[start:stop])

    def _query(self, sound: NDArray[np.integer]) -> Tensor:
        return self._projected(sound)

    def _best_match(self, codes: Codes, lags: NDArray[np.int64]) -> Match:
        windows = windows_at(self.starts, lags, len(codes))
        query = codes.astype(np.uint16)
        equal = (self.codes[windows.frames] == query) & (windows.owners >= 0)[..., None]  # [K, F, Q]
        agreement = equal.mean(axis=2)
        index, recording, likeness = best_piece(windows, agreement)
        lag = int(lags[index])
        run = longest_run(windows, equal[..., 0] & (agreement >= COPIED))
        stretch = self.codes[stretch_around(self.starts, recording, lag, len(codes))]
        edits = edit_distance((stretch != query[:, None]).mean(axis=2, dtype=np.float32))
        return Match(recording, lag - int(self.starts[recording]), likeness, run, edits)

    def _projected(self, codes: NDArray[np.integer]) -> Tensor:
        """Random projection of codes `[F, Q]` to sums of sign vectors `[F, SIGNS]`, nearly orthogonal."""
        levels, sizes, _ = self._signs.shape
        rows = torch.from_numpy(codes.astype(np.int64)).clamp_max(sizes - 1) + sizes * torch.arange(levels)
        return nn.functional.embedding_bag(rows, self._signs.flatten(0, 1), mode="sum")
