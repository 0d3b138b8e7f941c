"""Counts of the training recordings, as experts of a prior: a log-linear mixture with learnt weights."""

from typing import cast

import torch
from torch import Tensor, nn

from distill.codes.sequences import NUM_SPECIAL_TOKENS
from distill.prior.counting import CountTables, given_tokens

EXPERTS = 3  # unigrams, after the frame before, given another level; with labels also unigrams of the label
INITIAL_WEIGHT = 0.4
TABLES = ("unigram", "previous", "given", "previous_evidence", "given_evidence")
LABEL_TABLES = ("labelled", "labelled_evidence")


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

    def forward(
        self,
        logits: Tensor,
        hidden: Tensor,
        inputs: Tensor,
        targets: Tensor,
        labels: Tensor | None = None,
        folds: Tensor | None = None,
    ) -> Tensor:
        """Add the experts to `logits` `[B, T, Q, V + 2]` of `targets` `[B, T, Q]`, which follow `inputs` `[B, T, Q]`.

        `hidden` `[B, T, Q, D]` are the hidden states that the logits were computed from. `labels` `[B]` count from 1, 0
        is none. `folds` `[B]` count from 1; 0 are the tables of all recordings. None is 0 for all, of both.
        """
        is_whole = folds is None or self._folds is None
        rows = torch.zeros_like(inputs[:, 0, 0]) if is_whole else cast(Tensor, folds)
        if not is_whole and cast(tuple[Tensor, ...], self._folds)[0].device != rows.device:
            self._folds = tuple(part.to(rows.device) for part in cast(tuple[Tensor, ...], self._folds))
        tables = self._whole() if is_whole else cast(tuple[Tensor, ...], self._folds)
        unigram, previous, given, previous_evidence, given_evidence = tables[: len(TABLES)]
        offsets = (rows[:, None] * self.levels + torch.arange(self.levels, device=rows.device))[:, None] * self.size
        before = offsets + inputs
        other = offsets + given_tokens(inputs, targets.clamp_min(0))
        evidence = [previous_evidence.flatten()[before], given_evidence.flatten()[other]]
        chosen = torch.zeros_like(rows) if labels is None else labels
        if self.has_labels:
            labelled, labelled_evidence = tables[len(TABLES) :]
            evidence.append(labelled_evidence[rows, chosen][:, None].expand_as(evidence[0]))
        weights = self.weights(hidden, torch.stack(evidence, dim=-1))
        look_up = nn.functional.embedding
        logits = torch.addcmul(logits, weights[..., :1], unigram[rows][:, None])
        logits = torch.addcmul(logits, weights[..., 1:2], look_up(before, previous.view(-1, self.size)))
        logits = torch.addcmul(logits, weights[..., 2:3], look_up(other, given.view(-1, self.size)))
        if self.has_labels:
            logits = torch.addcmul(logits, weights[..., 3:], labelled[rows, chosen][:, None])
        return logits

    def weights(self, hidden: Tensor, evidence: Tensor) -> Tensor:
        """Weights `[..., Q, experts]` from hidden states `[..., Q, D]` and evidence `[..., Q, experts - 1]`."""
        gated: Tensor = self.weight + self.gate(hidden).float()
        return gated + nn.functional.pad(evidence * self.evidence, (1, 0))
