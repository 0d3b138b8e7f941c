"""Blocks with sliding-window attention and a long memory, in a state of constant size.

What the memory retrieves of earlier positions gates the output of attention (memory as a gate: Behrouz et al. 2025,
Titans, section 4.2). The memory has two parts.

- A matrix of keys, `M_t = M_p + sum k k'`, projects queries, `q' = M_t q / n_t` with `n_t = n_p + sum |k|^2`. Each
  shard resets both sums to those of persistent keys (Li et al. 2025, TNT).
- A matrix of values by keys, `S_t = sum phi(k) v'`, is what is retrieved from. Each shard resets some of its heads;
  the others carry what earlier shards wrote, as a constant.

No gradient crosses a shard boundary, neither through the window nor through the memories.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from distill.prior.attention import window_attention, without_autocast
from distill.prior.memory.associative import TAPS, associate, feature_size, features, sum_of_taps
from distill.prior.memory.config import MemorySize
from distill.prior.transformer import INIT_STD, Block, Linear, RotaryEmbedding, Rotation, head_size, initialise

PERSISTENT_KEYS = 64
DEGREE = 2  # of the feature map of keys; with keys of size 32, 100 values can be told apart
MIN_NORM = 1e-8
GATE_BIAS = 2.0  # initial bias of the gates: attention passes


class PersistentMemory(nn.Module):
    """Learnt keys `[H, num_keys, d]` that every shard begins with."""

    def __init__(self, key_size: int, num_keys: int = PERSISTENT_KEYS, num_heads: int = 1) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(num_heads, num_keys, key_size) / key_size**0.5)

    @property
    def m_persistent(self) -> Tensor:
        """`M_p = sum k_p k_p'`, `[H, d, d]`."""
        return self.keys.mT @ self.keys

    @property
    def norm_persistent(self) -> Tensor:
        """`n_p = sum |k_p|^2`, `[H]`, the trace of `m_persistent`."""
        return self.keys.square().sum(dim=(1, 2))


class QKProjection:
    """Projection of queries onto earlier keys: `q' = M_t q / max(n_t, 1e-8)`.

    `M_t` is `[B, H, d, d]`, `norm_sum` (`n_t`) `[B, H]`. The trace of `M_t` is `n_t`, so that the norm of `q'` does not
    grow with the number of keys.
    """

    def __init__(self, persistent: PersistentMemory, M_t: Tensor | None = None, norm_sum: Tensor | None = None) -> None:  # noqa: N803
        """The sums default to those of the persistent keys, for a batch of 1."""
        self.persistent = persistent
        self.M_t = persistent.m_persistent[None] if M_t is None else M_t
        self.norm_sum = persistent.norm_persistent[None] if norm_sum is None else norm_sum

    def reset_at_shard_boundary(self) -> None:
        """Reset both sums to those of the persistent keys."""
        self.M_t = self.persistent.m_persistent.expand_as(self.M_t)
        self.norm_sum = self.persistent.norm_persistent.expand_as(self.norm_sum)

    def update(self, key: Tensor) -> None:
        """Add a key of each head, `[B, H, d]`."""
        self.M_t = self.M_t + key[..., :, None] * key[..., None, :]
        self.norm_sum = self.norm_sum + key.square().sum(dim=-1)

    def project(self, query: Tensor) -> Tensor:
        """Project queries `[B, H, d]` to `[B, H, d]`."""
        projected = (self.M_t @ query[..., None])[..., 0]
        return projected / self.norm_sum.clamp_min(MIN_NORM)[..., None]

    def run(self, query: Tensor, key: Tensor, chunk_size: int) -> Tensor:
        """`update` and `project` at each of T positions of a shard: queries `[B, H, T, d]` to `[B, H, T, d]`."""
        projected, self.M_t = associate(query, key, key, self.M_t, chunk_size, 1)
        norms = self.norm_sum[..., None] + key.square().sum(dim=-1).cumsum(dim=-1)
        self.norm_sum = norms[..., -1]
        return projected / norms.clamp_min(MIN_NORM)[..., None]


class ValueMemory:
    """Associative memory of values by keys, `S_t` `[B, H, features, e]`.

    The first `num_carried` heads keep what earlier shards wrote.
    """

    def __init__(self, sums: Tensor, num_carried: int) -> None:
        self.sums, self.num_carried = sums, num_carried

    def reset_at_shard_boundary(self) -> None:
        """Reset the heads that are not carried; detach the others."""
        kept = torch.arange(self.sums.shape[1], device=self.sums.device) < self.num_carried
        self.sums = self.sums.detach() * kept[:, None, None]

    def update(self, key: Tensor, value: Tensor) -> None:
        """Write a value `[B, H, e]` by a key `[B, H, d]`."""
        self.sums = self.sums + features(key, DEGREE)[..., :, None] * value[..., None, :]

    def read(self, query: Tensor) -> Tensor:
        """Read the values `[B, H, e]` whose keys are similar to `query` `[B, H, d]`."""
        return (features(query, DEGREE)[..., None, :] @ self.sums)[..., 0, :]

    def run(self, query: Tensor, key: Tensor, value: Tensor, chunk_size: int, is_empty: bool = False) -> Tensor:
        """`update` and `read` at each of T positions of a shard: `[B, H, T, e]`.

        `is_empty`: nothing was written before, which saves time.
        """
        read, self.sums = associate(query, key, value, None if is_empty else self.sums, chunk_size, DEGREE)
        return read


@dataclass(frozen=True, eq=False)
class BlockState:
    """State of a block after the positions so far. In inference a single position changes its sums in place.

    `keys` and `norm` are the sums of `QKProjection`, `sums` those of `ValueMemory`. `recent` `[B, 2, H, P, D / H]` are
    keys and values of the last positions, at most `window - 1`; `tail` `[B, 4, D]` the last inputs of the memory.
    """

    keys: Tensor
    norm: Tensor
    sums: Tensor
    recent: Tensor
    tail: Tensor

    def rows(self, rows: Tensor) -> "BlockState":
        """The state of the sequences with these indices."""
        return BlockState(*(part[rows] for part in vars(self).values()))


class LongMemory(nn.Module):
    """Projections of a block's memory: to keys, values and queries, and from what is read to the logits of a gate.

    The key of a value is computed from the positions before it, so that a query from similar positions retrieves what
    came next.
    """

    def __init__(self, width: int, num_heads: int, size: MemorySize) -> None:
        super().__init__()
        self.num_heads, self.num_carried, self.size = num_heads, (num_heads + 1) // 2, size
        self.taps = nn.Parameter(torch.tensor(TAPS)[:, None].repeat(1, width))
        self.to_query = Linear(width, num_heads * size.key_size, bias=False)
        self.to_key = Linear(width, num_heads * size.key_size, bias=False)
        self.to_value = Linear(width, width, bias=False)
        self.write = nn.Linear(width, num_heads)
        self.persistent = PersistentMemory(size.key_size, num_heads=num_heads)
        self.up = Linear(width + num_heads * size.key_size, 2 * width, bias=False)
        self.down = Linear(width, width)
        self.ablated = False  # zeros are read in place of the memory
        for part in (self.to_query, self.to_value, self.write):
            nn.init.normal_(part.weight, std=INIT_STD)
        self.to_key.load_state_dict(self.to_query.state_dict())  # similar positions match from the first step on
        for part in (self.up, self.down):  # gates depend on the memory from the first step on
            nn.init.normal_(part.weight, std=part.weight.shape[1] ** -0.5)
        nn.init.constant_(self.down.bias, GATE_BIAS)

    def addresses(self, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys `[B, H, T, d]` and values `[B, H, T, D / H]` of inputs `[B, T, D]` after `tail` `[B, 4, D]`."""
        dtype = self.taps.dtype  # of the parameters, also under autocast
        context = sum_of_taps(torch.cat([tail, x], dim=1), self.taps)
        query, key = self._heads(self.to_query(context[:, 1:])), self._heads(self.to_key(context[:, :-1]))
        value = self._heads(self.to_value(x)).to(dtype)
        value = value * (value.square().mean(dim=-1, keepdim=True) + MIN_NORM).rsqrt()
        strength = self.write(x).to(dtype).sigmoid().transpose(1, 2)[..., None]
        normalize = nn.functional.normalize
        return normalize(query.to(dtype), dim=-1), normalize(key.to(dtype), dim=-1), value * strength

    def gate(self, values: Tensor, queries: Tensor) -> Tensor:
        """Logits `[B, T, D]` of the gate from values read `[B, H, T, D / H]` and projected queries `[B, H, T, d]`."""
        if self.ablated:
            values, queries = torch.zeros_like(values), torch.zeros_like(queries)
        values = values * (values.square().mean(dim=-1, keepdim=True) + 1.0).rsqrt()
        queries = queries * (queries.square().mean(dim=-1, keepdim=True) + MIN_NORM).rsqrt()
        read = torch.cat([values.transpose(1, 2).flatten(2), queries.transpose(1, 2).flatten(2)], dim=2)
        gate_input, content = self.up(read).chunk(2, dim=2)
        return cast(Tensor, self.down(nn.functional.silu(gate_input) * content))

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)


