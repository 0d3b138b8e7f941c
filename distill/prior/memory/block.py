"""Blocks with sliding-window attention and a long memory, with a state of constant size.

Values retrieved from the memory gate the output of attention (memory as a gate: Behrouz et al. 2025, Titans,
section 4.2). The memory has two parts.

- The key matrix `M_t = M_p + sum k k'` projects queries: `q' = M_t q / n_t` with `n_t = n_p + sum |k|^2`. Each shard
  resets both sums to `M_p` and `n_p`, computed from persistent keys (Li et al. 2025, TNT). The trace of `M_t` is `n_t`,
  so the norm of `q'` does not grow with the number of keys.
- The value matrix `S_t = sum phi(k) v'` holds the values to retrieve. Each shard resets some of its heads; the others
  keep the values of earlier shards, as constants.

No gradient crosses a shard boundary, neither through the window nor through the memories.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from distill.codes.store import CodesConfig
from distill.errors import ParamsError
from distill.params import ChunkSize, KeySize, PriorConfig, ShardLength
from distill.prior.attention import window_attention, without_autocast
from distill.prior.frame import DepthShape
from distill.prior.transformer import INIT_STD, Block, RotaryEmbedding, Rotation, initialise

DEGREE = 2  # of the feature map of keys; keys of size 32 can address 100 distinct values
TAPS = (0.1, 0.2, 0.4, 1.0)  # initial weights of the last positions in a key or query, newest last
MIN_NORM = 1e-8
WINDOWS_PER_SHARD = 8  # minimum: gradients stop at shard boundaries


class MemoryShape(DepthShape):
    """`PriorShape` of a `MemoryPrior`. Lengths are in frames, `key_size` in features.

    Attention spans `context_frames`; `span_frames` is the longest training sequence.
    """

    architecture: Literal["memory"] = "memory"
    shard_length: ShardLength
    chunk_size: ChunkSize
    key_size: KeySize
    span_frames: Annotated[int, Field(ge=1, le=1 << 24)]

    @classmethod
    def of(
        cls,
        settings: PriorConfig,
        codes: CodesConfig,
        codeword_size: int,
        labels: Sequence[str] = (),
    ) -> Self:
        """See `PriorShape`. Raises ParamsError if the context is longer than an eighth of a shard."""
        shape = super().of(settings, codes, codeword_size, labels)
        if WINDOWS_PER_SHARD * shape.context_frames > shape.shard_length:
            seconds = shape.shard_length / WINDOWS_PER_SHARD / codes.frame_rate
            raise ParamsError(
                f"prior.context_seconds: expected at most {seconds:.1f} for architecture memory, an "
                f"{WINDOWS_PER_SHARD}th of prior.memory.shard_length ({shape.shard_length} frames), found "
                f"{shape.context_frames / codes.frame_rate:.1f}; shorten it or raise prior.memory.shard_length"
            )
        return shape


def features(x: Tensor, degree: int) -> Tensor:
    """Polynomial feature map: `features(x) . features(y) = (x . y) ** degree`.

    Maps `x` `[..., d]` to itself for degree 1, and to its `d (d + 1) / 2` scaled monomials for degree 2 (Behrouz et
    al. 2025, Atlas, section 3.1, without lower degrees).
    """
    if degree == 1:
        return x
    size = x.shape[-1]
    scaled, doubled = x * 2**0.5, torch.cat([x, x], dim=-1)
    products = [scaled * doubled[..., shift : shift + size] for shift in range(1, (size + 1) // 2)]
    halves = [scaled[..., : size // 2] * x[..., size // 2 :]] if size % 2 == 0 else []
    return torch.cat([x * x, *products, *halves], dim=-1)


def associate(
    query: Tensor, key: Tensor, value: Tensor, memory: Tensor, chunk_size: int, degree: int
) -> tuple[Tensor, Tensor]:
    """Write and read a memory at every position: `S_t = S_(t - 1) + phi(k_t) v_t'`, `o_t = phi(q_t)' S_t`.

    Queries and keys are `[..., T, d]`, values `[..., T, e]`, and the initial memory `[..., features, e]`. Returns the
    values read `[..., T, e]` and the final memory. The chunkwise form of linear attention (Yang et al. 2024, GLA,
    section 4) has no loop over positions; `chunk_size` affects only rounding.
    """
    memory = memory.to(value.dtype)  # may be bf16, if computed under autocast
    if query.shape[-2] == 1 and torch.is_inference_mode_enabled():
        # In sampling the memory changes in place: copying it would take most of the time.
        flat = memory.flatten(0, -3).baddbmm_(
            features(key, degree).flatten(0, -3).mT, value.flatten(0, -3)
        )
        memory = flat.unflatten(0, key.shape[:-2])
        return features(query, degree) @ memory, memory
    run = chunk_by_chunk if query.device.type == "cpu" else chunks_in_parallel
    return run(query, key, value, memory, chunk_size, degree)


def chunk_by_chunk(
    query: Tensor, key: Tensor, value: Tensor, memory: Tensor, chunk_size: int, degree: int
) -> tuple[Tensor, Tensor]:
    """`associate` with a loop over chunks, which keeps memories in a CPU's cache."""
    parts = (query, key, value, features(query, degree), features(key, degree))
    read = []
    for q, k, v, q_features, k_features in zip(
        *(part.split(chunk_size, dim=-2) for part in parts), strict=True
    ):
        read.append(_read_within(q, k, v, degree) + q_features @ memory)
        memory = memory + k_features.mT @ v
    return torch.cat(read, dim=-2), memory


