"""Single-position forward passes of transformers, without gradient and dropout, in as few calls as possible.

Sampling one sequence spends most time on reading weights, then on calls and attribute look-ups, least on arithmetic.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from distill.prior.transformer import (
    Block,
    KeyValueCache,
    LogPositionEmbedding,
    ResidualBlock,
    RotaryEmbedding,
    Transformer,
)

WEIGHT_PARTS = 2  # parts that a weight is multiplied in for one row
PADDED_ROWS, FULL_ROWS = 12, 16  # products of this many rows are slower than padded ones of `FULL_ROWS`
LOOKAHEAD = 64  # positions computed together


class Lookahead:
    """Per-position values computed for many positions at once.

    `make(first, count)` returns `[count, ...]` for the positions from `first` on.
    """

    def __init__(self, make: Callable[[int, int], Tensor]) -> None:
        self._make, self._first, self._made = make, 0, torch.empty(0)

    def at(self, position: int) -> Tensor:
        """Value `[...]` of a position."""
        if not 0 <= position - self._first < len(self._made):
            self._first, self._made = position, self._make(position, LOOKAHEAD)
        return self._made[position - self._first]


class FastLinear:
    """Linear layer with weight `[E, D]` and bias `[E]`, for few rows.

    Operand order and layout decide how fast a CPU reads the weight: see docs/decisions.md.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight, self._bias, self._size = weight, bias, len(weight)
        self._is_on_cpu = weight.device.type == "cpu"
        padding = -len(weight) % WEIGHT_PARTS
        padded = nn.functional.pad(weight, (0, 0, 0, padding)) if padding else weight
        self._parts = padded.view(WEIGHT_PARTS, -1, weight.shape[1])

    def __call__(self, x: Tensor) -> Tensor:
        """`[B, D]` to `[B, E]`."""
        if not self._is_on_cpu:
            return nn.functional.linear(x, self._weight, self._bias)
        rows = x.shape[0]
        if PADDED_ROWS <= rows < FULL_ROWS:
            y = torch.mm(self._weight, nn.functional.pad(x, (0, 0, 0, FULL_ROWS - rows)).t()).t()[:rows]
        elif rows > 1:
            y = torch.mm(self._weight, (x.contiguous() if rows < PADDED_ROWS else x).t()).t()
        else:
            y = torch.bmm(self._parts, x.t().expand(WEIGHT_PARTS, -1, -1)).view(1, -1)[:, : self._size]
        return y if self._bias is None else y + self._bias


class FrameEmbedding:
    """Embedding of a frame: the sum of its codes' vectors in `table` `[Q, V + 2, D]` and of its position's."""

    def __init__(self, table: Tensor, position: LogPositionEmbedding) -> None:
        levels, size, _ = table.shape
        self._offsets, self._table = torch.arange(levels, device=table.device) * size, table.flatten(0, 1)
        self._positions = Lookahead(lambda first, count: position(torch.tensor([first], device=table.device), count)[0])

    def __call__(self, codes: Tensor, position: int) -> Tensor:
        """Codes `[B, Q]` of the frame at `position` to `[B, D]`."""
        return nn.functional.embedding(codes + self._offsets, self._table).sum(dim=1) + self._positions.at(position)


class FastLayerNorm:
    """Forward pass of an `nn.LayerNorm`."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self._arguments = (norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    def __call__(self, x: Tensor) -> Tensor:
        """`[B, D]` to `[B, D]`."""
        return torch.layer_norm(x, *self._arguments)


class ResidualStep:
    """Single-position forward pass of a `ResidualBlock`."""

    def __init__(self, block: ResidualBlock) -> None:
        self._norm = FastLayerNorm(block.norm)
        self._expand, self._contract = FastLinear(block.expand.weight), FastLinear(block.contract.weight)

    def __call__(self, x: Tensor) -> Tensor:
        """`[B, D]` to `[B, D]`."""
        return x + self._contract(nn.functional.gelu(self._expand(self._norm(x))))


class BlockStep:
    """Single-position forward pass of a transformer `Block`."""

    def __init__(self, block: Block) -> None:
        self._num_heads, self._norm, self._mlp = (
            block.num_heads,
            FastLayerNorm(block.attention_norm),
            ResidualStep(block.mlp),
        )
        self._attend, self._project = FastLinear(block.attend.weight), FastLinear(block.project.weight)

    def __call__(self, x: Tensor, cache: Tensor, start: int, rotation: Tensor | None) -> Tensor:
        """`[B, D]` to `[B, D]`; `cache` and `start` as in `Block`, `rotation` of `rotation_factors`."""
        batch, width = x.shape
        heads = self._attend(self._norm(x)).contiguous().view(batch, 3, self._num_heads, width // self._num_heads)
        if rotation is not None:
            heads = torch.addcmul(heads * rotation[0], heads.roll(heads.shape[3] // 2, 3), rotation[1])
        cache.select(3, start).copy_(heads.narrow(1, 1, 2))
        key, value = cache.narrow(3, 0, start + 1).unbind(1)
        mixed = nn.functional.scaled_dot_product_attention(heads.select(1, 0).unsqueeze(2), key, value)
        return self._mlp(x + self._project(mixed.view(batch, width)))


class Decoder:
    """Single-position forward pass of a `Transformer`, with a cache of B sequences of at most `positions`."""

    def __init__(self, stack: Transformer, batch_size: int, positions: int) -> None:
        self.cache = KeyValueCache(stack, batch_size, positions)
        self._norm = FastLayerNorm(stack.norm)
        self._steps = [BlockStep(cast(Block, block)) for block in stack.blocks]
        rotary = stack.rotary
        self._rotation = (
            None if rotary is None else Lookahead(lambda first, count: rotation_factors(rotary, first, count))
        )

    def __call__(self, x: Tensor, position: int | None = None) -> Tensor:
        """Advance by one position, `x` `[B, D]`; hidden state `[B, D]`.

        `position` is its index where that is not the length of the cache.
        """
        num_cached = self.cache.length
        rotation = None if self._rotation is None else self._rotation.at(num_cached if position is None else position)
        for step, layer in zip(self._steps, self.cache.layers, strict=True):
            x = step(x, layer, num_cached, rotation)
        self.cache.length = num_cached + 1
        return self._norm(x)

    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences with these indices."""
        self.cache.keep(rows)


def rotation_factors(rotary: RotaryEmbedding, first: int, count: int) -> Tensor:
    """`rotate` as one multiply-add: factors `[count, 2, 3, 1, head_size]` of `count` positions from `first` on.

    They are those of queries, keys and values, then of the same with both halves exchanged; values stay as they are.
    """
    cosines, sines = rotary(first, count, rotary.rates.device)
    same, other = torch.cat([cosines, cosines], dim=1), torch.cat([-sines, sines], dim=1)  # [count, head_size]
    unrotated = torch.stack([torch.ones_like(same), torch.zeros_like(same)], dim=1)
    rotate = torch.stack([same, other], dim=1)
    return torch.stack([rotate, rotate, unrotated], dim=2)[:, :, :, None]
