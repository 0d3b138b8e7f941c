"""Token counts of the training recordings, and the experts that add them to a prior's logits."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codec.layout import ATOM, NOTE, SHAPE
from distill.codes.sequences import (
    NUM_SPECIAL_TOKENS,
    CodedRecording,
    CodeSequences,
    possible_tokens,
)
from distill.seeds import Stream, derive_seed
from distill.storage.files import sha256_text

TRUST = 4.0  # occurrences at which a context weighs the same as the unigrams
PRIOR_COUNT = 1.0  # pseudo-count of all codes together
COUNTED_FRAMES = 1 << 15  # frames of all views in memory at once, roughly

Probabilities = NDArray[np.float64]


class Counts(NamedTuple):
    """Token counts: `unigram` `[Q, W]`, and by context `previous` and `given` `[Q, W, W]` (context, token); W = V + 2.

    The context of `previous` is the same level's token in the previous frame; the context of `given` comes from
    `given_tokens`. `labelled` `[L + 1, Q, W]` holds the unigrams of each label; entry 0 is unlabelled recordings.
    """

    unigram: Probabilities
    previous: Probabilities
    given: Probabilities
    labelled: Probabilities


def given_tokens(before: Tensor, frame: Tensor, levels: slice = slice(None)) -> Tensor:
    """Context of `Counts.given` for `levels` of `frame` `[..., Q]`, which follows `before` `[..., Q]`: `[..., L]`.

    The context is the token of another level. Loudness: the first spectral level of the previous frame. Note: the
    loudness. Fine pitch and partial-set code: the note. First spectral level: the partial-set code. All finer levels:
    the first spectral level. Nothing else in `frame` is read. For finer levels alone the result is `[..., 1]`.
    """
    if levels.start and levels.start > SHAPE:
        return frame[..., SHAPE : SHAPE + 1]
    finer = before.shape[-1] - SHAPE - 1
    sources = [
        (before, SHAPE),
        (frame, 0),
        (frame, NOTE),
        (frame, NOTE),
        (frame, ATOM),
        *[(frame, SHAPE)] * finer,
    ]
    return torch.stack([tokens[..., level] for tokens, level in sources[levels]], dim=-1)


def count(
    recordings: Sequence[CodedRecording], codebook_sizes: Sequence[int], num_labels: int = 0
) -> Counts:
    """Count the tokens of recordings with labels up to `num_labels`; each of a recording's n views weighs 1 / n.

    Floats are added in the order of the recordings, a part at a time to bound memory.
    """
    levels, size = len(codebook_sizes), max(codebook_sizes) + NUM_SPECIAL_TOKENS
    square, offsets = (levels, size, size), torch.arange(levels) * size
    counts = Counts(
        *map(np.zeros, ((levels, size), square, square, (num_labels + 1, levels, size)))
    )
    first = frames = 0
    for stop, recording in enumerate(recordings, start=1):
        frames += sum(map(len, recording.views))
        if frames < COUNTED_FRAMES and stop < len(recordings):
            continue
        part = recordings[first:stop]
        sequences = CodeSequences(
            [codes for recording in part for codes in recording.views], codebook_sizes
        )
        tokens, ends = torch.from_numpy(sequences.joined()), np.cumsum(sequences.lengths)
        kept = np.ones(tokens.shape, dtype=bool)
        kept[ends - sequences.lengths] = False  # BOS
        kept[ends - 1, 1:] = False  # EOS is one token
        views = [len(recording.views) for recording in part]
        own_label, weight = (
            np.broadcast_to(
                np.repeat(np.repeat(values, views), sequences.lengths)[:, None], kept.shape
            )
            for values in ([recording.label for recording in part], 1 / np.array(views))
        )
        before = tokens.roll(1, dims=0)
        for table, contexts in (
            (counts.unigram, offsets),
            (counts.previous, (offsets + before) * size),
            (counts.given, (offsets + given_tokens(before, tokens)) * size),
            (counts.labelled, offsets + torch.tensor(own_label) * levels * size),
        ):
            np.add.at(table.reshape(-1), (contexts + tokens).numpy()[kept], weight[kept])
        first, frames = stop, 0
    return counts


class CountTables(NamedTuple):
    """Log ratios of smoothed counted probabilities; all 0 without counts.

    `unigram` `[Q, W]` is relative to a uniform distribution over the level's possible tokens; `previous` and `given`
    `[Q, W, W]` and `labelled` `[L + 1, Q, W]` are relative to the unigrams. The evidence of a context `[Q, W]` or a
    label `[L + 1, Q]` is log(1 + its count). Entry 0, no label, is 0 in both label tables.
    """

    unigram: Tensor
    previous: Tensor
    given: Tensor
    previous_evidence: Tensor
    given_evidence: Tensor
    labelled: Tensor
    labelled_evidence: Tensor


def unigrams(counts: Counts, codebook_sizes: Sequence[int]) -> Probabilities:
    """Smoothed unigram probabilities `[Q, W]`; they sum to 1 over the possible tokens of a level."""
    totals, uniform = counts.unigram.sum(axis=1, keepdims=True), 1 / _num_possible(codebook_sizes)
    smoothed: Probabilities = (counts.unigram + PRIOR_COUNT * uniform) / (totals + PRIOR_COUNT)
    return smoothed


def _num_possible(codebook_sizes: Sequence[int]) -> Probabilities:
    """Number of possible tokens of each level, `[Q, 1]`."""
    number: Probabilities = (
        possible_tokens(codebook_sizes).sum(axis=1, keepdims=True).astype(np.float64)
    )
    return number


def count_tables(counts: Counts, codebook_sizes: Sequence[int]) -> CountTables:
    """Turn counts into tables. Entries of a level's impossible tokens are finite and meaningless."""
    single = unigrams(counts, codebook_sizes)

    def ratio(table: Probabilities, single: Probabilities) -> list[Tensor]:
        totals = table.sum(axis=2, keepdims=True)
        ratios = np.log((table + TRUST * single) / (totals + TRUST) / single)
        return [torch.from_numpy(values).float() for values in (ratios, np.log1p(totals[..., 0]))]

    previous, previous_evidence = ratio(counts.previous, single[:, None])
    given, given_evidence = ratio(counts.given, single[:, None])
    labelled, labelled_evidence = ratio(counts.labelled, single)
    labelled[0], labelled_evidence[0] = 0.0, 0.0
    unigram = torch.from_numpy(np.log(single * _num_possible(codebook_sizes))).float()
    return CountTables(
        unigram, previous, given, previous_evidence, given_evidence, labelled, labelled_evidence
    )


