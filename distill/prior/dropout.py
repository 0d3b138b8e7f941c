"""Dropout of features, with cheap random numbers on CPUs, and of the history's finer levels."""

import torch
from torch import Tensor, nn

BYTE_VALUES = 256  # one random byte a feature


class Dropout(nn.Dropout):
    """`nn.Dropout`, on CPUs with probabilities rounded to 256ths.

    torch draws one random number at a time there, at 8 ns each: a fifth of a prior's training step.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of `x` in training and scale the others up to the same mean."""
        if not self.training:
            return x
        if not self.p or x.device.type != "cpu":
            return super().forward(x)
        limit = min(BYTE_VALUES - 1, max(1, round(self.p * BYTE_VALUES)))
        random_bytes = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = random_bytes.view(torch.uint8)[: x.numel()].view(x.shape) >= limit
        return x * kept.to(x.dtype).mul_(BYTE_VALUES / (BYTE_VALUES - limit))


class HistoryDropout(nn.Module):
    """Dropout of the finer levels of input frames, from a random level on.

    A thinner history predicts less, so that labels count more. The share of frames is drawn for each window, up to
    twice `p` (at most .5). The first frame is kept.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings `[B, T, Q, D]` of codes, in training with zeros for dropped levels."""
        if not self.training or not self.p:
            return x
        batch, frames, levels = x.shape[:3]
        dropped = torch.rand(batch, frames, device=x.device) < 2 * self.p * torch.rand(batch, 1, device=x.device)
        dropped[:, 0] = False
        num_kept = torch.randint(levels, (batch, frames), device=x.device).masked_fill(~dropped, levels)
        return x * (torch.arange(levels, device=x.device) < num_kept[:, :, None])[..., None].to(x.dtype)
