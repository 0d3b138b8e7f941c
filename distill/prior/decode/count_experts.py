"""Step-by-step version of `CountExperts`."""

import torch
from torch import Tensor, nn

from distill.prior.count_experts import CountExperts

Layer = tuple[Tensor, Tensor]  # weights [n, D] and biases [n]


class CountExpertsDecoder:
    """`CountExperts` for one frame at a time and one level at a time, for `count` sequences.

    A frame's tables are looked up in three calls: before its first level, after that, and after its second one.
    Unigrams are part of the output layer: their weight is linear in the hidden state.
    """

    def __init__(self, experts: CountExperts, count: int, labels: Tensor | None) -> None:
        """`labels` `[count]` count from 1; 0 is none, and so is None."""
        self._module, self._levels, self._size = experts, experts.levels, experts.size
        device = experts.unigram.device
        self._offsets = torch.arange(self._levels, device=device) * self._size
        self._previous, self._given = (part.view(-1, self._size) for part in (experts.previous, experts.given))
        evidence = experts.evidence
        # What the evidence of a context adds to the weight of its expert, [Q * W].
        self._previous_weight = (experts.previous_evidence * evidence[:, :1]).flatten()
        self._given_weight = (experts.given_evidence * evidence[:, 1:2]).flatten()
        # Logarithms of all experts but unigrams [B, Q, n, W], and what evidence adds to their weights, [B, Q, n].
        self._logs = experts.unigram.new_zeros(count, self._levels, evidence.shape[1], self._size)
        self._evidence = self._logs.new_zeros(count, self._levels, evidence.shape[1])
        if experts.has_labels:
            rows = torch.zeros(count, dtype=torch.int64, device=device) if labels is None else labels.to(device)
            self._logs[:, :, 2] = experts.labelled[rows]
            self._evidence[:, :, 2] = experts.labelled_evidence[rows] * evidence[:, 2]

    def output_layer(self, level: int, logits: Layer) -> tuple[Layer, Layer]:
        """The layer of a level's `logits` with unigrams added, and the layer of the other experts' weights."""
        experts = self._module
        gates, biases = experts.gate.weight, experts.gate.bias + experts.weight[level]
        unigram = experts.unigram[level]
        return (logits[0] + unigram[:, None] * gates[0], logits[1] + unigram * biases[0]), (gates[1:], biases[1:])

    def keep(self, rows: Tensor) -> None:
        """Keep the sequences with these indices."""
        self._logs, self._evidence = self._logs[rows], self._evidence[rows]

    def start_frame(self, before: Tensor) -> None:
        """Start the frame after `before` `[B, Q]`."""
        rows = self._offsets + before
        self._logs[:, :, 0] = nn.functional.embedding(rows, self._previous)
        self._evidence[:, :, 0] = self._previous_weight[rows]
        self._give(before[:, 1:2] if self._levels > 1 else torch.zeros_like(before), 0, 1)

    def update(self, level: int, codes: Tensor) -> None:
        """Condition finer levels on the codes `[B]` of this one."""
        if level < 2:
            self._give(codes[:, None], level + 1, 2 if level == 0 else self._levels)

    def add(self, logits: Tensor, weights: Tensor, level: int) -> Tensor:
        """Add the experts of a level to its `logits` `[B, W]`; `weights` `[B, n]` are without the evidence."""
        weights = weights + self._evidence[:, level]
        added: Tensor = torch.baddbmm(logits[:, None], weights[:, None], self._logs[:, level])[:, 0]
        return added

    def _give(self, codes: Tensor, first: int, last: int) -> None:
        """Fill in what levels `first` to `last` - 1 are given by `codes` `[B, 1]`."""
        rows = self._offsets[first:last] + codes
        self._logs[:, first:last, 1] = nn.functional.embedding(rows, self._given)
        self._evidence[:, first:last, 1] = self._given_weight[rows]


class NoCountExperts:
    """In place of `CountExpertsDecoder` where a prior has no counts: adds nothing."""

    def output_layer(self, level: int, logits: Layer) -> tuple[Layer, Layer]:  # noqa: ARG002
        return logits, (logits[0][:0], logits[1][:0])

    def keep(self, rows: Tensor) -> None: ...

    def start_frame(self, before: Tensor) -> None: ...

    def update(self, level: int, codes: Tensor) -> None: ...

    def add(self, logits: Tensor, weights: Tensor, level: int) -> Tensor:  # noqa: ARG002
        return logits
