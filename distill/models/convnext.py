"""ConvNeXt blocks over time (Liu et al. 2022, arXiv 2201.03545; one-dimensional as in Vocos, arXiv 2306.00814)."""

from typing import cast

import torch
from torch import Tensor, nn

KERNEL_SIZE = 7


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, LayerNorm, pointwise MLP of three times the width, scaled residual."""

    def __init__(self, width: int, dropout: float, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 3 * width)
        self.dropout = nn.Dropout(dropout)
        self.contract = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, D]` to `[B, T, D]`."""
        # Only the two linear layers gain from bf16; convolution and norm are faster and safer in fp32.
        with torch.autocast(x.device.type, enabled=False):
            y = self.norm(self.depthwise(x.transpose(1, 2)).transpose(1, 2))
        y = nn.functional.gelu(self.expand(y))
        if self.training and self.dropout.p:
            # Channels drop out for a whole crop: to draw single values took as long as both layers.
            y = y * self.dropout(y.new_ones(len(y), 1, y.shape[2]))
        y = self.contract(y)
        return cast(Tensor, x + self.scale * y.float())


class ConvNeXtStack(nn.Module):
    """Input convolution, `num_layers` blocks and a final norm. `context` steps each side decide one output step."""

    def __init__(self, inputs: int, width: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Conv1d(inputs, width, KERNEL_SIZE, padding=KERNEL_SIZE // 2)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(ConvNeXtBlock(width, dropout, 1 / num_layers) for _ in range(num_layers))
        self.final_norm = nn.LayerNorm(width)
        self.context = (KERNEL_SIZE // 2) * (num_layers + 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, inputs]` to `[B, T, width]`, fp32."""
        with torch.autocast(x.device.type, enabled=False):
            x = self.norm(self.embed(x.transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = self.final_norm(x)
        return y