def chunks_in_parallel(
    query: Tensor, key: Tensor, value: Tensor, memory: Tensor, chunk_size: int, degree: int
) -> tuple[Tensor, Tensor]:
    """`associate` with all chunks in parallel, for few kernel launches on a GPU."""
    length = query.shape[-2]
    padding = (0, 0, 0, -length % chunk_size)  # zeros add nothing to a memory
    query, key, value = (
        nn.functional.pad(part, padding).unflatten(-2, (-1, chunk_size))
        for part in (query, key, value)
    )
    written = features(key, degree).mT @ value  # [..., chunks, features, e]
    memories = torch.cat([memory[..., None, :, :], written], dim=-3).cumsum(dim=-3)
    read = (
        _read_within(query, key, value, degree) + features(query, degree) @ memories[..., :-1, :, :]
    )
    return read.flatten(-3, -2)[..., :length, :], memories[..., -1, :, :]


def _read_within(query: Tensor, key: Tensor, value: Tensor, degree: int) -> Tensor:
    """Values that each position reads from the positions up to itself in the same chunk."""
    scores = query @ key.mT
    return scores.pow(degree).tril() @ value


def sum_of_taps(inputs: Tensor, taps: Tensor) -> Tensor:
    """Depthwise causal convolution: `[B, taps - 1 + T, D]` to `[B, T, D]`."""
    length = inputs.shape[1] - len(taps) + 1
    return torch.stack(
        [inputs[:, tap : tap + length] * weight for tap, weight in enumerate(taps)]
    ).sum(dim=0)


class BlockState(NamedTuple):
    """State of a block after the positions so far. In sampling `matrix` and `values` change in place."""

    matrix: Tensor  # [B, H, d, d], M_t
    norm: Tensor  # [B, H], n_t
    values: Tensor  # [B, H, d (d + 1) / 2, D / H], S_t
    recent: Tensor  # [B, 2, H, P, D / H], keys and values of the last positions, at most window - 1
    tail: Tensor  # [B, 4, D], the last inputs of the memory
    gates: Tensor  # [B, T, D], at the newest positions

    def rows(self, rows: Tensor) -> "BlockState":
        """State of the sequences with these indices."""
        return BlockState(*(part[rows] for part in self))


class PersistentMemory(nn.Module):
    """Learnt keys `[H, num_keys, d]` at the start of every shard."""

    def __init__(self, num_heads: int, key_size: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(num_heads, 64, key_size) / key_size**0.5)


