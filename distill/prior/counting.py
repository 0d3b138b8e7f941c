"""What counting says about the next code: statistics of the training recordings, without a network.

`CountTables` are what a prior is given, see `distill.prior.count_experts`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.codes.sequences import NUM_SPECIAL_TOKENS, CodeSequences
from distill.codes.store import Codes, frame_counts
from distill.prior.constants import PRIOR_COUNT, TRUST

COUNTED_FRAMES = 1 << 15  # of views, about, that are in memory at once

Probabilities = NDArray[np.float64]
Labelled = tuple[Sequence[Codes], int]  # views of a recording, and its label


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


def given_tokens(before: Tensor, frame: Tensor, levels: slice = slice(None)) -> Tensor:
    """Context `[..., L]` of `Counts.given` for L levels of `frame` `[..., Q]`, which follows `before` `[..., Q]`.

    A level is given the second level's token of its frame, which says most about a spectrum; the second level the
    first's, and the first level the second's of the frame before. Of `frame` no more is read.
    """
    count = before.shape[-1]
    if count == 1:
        return torch.zeros_like(before)
    if levels.stop is not None and levels.stop - levels.start == 1:
        level = levels.start
        return before[..., 1:2] if level == 0 else frame[..., min(level - 1, 1), None]
    parts = (before[..., 1] if level == 0 else frame[..., min(level - 1, 1)] for level in range(*levels.indices(count)))
    return torch.stack(list(parts), dim=-1)


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
    square = (levels, size, size)
    counts = Counts(*map(np.zeros, ((levels, size), square, square, (num_labels + 1, levels, size))))
    numbers = [0] * len(recordings) if labels is None else labels
    batch: list[Labelled] = []
    frames = 0
    for views, label in zip(recordings, numbers, strict=True):
        batch.append((views, label))
        frames += int(frame_counts(views).sum())
        if frames >= COUNTED_FRAMES:
            _add_counts(counts, batch, codebook_size)
            batch, frames = [], 0
    if batch:
        _add_counts(counts, batch, codebook_size)
    return counts


def _add_counts(counts: Counts, recordings: Sequence[Labelled], codebook_size: int) -> None:
    """Add the tokens of recordings to `counts`, one after another: floats are added in the order of recordings."""
    levels, size = counts.unigram.shape
    sequences = CodeSequences([codes for views, _ in recordings for codes in views], codebook_size, levels)
    num_views = [len(views) for views, _ in recordings]
    weights, by_frame = (
        np.repeat(np.repeat(values, num_views), sequences.lengths)
        for values in ([1 / count for count in num_views], [label for _, label in recordings])
    )
    frames = torch.from_numpy(sequences.joined())
    ends = np.cumsum(sequences.lengths)
    kept = np.ones(frames.shape, dtype=bool)
    kept[ends - sequences.lengths] = False  # BOS
    kept[ends - 1, 1:] = False  # EOS is one token
    before = frames.roll(1, dims=0)
    offsets = torch.arange(levels) * size
    weight = np.broadcast_to(weights[:, None], kept.shape)[kept]

    def add(table: Probabilities, contexts: Tensor) -> None:
        np.add.at(table.reshape(-1), (contexts + frames).numpy()[kept], weight)

    first_rows = torch.from_numpy(by_frame.astype(np.int64))[:, None] * levels
    add(counts.unigram, offsets)
    add(counts.previous, (offsets + before) * size)
    add(counts.given, (offsets + given_tokens(before, frames)) * size)
    add(counts.labelled, offsets + first_rows * size)


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
