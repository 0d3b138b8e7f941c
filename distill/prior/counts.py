"""Counts of the training recordings, and a prior's experts that weigh what they say of the next code."""

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

TRUST = 4.0  # occurrences of a context that weigh as much as the estimate without it
PRIOR_COUNT = 1.0  # of all codes together, before any was counted
COUNTED_FRAMES = 1 << 15  # of views, about, that are in memory at once

Probabilities = NDArray[np.float64]


class Counts(NamedTuple):
    """How often each token occurred, `unigram` `[Q, W]`, and after which context, `[Q, W, W]`; W = V + 2.

    Tokens that a level does not have never occur. `previous` has the same level's token of the frame before as its
    context. `given` has the context of `given_tokens`. `labelled` `[L + 1, Q, W]` are the unigrams of recordings with each
    label, entry 0 of those without.
    """

    unigram: Probabilities
    previous: Probabilities
    given: Probabilities
    labelled: Probabilities


def given_tokens(before: Tensor, frame: Tensor, levels: slice = slice(None)) -> Tensor:
    """Context of `Counts.given` for `levels` of `frame` `[..., Q]`, which follows `before` `[..., Q]`: `[..., L]`.

    A level is given the token of the first shape level of its frame. That is given the one before, tuning and atom are
    given the note, the note the loudness, and the loudness is given the first shape level of the frame before. Of
    `frame` no more is read. Levels after the first shape level alone are given `[..., 1]`.
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
    """Count tokens of recordings, whose labels are at most `num_labels`; the views of one count as one together.

    Floats are added in the order of the recordings; some recordings are in memory at a time.
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
    """Logarithms of what counts say.

    `unigram` `[Q, W]` is relative to a uniform distribution of the tokens that a level can have, `previous` and `given`
    `[Q, W, W]` and `labelled` `[L + 1, Q, W]` to the unigrams; with no counts all are 0. The evidence of a context,
    `[Q, W]`, or of a label, `[L + 1, Q]`, is log(1 + how often it occurred). No label, entry 0, says nothing and has no
    evidence.
    """

    unigram: Tensor
    previous: Tensor
    given: Tensor
    previous_evidence: Tensor
    given_evidence: Tensor
    labelled: Tensor
    labelled_evidence: Tensor


def unigrams(counts: Counts, codebook_sizes: Sequence[int]) -> Probabilities:
    """Smoothed unigram probabilities `[Q, W]`; they sum to 1 over the tokens that a level can have."""
    totals, uniform = counts.unigram.sum(axis=1, keepdims=True), 1 / _num_possible(codebook_sizes)
    smoothed: Probabilities = (counts.unigram + PRIOR_COUNT * uniform) / (totals + PRIOR_COUNT)
    return smoothed


def _num_possible(codebook_sizes: Sequence[int]) -> Probabilities:
    """Number of tokens that each level can have, `[Q, 1]`."""
    number: Probabilities = (
        possible_tokens(codebook_sizes).sum(axis=1, keepdims=True).astype(np.float64)
    )
    return number


def count_tables(counts: Counts, codebook_sizes: Sequence[int]) -> CountTables:
    """Turn counts into tables. Entries for tokens that a level lacks are finite and unused."""
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
    """Fold of the recordings of each group of near-duplicates, from 1 on."""

    def order(group: str) -> int:
        return derive_seed(seed, Stream.COUNT_FOLDS, int(sha256_text(group)[:15], 16))

    return {group: 1 + index % 8 for index, group in enumerate(sorted(set(groups), key=order))}


def fold_tables(
    recordings: Sequence[CodedRecording], codebook_sizes: Sequence[int], num_labels: int = 0
) -> list[CountTables]:
    """Tables of all recordings, and then without the recordings of each fold."""
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
    """Tables for each row of a batch, of its fold and of its label; B may be 1 for all rows.

    `previous` and `given` `[rows, W]` hold all levels and folds, from the rows `offsets` on, and their evidence
    `[rows]` too. Labels have a single table, or no table.
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
        """Tables of the sequences with these indices, if all belong to one fold."""
        labelled, evidence = (
            [part[rows] if len(part) > 1 else part for part in parts] for parts in self[-2:]
        )
        return self._replace(labelled=labelled, labelled_evidence=evidence)


class CountExperts(nn.Module):
    """Adds weighted logarithms of counted probabilities to a network's logits.

    Products of experts, as in context mixing: the network need only learn what counts do not say. A weight is a
    number for the level, plus one for the evidence of the context, plus a linear function of the hidden state. The
    tables are those of all training recordings. In training a recording must not be predicted from counts of itself:
    `set_tables` takes tables without it, too.
    """

    unigram: Tensor
    given: Tensor
    labelled: Tensor  # where there are labels

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
        experts = 3 + (
            num_labels > 0
        )  # unigrams, after the frame before, given another level, unigrams of the label
        self.weight = nn.Parameter(torch.full((levels, experts), 0.4))
        self.evidence = nn.Parameter(torch.zeros(levels, experts - 1))
        self.gate = nn.Linear(width, experts)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        for name, shape in zip(self.tables, shapes, strict=True):
            self.register_buffer(name, torch.zeros(shape))
        self._folds: list[
            Tensor
        ] = []  # for each table: from all recordings, then without each fold

    def set_tables(self, tables: Sequence[CountTables]) -> None:
        """Set the tables of all training recordings and, after them, those without each fold, if any.

        The number of labels may change with them.
        """
        for name in self.tables:
            setattr(self, name, getattr(tables[0], name).to(self.weight.device))
        folds = [torch.stack([getattr(fold, name) for fold in tables]) for name in self.tables]
        self._folds = folds if len(tables) > 1 else []

    def choose(self, labels: Tensor | None = None, folds: Tensor | None = None) -> ChosenTables:
        """The tables of a batch. `labels` and `folds` `[B]` count from 1; label 0 means no label, fold 0 all recordings.

        None is 0 for all, of both.
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
        """Add the experts to `logits` `[B, T, Q, W]` of the frames `codes`, which follow `before`; both `[B, T, Q]`.

        Of `codes` the coarser levels count; there may be T after one frame `before`. `hidden` `[B, T, Q, D]` are states.
        """
        before = before.expand(-1, codes.shape[1], -1)
        logs, weights = self.look_up(tables, before, codes)
        weights = self.weight + self.gate(hidden).float() + nn.functional.pad(weights, (1, 0))
        return self.add(logits, weights, [tables.unigram, *logs])

    def look_up(
        self, tables: ChosenTables, before: Tensor, codes: Tensor, levels: slice = slice(None)
    ) -> tuple[list[Tensor], Tensor]:
        """Logarithms `[B, T, L, W]` of each expert but the unigrams at `levels`, and what evidence adds to their weights.

        Of the frames `codes` `[B, T, Q]`, which follow `before` `[B, T, Q]`, no more than `given_tokens` reads need be
        known.
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
        """Add logarithms `[..., W]` with weights `[..., experts]` to logits `[..., W]`."""
        for expert, log in enumerate(logs):
            logits = torch.addcmul(logits, weights[..., expert : expert + 1], log)
        return logits
