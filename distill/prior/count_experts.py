"""Counts of the training recordings, as experts of a prior: a log-linear mixture with learnt weights."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from distill.codes.sequences import NUM_SPECIAL_TOKENS
from distill.prior.counting import CountTables, given_tokens

EXPERTS = 3  # unigrams, after the frame before, given another level; with labels also unigrams of the label
INITIAL_WEIGHT = 0.4
TABLES = ("unigram", "previous", "given", "previous_evidence", "given_evidence")
LABEL_TABLES = ("labelled", "labelled_evidence")


class FrameCounts(NamedTuple):
    """What counts say of the frames after `inputs` `[B, T, Q]`; W = V + 2.

    `unigram` `[B, 1, Q, W]`. `logs` `[B, T, Q, W]` and `evidence` `[B, T, Q]` are those given the frame before, and of
    the label, where there are labels. `given` `[rows, W]` and `given_evidence` `[rows]` are tables of what follows a
    code of the same frame, with those of each level from `offsets` `[B, 1, Q]` on.
    """

    inputs: Tensor
    offsets: Tensor
    unigram: Tensor
    logs: list[Tensor]
    evidence: list[Tensor]
    given: Tensor
    given_evidence: Tensor


class CountExperts(nn.Module):
    """Adds weighted logarithms of counted probabilities to a network's logits.

    Products of experts, as in context mixing: the network need only learn what counts do not say. A weight is a
    number for the level, plus one for the evidence of the context, plus a linear function of the hidden state. The
    tables are those of all training recordings. In training a recording must not be predicted from counts of itself:
    `set_folds` gives tables without it.
    """

    unigram: Tensor
    previous: Tensor
    given: Tensor
    previous_evidence: Tensor
    given_evidence: Tensor
    labelled: Tensor  # with labels only, as is its evidence
    labelled_evidence: Tensor

    def __init__(self, levels: int, codebook_size: int, width: int, num_labels: int = 0) -> None:
        super().__init__()
        size = codebook_size + NUM_SPECIAL_TOKENS
        self.levels, self.size = levels, size
        self.has_labels = num_labels > 0
        experts = EXPERTS + self.has_labels
        self.weight = nn.Parameter(torch.full((levels, experts), INITIAL_WEIGHT))
        self.evidence = nn.Parameter(torch.zeros(levels, experts - 1))
        self.gate = nn.Linear(width, experts)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        for name in TABLES:
            shape = (levels, size, size) if name in ("previous", "given") else (levels, size)
            self.register_buffer(name, torch.zeros(shape))
        if self.has_labels:
            self.register_buffer("labelled", torch.zeros(num_labels + 1, levels, size))
            self.register_buffer("labelled_evidence", torch.zeros(num_labels + 1, levels))
        self._folds: tuple[Tensor, ...] | None = None

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables."""
        return (*TABLES, *LABEL_TABLES) if self.has_labels else TABLES

    def set_tables(self, tables: CountTables) -> None:
        """Set the tables of all training recordings. The number of labels may change with them."""
        for name in self.tables:
            setattr(self, name, getattr(tables, name).to(self.unigram.device))

    def set_folds(self, folds: list[CountTables] | None) -> None:
        """Set the tables that rows with a fold are given: entry k - 1 for fold k. None forgets them."""
        self._folds = None
        if folds is not None:
            stacked = (torch.stack([getattr(fold, name) for fold in folds]) for name in self.tables)
            self._folds = tuple(
                torch.cat([own, part.to(own)]) for own, part in zip(self._whole(), stacked, strict=True)
            )

    def _whole(self) -> tuple[Tensor, ...]:
        """The tables of all recordings, as those of fold 0."""
        return tuple(cast(Tensor, getattr(self, name))[None] for name in self.tables)

    def counts(self, inputs: Tensor, labels: Tensor | None = None, folds: Tensor | None = None) -> "FrameCounts":
        """What counts say of the frames after `inputs` `[B, T, Q]`, before any of their codes is known.

        `labels` `[B]` count from 1, 0 is none. `folds` `[B]` count from 1; 0 are the tables of all recordings. None is 0
        for all, of both.
        """
        is_whole = folds is None or self._folds is None
        rows = inputs.new_zeros(1) if is_whole else cast(Tensor, folds)
        if not is_whole and cast(tuple[Tensor, ...], self._folds)[0].device != rows.device:
            self._folds = tuple(part.to(rows.device) for part in cast(tuple[Tensor, ...], self._folds))
        tables = self._whole() if is_whole else cast(tuple[Tensor, ...], self._folds)
        unigram, previous, given, previous_evidence, given_evidence = tables[: len(TABLES)]
        count = self.levels * self.size
        offsets = rows[:, None, None] * count + torch.arange(0, count, self.size, device=rows.device)
        before = offsets + inputs
        evidence = [previous_evidence.flatten()[before]]
        logs = [nn.functional.embedding(before, previous.view(-1, self.size))]
        if self.has_labels:
            chosen = torch.zeros_like(rows) if labels is None else labels
            labelled, labelled_evidence = tables[len(TABLES) :]
            evidence.append(labelled_evidence[rows, chosen][:, None].expand_as(evidence[0]))
            logs.append(labelled[rows, chosen][:, None])
        given_tables = given.view(-1, self.size), given_evidence.flatten()
        return FrameCounts(inputs, offsets, unigram[rows][:, None], logs, evidence, *given_tables)

    def forward(
        self, logits: Tensor, gates: Tensor, counts: "FrameCounts", codes: Tensor, levels: slice | None = None
    ) -> Tensor:
        """Add the experts to `logits` `[B, T, L, V + 2]` of L `levels`, all by default, of the frames `codes`.

        Of `codes` `[B, T, Q]` the coarser levels count. `gates` `[B, T, L, experts]` are the weights of the experts
        without the evidence, see `gates`.
        """
        levels = levels or slice(0, self.levels)
        frames = codes.shape[1]  # of `codes` there may be many candidates after one frame
        given = given_tokens(counts.inputs.expand(-1, frames, -1), codes, levels)
        other = counts.offsets[..., levels] + given.clamp_min(0)
        previous, *labelled = (log[:, :, levels] for log in counts.logs)
        evidence = [part[:, :, levels].expand(-1, frames, -1) for part in counts.evidence]
        evidence.insert(1, nn.functional.embedding(other, counts.given_evidence[:, None])[..., 0])
        weights = gates + nn.functional.pad(torch.stack(evidence, dim=-1) * self.evidence[levels], (1, 0))
        logs = (counts.unigram[:, :, levels], previous, nn.functional.embedding(other, counts.given), *labelled)
        for expert, log in enumerate(logs):
            logits = torch.addcmul(logits, weights[..., expert : expert + 1], log)
        return logits

    def gates(self, hidden: Tensor) -> Tensor:
        """Weights `[..., Q, experts]`, without the evidence, from hidden states `[..., Q, D]`."""
        gates: Tensor = self.weight + self.gate(hidden).float()
        return gates