def project(
    query: Tensor, key: Tensor, sums: tuple[Tensor, Tensor], chunk_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Add keys `[B, H, T, d]` of a shard to `sums`, `M_t` and `n_t`, and project each query onto the keys so far.

    Returns the projected queries `[B, H, T, d]` and both new sums.
    """
    projected, matrix = associate(query, key, key, sums[0], chunk_size, 1)
    norms = sums[1][..., None] + key.square().sum(dim=-1).cumsum(dim=-1)
    return projected / norms.clamp_min(MIN_NORM)[..., None], matrix, norms[..., -1]


class LongMemory(nn.Module):
    """Memory of a block, which turns values retrieved from earlier positions into gates.

    The key of a value is computed from the positions before it, so a query from similar positions retrieves their
    continuation. Half of the heads keep the values of earlier shards.
    """

    def __init__(self, shape: MemoryShape) -> None:
        super().__init__()
        self.num_heads, self.key_size, self.chunk_size = (
            shape.num_heads,
            shape.key_size,
            shape.chunk_size,
        )
        width, key_width = shape.hidden_size, shape.num_heads * shape.key_size
        self.taps = nn.Parameter(torch.tensor(TAPS)[:, None].repeat(1, width))
        self.to_query = nn.Linear(width, key_width, bias=False)
        self.to_key = nn.Linear(width, key_width, bias=False)
        self.to_value = nn.Linear(width, width, bias=False)
        self.write = nn.Linear(width, shape.num_heads)
        self.persistent = PersistentMemory(shape.num_heads, shape.key_size)
        self.up = nn.Linear(width + key_width, 2 * width, bias=False)
        self.down = nn.Linear(width, width)
        self.ablated = False  # if True, reads return zeros
        for part in (self.to_query, self.to_value, self.write):
            nn.init.normal_(part.weight, std=INIT_STD)
        self.to_key.load_state_dict(
            self.to_query.state_dict()
        )  # similar positions match from the first step on
        for part in (self.up, self.down):  # gates depend on the memory from the first step on
            nn.init.normal_(part.weight, std=part.weight.shape[1] ** -0.5)
        nn.init.constant_(self.down.bias, 2.0)  # gates start open

    def initial_state(self, batch_size: int) -> BlockState:
        """State before the first position."""
        new, width = self.taps.new_zeros, self.taps.shape[1]
        heads, key_size = self.num_heads, self.key_size
        return BlockState(
            new(batch_size, heads, key_size, key_size),
            new(batch_size, heads),
            new(batch_size, heads, key_size * (key_size + 1) // 2, width // heads),
            new(batch_size, 2, heads, 0, width // heads),
            new(batch_size, len(TAPS), width),
            new(batch_size, 0, width),
        )

    def begin_shard(self, state: BlockState) -> BlockState:
        """Turn the state at the end of a shard into the state at the start of the next."""
        keys = self.persistent.keys
        is_carried = torch.arange(self.num_heads, device=keys.device) < (self.num_heads + 1) // 2
        return state._replace(
            matrix=(keys.mT @ keys).expand_as(state.matrix),
            norm=keys.square().sum(dim=(1, 2)).expand_as(state.norm),
            values=state.values.detach() * is_carried[:, None, None],
            recent=state.recent.detach(),
            tail=state.tail.detach(),
        )

    def forward(self, x: Tensor, state: BlockState) -> BlockState:
        """Write inputs `[B, T, D]` of one shard to the memory and return the new state, with their gates."""
        inputs, chunk_size = torch.cat([state.tail.to(x.dtype), x], dim=1), self.chunk_size
        query, key, value = self._addresses(x, sum_of_taps(inputs, self.taps))
        with without_autocast(x.device.type):
            projected, matrix, norm = project(query, key, (state.matrix, state.norm), chunk_size)
            read, values = associate(query, key, value, state.values, chunk_size, DEGREE)
        gates = self._gate_logits(read, projected).sigmoid()
        return BlockState(matrix, norm, values, state.recent, inputs[:, -len(TAPS) :], gates)

    def _addresses(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys `[B, H, T, d]`, values `[B, H, T, D / H]`. `x`: `[B, T, D]`; `context`: `[B, 1 + T, D]`."""
        dtype = self.taps.dtype  # of the parameters, also under autocast
        query, key = (
            self._heads(self.to_query(context[:, 1:])),
            self._heads(self.to_key(context[:, :-1])),
        )
        value = self._heads(self.to_value(x)).to(dtype)
        value = value * (value.square().mean(dim=-1, keepdim=True) + MIN_NORM).rsqrt()
        strength = self.write(x).to(dtype).sigmoid().transpose(1, 2)[..., None]
        normalize = nn.functional.normalize
        return (
            normalize(query.to(dtype), dim=-1),
            normalize(key.to(dtype), dim=-1),
            value * strength,
        )

    def _gate_logits(self, values: Tensor, queries: Tensor) -> Tensor:
        """Gate logits `[B, T, D]` from retrieved values `[B, H, T, D / H]` and projected queries `[B, H, T, d]`."""
        if self.ablated:
            values, queries = torch.zeros_like(values), torch.zeros_like(queries)
        values = values * (values.square().mean(dim=-1, keepdim=True) + 1.0).rsqrt()
        queries = queries * (queries.square().mean(dim=-1, keepdim=True) + MIN_NORM).rsqrt()
        read = torch.cat(
            [values.transpose(1, 2).flatten(2), queries.transpose(1, 2).flatten(2)], dim=2
        )
        gate_input, content = self.up(read).chunk(2, dim=2)
        return cast(Tensor, self.down(nn.functional.silu(gate_input) * content))

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)


