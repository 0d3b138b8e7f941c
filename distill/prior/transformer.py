"""Pre-norm causal transformer, over whole sequences or step by step with a key-value cache."""

import math
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from distill.prior.attention import causal_attention

INIT_STD = 0.02
POSITION_RATES = 8  # number of frequencies for a position's logarithm

Rotation = tuple[Tensor, Tensor]
"""Factors `[T, head_size]` at T positions: for each feature, and for the other feature of its pair."""

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention: queries, keys and values `[B, H, T, D / H]` to `[B, H, T, D / H]`."""


class Dropout(nn.Dropout):
    """`nn.Dropout`; on CPUs, probabilities are rounded to 256ths.

    On CPUs torch draws one random number at a time, at 8 ns each: a fifth of a prior's training step.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Zero random features of `x` in training and scale up the others to keep the mean."""
        if not self.training or not self.p or x.device.type != "cpu":
            return super().forward(x)
        limit = min(255, max(1, round(self.p * 256)))  # threshold for one random byte per feature
        random_bytes = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = random_bytes.view(torch.uint8)[: x.numel()].view(x.shape) >= limit
        return x * kept.to(x.dtype).mul_(256 / (256 - limit))


class KeyValueCache:
    """Keys and values of earlier positions, `[B, 2, H, positions, D / H]` for each layer."""

    def __init__(self, stack: "Transformer", batch_size: int, positions: int) -> None:
        block = cast(Block, stack.blocks[0])
        weight = block.attend.weight
        shape = (batch_size, 2, block.num_heads, positions, weight.shape[1] // block.num_heads)
        self.layers = [weight.new_empty(shape) for _ in stack.blocks]
        self.length = 0

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Append a layer's keys and values and attend from the new positions to all; tensors are `[B, H, T, D / H]`."""
        start, count = self.length, key.shape[2]
        cache, stop = self.layers[layer], start + count
        cache[:, 0, :, start:stop], cache[:, 1, :, start:stop] = key, value
        key, value = cache[:, :, :, :stop].unbind(1)
        mask = (
            None
            if count == 1
            else torch.ones(count, stop, dtype=torch.bool, device=key.device).tril(start)
        )
        return scaled_dot_product_attention(query, key, value, attn_mask=mask)

    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences with these indices."""
        self.layers = [layer[rows] for layer in self.layers]


class Transformer(nn.Module):
    """Causal blocks and a final norm; `rotary` adds relative positions, see `RotaryEmbedding`."""

    def __init__(
        self, width: int, num_layers: int, num_heads: int, dropout: float, rotary: bool = False
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"expected num_heads to divide the width {width}, found {num_heads}")
        self.rotary = RotaryEmbedding(width // num_heads) if rotary else None
        self.blocks = nn.ModuleList(Block(width, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        initialise(self, num_layers)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """`[B, T, D]` to `[B, T, D]`. With a cache, `x` follows the cached positions and is appended to the cache."""
        start, count = 0 if cache is None else cache.length, x.shape[1]
        rotation = None if self.rotary is None else self.rotary(start, count, x.device)
        for index, block in enumerate(self.blocks):
            x = block(
                x, causal_attention if cache is None else partial(cache.attend, index), rotation
            )
        if cache is not None:
            cache.length = start + count
        return cast(Tensor, self.norm(x))


class RotaryEmbedding(nn.Module):
    """Rotary position embedding (Su et al. 2021, RoFormer, eq. 34).

    It rotates each pair of features of queries and keys by an angle proportional to the position, so that attention
    depends only on distances.
    """

    def __init__(self, head_size: int, dtype: torch.dtype = torch.float32) -> None:
        """Beyond many thousands of positions, angles need fp64 as `dtype`."""
        super().__init__()
        rates = 10_000.0 ** -(torch.arange(0, head_size, 2, dtype=dtype) / head_size)
        self.rates = nn.Buffer(rates, persistent=False)

    def forward(self, start: int, count: int, device: torch.device) -> Rotation:
        """Rotation of `count` positions from `start` on."""
        angles = torch.arange(start, start + count, device=device)[:, None] * self.rates
        cosines, sines = angles.cos(), angles.sin()
        return torch.cat([cosines, cosines], dim=1), torch.cat([-sines, sines], dim=1)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate queries and keys `[B, T, 2, H, head_size]`."""
    same, other = (factor[:, None, None].to(x.dtype) for factor in rotation)
    return x * same + x.roll(x.shape[-1] // 2, -1) * other


class Block(nn.Module):
    """Pre-norm causal self-attention and MLP.

    Dropout acts on the outputs of both, not on attention weights: their random numbers would cost about the same as
    attention itself.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width, bias=False)
        self.dropout = Dropout(dropout)
        self.mlp = ResidualBlock(width, dropout)

    def forward(
        self, x: Tensor, attend: Attend = causal_attention, rotation: Rotation | None = None
    ) -> Tensor:
        """`[B, T, D]` to `[B, T, D]`; `attend` may also attend to cached positions."""
        mixed = attend(*self.heads(self.attention_norm(x), rotation))
        x = x + self.dropout(self.project(mixed.transpose(1, 2).reshape(x.shape)))
        return cast(Tensor, self.mlp(x))

    def heads(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values `[B, H, T, D / H]` of `[B, T, D]`."""
        batch, count, width = x.shape
        heads = (
            self.attend(x)
            .contiguous()
            .view(batch, count, 3, self.num_heads, width // self.num_heads)
        )
        value = heads[:, :, 2].transpose(1, 2)
        turned = heads[:, :, :2] if rotation is None else rotate(heads[:, :, :2], rotation)
        query, key = turned.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value


class LogPositionEmbedding(nn.Module):
    """Embedding of the logarithm of a position: fine near the start of a recording, coarser later."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(2 * POSITION_RATES, width)
        nn.init.normal_(self.project.weight, std=INIT_STD)

    def forward(self, positions: Tensor, count: int) -> Tensor:
        """Embed `count` positions from `positions` `[B]` on: `[B, count, width]`."""
        indices = positions[:, None] + torch.arange(count, device=positions.device)
        rates = 2.0 ** torch.arange(POSITION_RATES, device=positions.device) * (math.pi / 16)
        angles = (1 + indices.float()).log2()[..., None] * rates
        return cast(Tensor, self.project(torch.cat([angles.sin(), angles.cos()], dim=-1)))


class ResidualBlock(nn.Module):
    """Pre-norm MLP with a residual connection."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width, bias=False)
        self.contract = nn.Linear(4 * width, width, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D]` to `[..., D]`."""
        # Module calls would take a tenth of sampling time
        linear, gelu = nn.functional.linear, nn.functional.gelu
        y = linear(gelu(linear(self.norm(x), self.expand.weight)), self.contract.weight)
        return x + cast(Tensor, self.dropout(y))


def initialise(module: nn.Module, num_layers: int) -> None:
    """Initialise weights from a small normal distribution, scaled down with depth where they end a residual branch."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            residual = name.endswith(("project.weight", "contract.weight"))
            nn.init.normal_(
                parameter, std=INIT_STD / (2 * num_layers) ** 0.5 if residual else INIT_STD
            )
