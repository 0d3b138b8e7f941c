"""Dropout: of features, with random numbers that cost little on a CPU, and of what was heard before."""

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


class HistoryDropout(nn.Module):
    """In training, frames lose their finer levels, from any level on: what is left says less of what comes next, so that
    something else that is known, a label, says more of it.

    A window loses up to twice the share `p` of its frames, drawn anew for each (`p` at most .5), and never the first.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Vectors `[B, T, Q, D]` of the codes of frames, in training with zeros for what is lost."""
        if not self.training or not self.p:
            return x
        batch, frames, levels = x.shape[:3]
        lost = torch.rand(batch, frames, device=x.device) < 2 * self.p * torch.rand(batch, 1, device=x.device)
        lost[:, 0] = False
        left = torch.randint(levels, (batch, frames), device=x.device).masked_fill(~lost, levels)
        return x * (torch.arange(levels, device=x.device) < left[:, :, None])[..., None].to(x.dtype)
