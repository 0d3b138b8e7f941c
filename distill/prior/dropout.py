"""Dropout: of features, with random numbers that cost little on a CPU, and of what was heard before."""

import torch
from torch import Tensor, nn

BYTE_VALUES = 256  # a byte of randomness for each feature


class Dropout(nn.Dropout):
    """`nn.Dropout` with probabilities in 256ths on CPUs: torch draws those numbers one after the other there, 8 ns each, which
    is a fifth of a prior's training step."""

    def forward(self, x: Tensor) -> Tensor:
        """`x`, in training with features set to 0 and the others scaled up to the same mean."""
        if not self.training or not self.p or x.device.type != "cpu":
            return super().forward(x)
        limit = min(BYTE_VALUES - 1, max(1, round(self.p * BYTE_VALUES)))
        random_bytes = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = random_bytes.view(torch.uint8)[: x.numel()].view(x.shape) >= limit
        return x * kept.to(x.dtype).mul_(BYTE_VALUES / (BYTE_VALUES - limit))


class HistoryDropout(nn.Module):
    """In training, frames lose their finer levels, from any level on: what is left says less of what comes next, so that
    something else that is known, a label, says more of it.

    A window loses up to twice the share `p` of its frames, drawn for each window (`p` at most .5), and never the first.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Vectors `[B, T, Q, D]` of the codes of frames, in training with zeros for what is lost."""
        if not self.training or not self.p:
            return x
        batch, frames, levels = x.shape[:3]
        dropped = torch.rand(batch, frames, device=x.device) < 2 * self.p * torch.rand(batch, 1, device=x.device)
        dropped[:, 0] = False
        num_kept = torch.randint(levels, (batch, frames), device=x.device).masked_fill(~dropped, levels)
        return x * (torch.arange(levels, device=x.device) < num_kept[:, :, None])[..., None].to(x.dtype)
