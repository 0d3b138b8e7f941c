"""Counts of the training recordings, as experts of a prior: a log-linear mixture with learnt weights."""

from typing import cast

import torch
from torch import Tensor, nn

from distill.codes.sequences import NUM_SPECIAL_TOKENS
from distill.prior.counting import CountTables, given_tokens

EXPERTS = 3  # unigrams, after the frame before, given another level
INITIAL_WEIGHT = 0.4
TABLES = ("unigram", "previous", "given", "previous_evidence", "given_evidence")


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

    def __init__(self, levels: int, codebook_size: int, width: int) -> None:
        super().__init__()
        size = codebook_size + NUM_SPECIAL_TOKENS
        self.levels, self.size = levels, size
        self.weight = nn.Parameter(torch.full((levels, EXPERTS), INITIAL_WEIGHT))
        self.evidence = nn.Parameter(torch.zeros(levels, EXPERTS - 1))
        self.gate = nn.Linear(width, EXPERTS)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        for name in TABLES:
            shape = (levels, size, size) if name in ("previous", "given") else (levels, size)
            self.register_buffer(name, torch.zeros(shape))
        self._folds: tuple[Tensor, ...] | None = None

    def set_tables(self, tables: CountTables) -> None:
        """Copy the tables of all training recordings."""
        for name in TABLES:
            cast(Tensor, getattr(self, name)).copy_(getattr(tables, name))

    def set_folds(self, folds: list[CountTables] | None) -> None:
        """Set the tables that rows with a fold are given: entry k - 1 for fold k. None forgets them."""
        self._folds = None
        if folds is not None:
            stacked = (torch.stack([getattr(fold, name) for fold in folds]) for name in TABLES)
            self._folds = tuple(
                torch.cat([own, part.to(own)]) for own, part in zip(self._whole(), stacked, strict=True)
            )

    def _whole(self) -> tuple[Tensor, ...]:
        """The tables of all recordings, as those of fold 0."""
        return tuple(cast(Tensor, getattr(self, name))[None] for name in TABLES)

    def forward(self, logits: Tensor, hidden: Tensor, inputs: Tensor, targets: Tensor, folds: Tensor | None) -> Tensor:
        """Add the experts to `logits` `[B, T, Q, V + 2]` of `targets` `[B, T, Q]`, which follow `inputs` `[B, T, Q]`.

        `hidden` `[B, T, Q, D]` are the hidden states that the logits were computed from. `folds` `[B]` count from 1; 0
        are the tables of all recordings, and so is None.
        """
        is_whole = folds is None or self._folds is None
        rows = torch.zeros_like(inputs[:, 0, 0]) if is_whole else cast(Tensor, folds)
        if not is_whole and cast(tuple[Tensor, ...], self._folds)[0].device != rows.device:
            self._folds = tuple(part.to(rows.device) for part in cast(tuple[Tensor, ...], self._folds))
        tables = self._whole() if is_whole else cast(tuple[Tensor, ...], self._folds)
        unigram, previous, given, previous_evidence, given_evidence = tables
        offsets = (rows[:, None] * self.levels + torch.arange(self.levels, device=rows.device))[:, None] * self.size
        before = offsets + inputs
        other = offsets + given_tokens(inputs, targets.clamp_min(0))
        evidence = [previous_evidence.flatten()[before], given_evidence.flatten()[other]]
        weights = self.weights(hidden, torch.stack(evidence, dim=-1))
        look_up = nn.functional.embedding
        logits = torch.addcmul(logits, weights[..., :1], unigram[rows][:, None])
        logits = torch.addcmul(logits, weights[..., 1:2], look_up(before, previous.view(-1, self.size)))
        return torch.addcmul(logits, weights[..., 2:], look_up(other, given.view(-1, self.size)))

    def weights(self, hidden: Tensor, evidence: Tensor) -> Tensor:
        """Weights `[..., Q, 3]` of the experts from hidden states `[..., Q, D]` and evidence `[..., Q, 2]`."""
        gated: Tensor = self.weight + self.gate(hidden).float()
        return gated + nn.functional.pad(evidence * self.evidence, (1, 0))