def count_folds(groups: Iterable[str], seed: int) -> dict[str, int]:
    """Assign each group of near-duplicates to one of 8 folds, numbered from 1."""

    def order(group: str) -> int:
        return derive_seed(seed, Stream.COUNT_FOLDS, int(sha256_text(group)[:15], 16))

    return {group: 1 + index % 8 for index, group in enumerate(sorted(set(groups), key=order))}


def fold_tables(
    recordings: Sequence[CodedRecording], codebook_sizes: Sequence[int], num_labels: int = 0
) -> list[CountTables]:
    """Tables of all recordings, followed by the tables that leave out each fold."""
    parts = []
    for fold in range(1, max(recording.fold for recording in recordings) + 1):
        own = [recording for recording in recordings if recording.fold == fold]
        parts.append(count(own, codebook_sizes, num_labels))
    whole = Counts(*map(sum, zip(*parts, strict=True)))  # type: ignore[arg-type]
    rest = [
        Counts(*(np.maximum(0.0, every - own) for every, own in zip(whole, part, strict=True)))
        for part in parts
    ]
    return [count_tables(counts, codebook_sizes) for counts in (whole, *rest)]


class ChosenTables(NamedTuple):
    """Count tables of each sequence of a batch, by its fold and label; B is 1 where all sequences share them.

    `previous` and `given` `[rows, W]`, with their evidence `[rows]`, stack all folds and levels; `offsets` is the
    first row of a sequence's fold and level. The lists for labels hold one tensor, or none without labels.
    """

    offsets: Tensor  # [B, 1, Q]
    unigram: Tensor  # [B, 1, Q, W]
    previous: Tensor
    previous_evidence: Tensor
    given: Tensor
    given_evidence: Tensor
    labelled: list[Tensor]  # [B, 1, Q, W]
    labelled_evidence: list[Tensor]  # [B, 1, Q]

    def rows(self, rows: Tensor) -> "ChosenTables":
        """Tables of the sequences with these indices; all must have the same fold."""
        labelled, evidence = (
            [part[rows] if len(part) > 1 else part for part in parts] for parts in self[-2:]
        )
        return self._replace(labelled=labelled, labelled_evidence=evidence)


