"""Dropout whose random numbers cost little on a CPU."""

import torch
from torch import Tensor, nn

STEPS = 256  # a byte of randomness for each feature


class Dropout(nn.Dropout):
    """`nn.Dropout` with probabilities in 256ths on CPUs: torch draws those numbers one after the other there, 8 ns each, which
    is a fifth of a prior's training step."""

    def forward(self, x: Tensor) -> Tensor:
        """`x`, in training with features set to 0 and the others scaled up to the same mean."""
        if not self.training or not self.p or x.device.type != "cpu":
            return super().forward(x)
        limit = min(STEPS - 1, max(1, round(self.p * STEPS)))
        drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = drawn.view(torch.uint8)[: x.numel()].view(x.shape) >= limit
        return x * kept.to(x.dtype).mul_(STEPS / (STEPS - limit))
