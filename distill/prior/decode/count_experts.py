"""Step-by-step version of `CountExperts`."""

import torch
from torch import Tensor, nn

from distill.prior.count_experts import EXPERTS, CountExperts


class CountExpertsDecoder:
    """`CountExperts` for one frame at a time and one level at a time, for `count` sequences.

    A frame's tables are looked up in three calls: before its first level, after that, and after its second one.
    """

    def __init__(self, experts: CountExperts, count: int) -> None:
        self._experts, self._levels, self._size = experts, experts.levels, experts.size
        device = experts.unigram.device
        self._offsets = torch.arange(self._levels, device=device) * self._size
        self._previous, self._given = (part.view(-1, self._size) for part in (experts.previous, experts.given))
        evidence = experts.evidence
        # What the evidence of a context adds to the weight of its expert, [Q * W].
        self._previous_weight = (experts.previous_evidence * evidence[:, :1]).flatten()
        self._given_weight = (experts.given_evidence * evidence[:, 1:]).flatten()
        # Logarithms of all experts [B, Q, 3, W], and what evidence adds to their weights, [B, Q, 3].
        self._logs = experts.unigram.new_zeros(count, self._levels, EXPERTS, self._size)
        self._logs[:, :, 0] = experts.unigram
        self._evidence = self._logs.new_zeros(count, self._levels, EXPERTS)

    def keep(self, count: int) -> None:
        """Keep `count` sequences. The next frame fills in their tables."""
        self._logs, self._evidence = self._logs[:count], self._evidence[:count]

    def start_frame(self, before: Tensor) -> None:
        """Start the frame after `before` `[B, Q]`."""
        rows = self._offsets + before
        self._logs[:, :, 1] = nn.functional.embedding(rows, self._previous)
        self._evidence[:, :, 1] = self._previous_weight[rows]
        self._give(before[:, 1:2] if self._levels > 1 else torch.zeros_like(before), 0, 1)

    def update(self, level: int, codes: Tensor) -> None:
        """Condition finer levels on the codes `[B]` of this one."""
        if level < 2:
            self._give(codes[:, None], level + 1, 2 if level == 0 else self._levels)

    def add(self, logits: Tensor, weights: Tensor, level: int) -> Tensor:
        """Add the experts of a level to its `logits` `[B, W]`; `weights` `[B, 3]` are without the evidence."""
        weights = weights + self._evidence[:, level]
        added: Tensor = torch.baddbmm(logits[:, None], weights[:, None], self._logs[:, level])[:, 0]
        return added

    def _give(self, codes: Tensor, first: int, last: int) -> None:
        """Fill in what levels `first` to `last` - 1 are given by `codes` `[B, 1]`."""
        rows = self._offsets[first:last] + codes
        self._logs[:, first:last, 2] = nn.functional.embedding(rows, self._given)
        self._evidence[:, first:last, 2] = self._given_weight[rows]