class CountExperts(nn.Module):
    """Adds weighted logarithms of counted probabilities to a network's logits.

    A product of experts, as in context mixing: the network need only learn what the counts miss. A weight is the sum
    of a bias per level, a coefficient times the evidence of the context, and a linear function of the hidden state.
    The tables count all training recordings. In training, counts of a recording must not predict the recording itself,
    so `set_tables` also takes tables that leave out its fold.
    """

    unigram: Tensor
    given: Tensor
    labelled: Tensor  # only with labels

    def __init__(self, codebook_sizes: Sequence[int], width: int, num_labels: int = 0) -> None:
        super().__init__()
        levels, size = len(codebook_sizes), max(codebook_sizes) + NUM_SPECIAL_TOKENS
        self.levels, self.size = levels, size
        shapes = [
            (levels, size),
            (levels, size, size),
            (levels, size, size),
            (levels, size),
            (levels, size),
        ]
        if num_labels:
            shapes += [(num_labels + 1, levels, size), (num_labels + 1, levels)]
        self.tables = CountTables._fields[: len(shapes)]
        experts = 3 + (num_labels > 0)  # unigram, previous, given, labelled
        self.weight = nn.Parameter(torch.full((levels, experts), 0.4))
        self.evidence = nn.Parameter(torch.zeros(levels, experts - 1))
        self.gate = nn.Linear(width, experts)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        for name, shape in zip(self.tables, shapes, strict=True):
            self.register_buffer(name, torch.zeros(shape))
        self._folds: list[Tensor] = []  # each table stacked: all recordings, then without each fold

    def set_tables(self, tables: Sequence[CountTables]) -> None:
        """Set the tables of all training recordings and, optionally, the tables that leave out each fold.

        The number of labels may differ from before.
        """
        for name in self.tables:
            setattr(self, name, getattr(tables[0], name).to(self.weight.device))
        folds = [torch.stack([getattr(fold, name) for fold in tables]) for name in self.tables]
        self._folds = folds if len(tables) > 1 else []

    def choose(self, labels: Tensor | None = None, folds: Tensor | None = None) -> ChosenTables:
        """Choose the tables of a batch from `labels` `[B]` (0: no label) and `folds` `[B]` (0: all recordings).

        None means 0 for every sequence.
        """
        device = self.weight.device
        if folds is None or not self._folds:
            rows = torch.zeros(1, dtype=torch.int64, device=device)
            tables = [getattr(self, name)[None] for name in self.tables]
        else:
            self._folds = [table.to(device) for table in self._folds]
            rows, tables = folds, self._folds
        unigram, previous, given, previous_evidence, given_evidence, *labelled = tables
        count = self.levels * self.size
        offsets = rows[:, None, None] * count + torch.arange(0, count, self.size, device=device)
        of_labels = [
            table[rows, torch.zeros_like(rows) if labels is None else labels][:, None]
            for table in labelled
        ]
        return ChosenTables(
            offsets,
            unigram[rows][:, None],
            previous.view(-1, self.size),
            previous_evidence.flatten(),
            given.view(-1, self.size),
            given_evidence.flatten(),
            of_labels[:1],
            of_labels[1:],
        )

    def forward(
        self, logits: Tensor, hidden: Tensor, tables: ChosenTables, before: Tensor, codes: Tensor
    ) -> Tensor:
        """Add the experts to the logits `[B, T, Q, W]` of `codes` `[B, T, Q]`, given the previous frames `before`.

        A level depends only on coarser levels of `codes`. `before` is `[B, T, Q]`, or `[B, 1, Q]` for T candidates of
        one frame. `hidden` is `[B, T, Q, D]`.
        """
        before = before.expand(-1, codes.shape[1], -1)
        logs, weights = self.look_up(tables, before, codes)
        weights = self.weight + self.gate(hidden).float() + nn.functional.pad(weights, (1, 0))
        return self.add(logits, weights, [tables.unigram, *logs])

    def look_up(
        self, tables: ChosenTables, before: Tensor, codes: Tensor, levels: slice = slice(None)
    ) -> tuple[list[Tensor], Tensor]:
        """Log ratios `[B, T, L, W]` of each expert except the unigrams, and the part of their weights due to evidence.

        `codes` `[B, T, Q]` follow `before` `[B, T, Q]`; only the levels that `given_tokens` reads need to be known.
        """
        offsets = tables.offsets[..., levels]
        previous, other = (
            offsets + before[..., levels],
            offsets + given_tokens(before, codes, levels).clamp_min(0),
        )
        evidence = [tables.previous_evidence[previous], tables.given_evidence[other]]
        evidence += [part[..., levels].expand_as(evidence[0]) for part in tables.labelled_evidence]
        logs = [
            nn.functional.embedding(previous, tables.previous),
            nn.functional.embedding(other, tables.given),
        ]
        logs += [part[:, :, levels] for part in tables.labelled]
        return logs, torch.stack(evidence, dim=-1) * self.evidence[levels]

    @staticmethod
    def add(logits: Tensor, weights: Tensor, logs: Sequence[Tensor]) -> Tensor:
        """Add the log ratios `[..., W]` of each expert, times `weights` `[..., experts]`, to the logits `[..., W]`."""
        for expert, log in enumerate(logs):
            logits = torch.addcmul(logits, weights[..., expert : expert + 1], log)
        return logits