class AtlasMAGBlock(Block):
    """Sliding-window attention gated by a memory, `attention * sigmoid(f(memory))`, and an MLP."""

    def __init__(self, shape: MemoryShape, dropout: float) -> None:
        super().__init__(shape.hidden_size, shape.num_heads, dropout)
        self.window = shape.context_frames
        initialise(self, shape.num_layers)
        self.memory = LongMemory(shape)

    def run(self, x: Tensor, state: BlockState, rotation: Rotation) -> tuple[Tensor, BlockState]:
        """Map positions `[B, T, D]` of one shard to outputs `[B, T, D]` and the state after them."""
        inputs = self.attention_norm(x)
        query, key, value = self.heads(inputs, rotation)
        recent = torch.cat([state.recent.to(key.dtype), torch.stack([key, value], dim=1)], dim=3)
        mixed = (
            window_attention(query, recent[:, 0], recent[:, 1], self.window)
            .transpose(1, 2)
            .reshape(x.shape)
        )
        state = self.memory(inputs, state)
        x = self.mlp(x + self.dropout(self.project(mixed * state.gates.to(mixed.dtype))))
        return x, state._replace(
            recent=recent[:, :, :, max(0, recent.shape[3] - self.window + 1) :]
        )


class MemoryStack(nn.Module):
    """`AtlasMAGBlock`s and a final norm, in place of a `Transformer`; shards count from the first position."""

    def __init__(self, shape: MemoryShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.rotary = RotaryEmbedding(shape.hidden_size // shape.num_heads, torch.float64)
        self.blocks = nn.ModuleList(AtlasMAGBlock(shape, dropout) for _ in range(shape.num_layers))
        self.norm = nn.LayerNorm(shape.hidden_size)

    @property
    def reach(self) -> int:
        """Receptive field without the memories, in positions."""
        return len(self.blocks) * (self.shape.context_frames - 1 + len(TAPS) - 1) + 1

    def initial_state(self, batch_size: int) -> list[BlockState]:
        """States of all blocks before the first position."""
        return [
            cast(AtlasMAGBlock, block).memory.initial_state(batch_size) for block in self.blocks
        ]

    def forward(
        self, x: Tensor, states: Sequence[BlockState], position: int
    ) -> tuple[Tensor, list[BlockState]]:
        """Run positions `[B, T, D]` of one shard, from index `position` on. Returns `[B, T, D]` and the new states."""
        rotation, after = self.rotary(position, x.shape[1], x.device), []
        for block, state in zip(cast(list[AtlasMAGBlock], list(self.blocks)), states, strict=True):
            before = (
                block.memory.begin_shard(state)
                if position % self.shape.shard_length == 0
                else state
            )
            x, state = block.run(x, before, rotation)
            after.append(state)
        return self.norm(x), after


def shards(first: int, count: int, shard_length: int) -> list[slice]:
    """Slices of `count` positions from index `first` on, cut at shard boundaries."""
    inner = range((first // shard_length + 1) * shard_length, first + count, shard_length)
    edges = [0, *(edge - first for edge in inner), count]
    return [slice(start, stop) for start, stop in pairwise(edges) if start < stop]
