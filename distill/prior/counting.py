"""What counting says about the next code: statistics of the training recordings, without a network.

`CountTables` are what a prior is given, see `distill.prior.count_experts`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.codes.sequences import NUM_SPECIAL_TOKENS, CodeSequences
from distill.codes.store import Codes

TRUST = 4.0  # how often a context must have occurred to count as much as what is known without it
PRIOR_COUNT = 1.0  # of all codes together, before any was counted

Probabilities = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each token occurred, `unigram` `[Q, W]`, and after which context, both others `[Q, W, W]`; W = V + 2.

    `previous` has the same level's token of the frame before as its context. `given` has that of `given_tokens`.
    """

    unigram: Probabilities
    previous: Probabilities
    given: Probabilities

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.unigram + other.unigram, self.previous + other.previous, self.given + other.given)


def given_tokens(before: Tensor, frame: Tensor) -> Tensor:
    """Context `[..., Q]` of `Counts.given` for the tokens of `frame` `[..., Q]`, which follow those of `before`.

    A level is given the second level's token of its frame, which says most about a spectrum; the second level the
    first's, and the first level the second's of the frame before.
    """
    levels = frame.shape[-1]
    parts = [before[..., 1:2], frame[..., :1], frame[..., 1:2].expand(*frame.shape[:-1], max(0, levels - 2))]
    return torch.cat(parts, dim=-1) if levels > 1 else torch.zeros_like(frame)


def count(recordings: Sequence[Sequence[Codes]], codebook_size: int, levels: int) -> Counts:
    """Count tokens of recordings, each given as its views `[F, Q]`; the views of a recording count as one together."""
    size = codebook_size + NUM_SPECIAL_TOKENS
    sequences = CodeSequences((codes for views in recordings for codes in views), codebook_size, levels)
    weights = np.repeat([1 / len(views) for views in recordings for _ in views], sequences.lengths)
    frames = torch.from_numpy(sequences.frames.astype(np.int64))
    kept = np.ones(frames.shape, dtype=bool)
    kept[sequences.starts[:-1]] = False  # BOS
    kept[sequences.starts[1:] - 1, 1:] = False  # EOS is one token
    before = frames.roll(1, dims=0)
    offsets = torch.arange(levels) * size

    def counted(contexts: Tensor | None, shape: tuple[int, ...]) -> Probabilities:
        rows = offsets + frames if contexts is None else (offsets + contexts) * size + frames
        weight = np.broadcast_to(weights[:, None], kept.shape)[kept]
        return np.bincount(rows.numpy()[kept], weight, math.prod(shape)).astype(np.float64).reshape(shape)

    square = (levels, size, size)
    return Counts(counted(None, (levels, size)), counted(before, square), counted(given_tokens(before, frames), square))


@dataclass(frozen=True, eq=False)
class CountTables:
    """Logarithms of what counts say.

    `unigram` `[Q, W]` is relative to a uniform distribution, `previous` and `given` `[Q, W, W]` to the unigrams; with no
    counts all are 0. The evidence `[Q, W]` of a context is log(1 + how often it occurred).
    """

    unigram: Tensor
    previous: Tensor
    given: Tensor
    previous_evidence: Tensor
    given_evidence: Tensor


def unigrams(counts: Counts) -> Probabilities:
    """Smoothed unigram probabilities `[Q, W]`."""
    size = counts.unigram.shape[1]
    totals = counts.unigram.sum(axis=1, keepdims=True)
    smoothed: Probabilities = (counts.unigram + PRIOR_COUNT / size) / (totals + PRIOR_COUNT)
    return smoothed


def count_tables(counts: Counts) -> CountTables:
    """Turn counts into tables."""
    single = unigrams(counts)

    def ratio(table: Probabilities) -> tuple[Tensor, Tensor]:
        totals = table.sum(axis=2, keepdims=True)
        probabilities = (table + TRUST * single[:, None]) / (totals + TRUST)
        return _tensor(np.log(probabilities / single[:, None])), _tensor(np.log1p(totals[..., 0]))

    (previous, previous_evidence), (given, given_evidence) = ratio(counts.previous), ratio(counts.given)
    unigram = _tensor(np.log(single * single.shape[1]))
    return CountTables(unigram, previous, given, previous_evidence, given_evidence)


def _tensor(values: Probabilities) -> Tensor:
    return torch.from_numpy(values).float()