class AtlasMAGBlock(Block):
    """Sliding-window attention gated by a memory, `attention * sigmoid(f(memory))`, and an MLP."""

    def __init__(self, width: int, num_heads: int, dropout: float, size: MemorySize, num_layers: int = 1) -> None:
        super().__init__(width, num_heads, dropout)
        self.size = size
        initialise(self, num_layers)
        self.memory = LongMemory(width, num_heads, size)

    def initial_state(self, batch_size: int) -> BlockState:
        """State before the first position."""
        width = self.attend.weight.shape[1]
        head = width // self.num_heads
        new = self.attend.weight.new_zeros
        persistent = self.memory.persistent
        return BlockState(
            persistent.m_persistent.expand(batch_size, -1, -1, -1),
            persistent.norm_persistent.expand(batch_size, -1),
            new(batch_size, self.num_heads, feature_size(self.size.key_size, DEGREE), head),
            new(batch_size, 2, self.num_heads, 0, head),
            new(batch_size, len(TAPS), width),
        )

    def at_boundary(self, state: BlockState) -> BlockState:
        """State at the beginning of a shard, from that at the end of the one before."""
        projection, values = self._memories(state)
        projection.reset_at_shard_boundary()
        values.reset_at_shard_boundary()
        recent, tail = state.recent.detach(), state.tail.detach()
        return BlockState(projection.M_t, projection.norm_sum, values.sums, recent, tail)

    def run(
        self, x: Tensor, state: BlockState, rotation: Rotation, is_empty: bool = False
    ) -> tuple[Tensor, BlockState, Tensor]:
        """Positions `[B, T, D]` of one shard to outputs `[B, T, D]`, the state after them, and gates `[B, T, D]`.

        `rotation` are cosines and sines of `RotaryEmbedding`; `is_empty` as in `ValueMemory.run`.
        """
        inputs = self.attention_norm(x)
        query, key, value = self.heads(inputs, rotation)
        recent = torch.cat([state.recent.to(key.dtype), torch.stack([key, value], dim=1)], dim=3)
        mixed = window_attention(query, recent[:, 0], recent[:, 1], self.size.window)
        tail = state.tail.to(inputs.dtype)
        queries, keys, values = self.memory.addresses(inputs, tail)
        projection, value_memory = self._memories(state)
        with without_autocast(x.device.type):
            projected = projection.run(queries, keys, self.size.chunk_size)
            read = value_memory.run(queries, keys, values, self.size.chunk_size, is_empty)
        gates = self.memory.gate(read, projected).sigmoid()
        mixed = mixed.transpose(1, 2).reshape(x.shape) * gates.to(mixed.dtype)
        x = self.mlp(x + self.dropout(self.project(mixed)))
        recent = recent[:, :, :, max(0, recent.shape[3] - self.size.window + 1) :]
        tail = torch.cat([tail, inputs], dim=1)[:, -len(TAPS) :]
        return x, BlockState(projection.M_t, projection.norm_sum, value_memory.sums, recent, tail), gates

    def _memories(self, state: BlockState) -> tuple[QKProjection, ValueMemory]:
        projection = QKProjection(self.memory.persistent, state.keys, state.norm)
        return projection, ValueMemory(state.sums, self.memory.num_carried)


