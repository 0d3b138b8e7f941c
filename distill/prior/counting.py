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
    """How often each token occurred, `unigram` `[Q, W]`, and after which context, `[Q, W, W]`; W = V + 2.

    `previous` has the same level's token of the frame before as its context. `given` has that of `given_tokens`.
    `labelled` `[L + 1, Q, W]` are the unigrams of recordings with each label, entry 0 of those without.
    """

    unigram: Probabilities
    previous: Probabilities
    given: Probabilities
    labelled: Probabilities

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(value + getattr(other, name) for name, value in vars(self).items()))


def given_tokens(before: Tensor, frame: Tensor) -> Tensor:
    """Context `[..., Q]` of `Counts.given` for the tokens of `frame` `[..., Q]`, which follow those of `before`.

    A level is given the second level's token of its frame, which says most about a spectrum; the second level the
    first's, and the first level the second's of the frame before.
    """
    levels = frame.shape[-1]
    parts = [before[..., 1:2], frame[..., :1], frame[..., 1:2].expand(*frame.shape[:-1], max(0, levels - 2))]
    return torch.cat(parts, dim=-1) if levels > 1 else torch.zeros_like(frame)


def count(
    recordings: Sequence[Sequence[Codes]],
    codebook_size: int,
    levels: int,
    labels: Sequence[int] | None = None,
    num_labels: int = 0,
) -> Counts:
    """Count tokens of recordings, each given as its views `[F, Q]`; the views of a recording count as one together.

    `labels` are those of the recordings, from 1 on; 0, and None for all, is no label.
    """
    size = codebook_size + NUM_SPECIAL_TOKENS
    sequences = CodeSequences((codes for views in recordings for codes in views), codebook_size, levels)
    weights = np.repeat([1 / len(views) for views in recordings for _ in views], sequences.lengths)
    numbers = [0] * len(recordings) if labels is None else labels
    by_frame = np.repeat(
        [number for number, views in zip(numbers, recordings, strict=True) for _ in views], sequences.lengths
    )
    frames = torch.from_numpy(sequences.frames.astype(np.int64))
    kept = np.ones(frames.shape, dtype=bool)
    kept[sequences.starts[:-1]] = False  # BOS
    kept[sequences.starts[1:] - 1, 1:] = False  # EOS is one token
    before = frames.roll(1, dims=0)
    offsets = torch.arange(levels) * size

    def counted(contexts: Tensor, shape: tuple[int, ...]) -> Probabilities:
        rows = contexts + frames
        weight = np.broadcast_to(weights[:, None], kept.shape)[kept]
        return np.bincount(rows.numpy()[kept], weight, math.prod(shape)).astype(np.float64).reshape(shape)

    square = (levels, size, size)
    first_rows = torch.from_numpy(by_frame.astype(np.int64))[:, None] * levels
    return Counts(
        counted(offsets, (levels, size)),
        counted((offsets + before) * size, square),
        counted((offsets + given_tokens(before, frames)) * size, square),
        counted(offsets + first_rows * size, (num_labels + 1, levels, size)),
    )


@dataclass(frozen=True, eq=False)
class CountTables:
    """Logarithms of what counts say.

    `unigram` `[Q, W]` is relative to a uniform distribution, `previous` and `given` `[Q, W, W]` and `labelled`
    `[L + 1, Q, W]` to the unigrams; with no counts all are 0. The evidence of a context, `[Q, W]`, or of a label,
    `[L + 1, Q]`, is log(1 + how often it occurred). No label, entry 0, says nothing and has no evidence.
    """

    unigram: Tensor
    previous: Tensor
    given: Tensor
    previous_evidence: Tensor
    given_evidence: Tensor
    labelled: Tensor
    labelled_evidence: Tensor


def unigrams(counts: Counts) -> Probabilities:
    """Smoothed unigram probabilities `[Q, W]`."""
    size = counts.unigram.shape[1]
    totals = counts.unigram.sum(axis=1, keepdims=True)
    smoothed: Probabilities = (counts.unigram + PRIOR_COUNT / size) / (totals + PRIOR_COUNT)
    return smoothed


def count_tables(counts: Counts) -> CountTables:
    """Turn counts into tables."""
    single = unigrams(counts)

    def ratio(table: Probabilities, single: Probabilities) -> tuple[Tensor, Tensor]:
        totals = table.sum(axis=2, keepdims=True)
        probabilities = (table + TRUST * single) / (totals + TRUST)
        return _tensor(np.log(probabilities / single)), _tensor(np.log1p(totals[..., 0]))

    previous, previous_evidence = ratio(counts.previous, single[:, None])
    given, given_evidence = ratio(counts.given, single[:, None])
    labelled, labelled_evidence = ratio(counts.labelled, single)
    labelled[0], labelled_evidence[0] = 0.0, 0.0
    unigram = _tensor(np.log(single * single.shape[1]))
    return CountTables(unigram, previous, given, previous_evidence, given_evidence, labelled, labelled_evidence)


def _tensor(values: Probabilities) -> Tensor:
    return torch.from_numpy(values).float()