class MemoryState(NamedTuple):
    """States of all blocks, and the number of positions so far."""

    blocks: tuple[BlockState, ...]
    position: int

    def rows(self, rows: Tensor) -> "MemoryState":
        """The state of the sequences with these indices."""
        return self._replace(blocks=tuple(block.rows(rows) for block in self.blocks))

    @property
    def bytes(self) -> int:
        """Size of the state in bytes, constant from the end of the first window on."""
        return sum(part.numel() * part.element_size() for block in self.blocks for part in vars(block).values())


class MemoryStack(nn.Module):
    """`AtlasMAGBlock`s and a final norm, in place of a `Transformer`; shards count from the first position."""

    def __init__(self, width: int, num_layers: int, num_heads: int, dropout: float, size: MemorySize) -> None:
        super().__init__()
        self.size = size
        self.rotary = RotaryEmbedding(head_size(width, num_heads, even=True), torch.float64)
        self.blocks = nn.ModuleList(
            AtlasMAGBlock(width, num_heads, dropout, size, num_layers) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)

    @property
    def reach(self) -> int:
        """Receptive field in positions without the memories."""
        return len(self.blocks) * (self.size.window - 1 + len(TAPS) - 1) + 1

    def initial_state(self, batch_size: int) -> MemoryState:
        """States of all blocks before the first position."""
        return MemoryState(tuple(cast(AtlasMAGBlock, block).initial_state(batch_size) for block in self.blocks), 0)

    def forward(self, x: Tensor) -> Tensor:
        """Run a whole sequence `[B, T, D]` shard by shard to `[B, T, D]`."""
        state, parts = self.initial_state(len(x)), []
        for part in shards(0, x.shape[1], self.size.shard_length):
            y, state, _ = self.run(x[:, part], state)
            parts.append(y)
        return torch.cat(parts, dim=1)

    def run(self, x: Tensor, state: MemoryState) -> tuple[Tensor, MemoryState, Tensor]:
        """Run positions `[B, T, D]` of one shard, which they may begin.

        Returns outputs `[B, T, D]`, the state after them, and gates `[layers, B, T, D]`.
        """
        is_new_shard = state.position > 0 and state.position % self.size.shard_length == 0
        rotation = self.rotary(state.position, x.shape[1], x.device)
        states, gates = [], []
        for block, before in zip(cast(list[AtlasMAGBlock], list(self.blocks)), state.blocks, strict=True):
            x, after, gate = block.run(
                x, block.at_boundary(before) if is_new_shard else before, rotation, state.position == 0
            )
            states.append(after)
            gates.append(gate)
        return self.norm(x), MemoryState(tuple(states), state.position + x.shape[1]), torch.stack(gates)


def shards(first: int, count: int, shard_length: int) -> list[slice]:
    """Slices of `count` positions from index `first` on, cut at shard boundaries."""
    inner = range((first // shard_length + 1) * shard_length, first + count, shard_length)
    edges = [0, *(edge - first for edge in inner), count]
    return [slice(start, stop) for start, stop in pairwise(edges) if start < stop]
