"""Single-position forward pass of blocks with memories, in few calls; see `steps`."""

from typing import cast

import torch
from torch import Tensor, nn

from distill.prior.decode.steps import FastLayerNorm, FastLinear, Lookahead, ResidualStep, rotation_factors
from distill.prior.memory.associative import feature_pairs
from distill.prior.memory.block import MIN_NORM, AtlasMAGBlock, BlockState, MemoryStack, MemoryState


class MemoryStep:
    """Single-position forward pass of an `AtlasMAGBlock`, with a state of B sequences that changes in place."""

    def __init__(self, block: AtlasMAGBlock) -> None:
        memory = block.memory
        self._block, self._memory, self._size = block, memory, block.size
        self._norm, self._mlp = FastLayerNorm(block.attention_norm), ResidualStep(block.mlp)
        input_weights = [block.attend.weight, memory.to_value.weight, memory.write.weight]
        bias = torch.cat(
            [memory.write.bias.new_zeros(len(input_weights[0]) + len(input_weights[1])), memory.write.bias]
        )
        self._up = FastLinear(torch.cat(input_weights), bias)
        self._address = FastLinear(torch.cat([memory.to_query.weight, memory.to_key.weight]))
        self._gate_up, self._gate_down = FastLinear(memory.up.weight), FastLinear(memory.down.weight, memory.down.bias)
        self._project = FastLinear(block.project.weight)
        persistent = memory.persistent
        self._persistent_keys, self._persistent_norm = persistent.m_persistent, persistent.norm_persistent
        self._first, self._second, self._weights = feature_pairs(self._size.key_size, persistent.keys.device)

    def load_state(self, state: BlockState, position: int) -> None:
        """Start from a state after `position` positions."""
        batch, _, heads, num_recent, head = state.recent.shape
        self._recent = state.recent.new_zeros(batch, 2, heads, self._size.window, head)
        positions = torch.arange(position - num_recent, position, device=state.recent.device) % self._size.window
        self._recent[:, :, :, positions] = state.recent
        self._keys, self._norms, self._sums = state.keys.clone(), state.norm.clone(), state.sums.clone()
        self._tail = state.tail.clone()
        self._key = self._addresses()[1]

    @property
    def bytes(self) -> int:
        """Size of the state in bytes."""
        return sum(part.numel() * part.element_size() for part in self._state())

    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences with these indices."""
        self._recent, self._keys, self._norms, self._sums, self._tail, self._key = (
            part[rows] for part in self._state()
        )

    def reset_shard(self) -> None:
        """Reset the sums that are not carried across shards."""
        self._keys.copy_(self._persistent_keys.expand_as(self._keys))
        self._norms.copy_(self._persistent_norm.expand_as(self._norms))
        self._sums[:, self._memory.num_carried :] = 0

    def __call__(self, x: Tensor, position: int, rotation: Tensor) -> Tensor:
        """`[B, D]` to `[B, D]`; `rotation` of `rotation_factors`."""
        batch, width = x.shape
        heads, head = self._block.num_heads, width // self._block.num_heads
        inputs = self._norm(x)
        projected_input = self._up(inputs).contiguous()
        query_key_value = projected_input[:, : 3 * width].reshape(batch, 3, heads, head)
        query_key_value = torch.addcmul(query_key_value * rotation[0], query_key_value.roll(head // 2, 3), rotation[1])
        self._recent.select(3, position % self._size.window).copy_(query_key_value.narrow(1, 1, 2))
        key, value = self._recent.narrow(3, 0, min(position + 1, self._size.window)).unbind(1)
        mixed = nn.functional.scaled_dot_product_attention(query_key_value.select(1, 0).unsqueeze(2), key, value)
        read, projected = self._memorise(
            inputs, projected_input[:, 3 * width : 4 * width], projected_input[:, 4 * width :]
        )
        gate_input, content = self._gate_up(torch.cat([read, projected], dim=1)).chunk(2, dim=1)
        gate = self._gate_down(nn.functional.silu(gate_input) * content).sigmoid_()
        return self._mlp(x + self._project(mixed.view(batch, width) * gate))

    def _memorise(self, inputs: Tensor, value: Tensor, write: Tensor) -> tuple[Tensor, Tensor]:
        """Write `value` `[B, D]` with strength `write` `[B, H]`; the values read `[B, D]` and the query `[B, H d]`."""
        batch, heads = write.shape
        self._tail = torch.cat([self._tail[:, 1:], inputs[:, None]], dim=1)
        previous_key = self._key
        query, self._key = self._addresses()
        pair = torch.stack([query, previous_key])
        query, key = pair
        query_features, key_features = pair[..., self._first] * (pair[..., self._second] * self._weights)
        value = value.reshape(batch, heads, -1)
        value = value * ((value.square().mean(dim=2, keepdim=True) + MIN_NORM).rsqrt() * write.sigmoid()[..., None])
        flat = (batch * heads, -1)
        sums = self._sums.view(*flat, value.shape[2])
        sums.baddbmm_(key_features.view(*flat, 1), value.view(batch * heads, 1, -1))
        read = torch.bmm(query_features.view(batch * heads, 1, -1), sums).view(batch, heads, -1)
        read = read * (read.square().mean(dim=2, keepdim=True) + 1.0).rsqrt()
        keys = self._keys.view(batch * heads, *self._keys.shape[2:])
        keys.baddbmm_(key.view(*flat, 1), key.view(batch * heads, 1, -1))
        self._norms += key.square().sum(dim=2)
        projected = (
            torch.bmm(keys, query.view(*flat, 1)).view(batch, heads, -1) / self._norms.clamp_min(MIN_NORM)[..., None]
        )
        projected = projected * (projected.square().mean(dim=2, keepdim=True) + MIN_NORM).rsqrt()
        return read.view(batch, -1), projected.view(batch, -1)

    def _addresses(self) -> tuple[Tensor, Tensor]:
        """The query after the last inputs and the key of the next value, both `[B, H, d]`."""
        context = (self._tail * self._memory.taps).sum(dim=1)
        pair = self._address(context).reshape(len(context), 2, self._block.num_heads, -1)
        query, key = nn.functional.normalize(pair, dim=3).unbind(1)
        return query, key

    def _state(self) -> tuple[Tensor, ...]:
        return self._recent, self._keys, self._norms, self._sums, self._tail, self._key


class MemoryDecoder:
    """Single-position forward pass of a `MemoryStack`, with the state of B sequences."""

    def __init__(self, stack: MemoryStack) -> None:
        self._steps = [MemoryStep(cast(AtlasMAGBlock, block)) for block in stack.blocks]
        self._norm, self._shard_length = FastLayerNorm(stack.norm), stack.size.shard_length
        self._rotation = Lookahead(
            lambda first, count: rotation_factors(stack.rotary, first, count).to(stack.norm.weight.dtype)
        )
        self._position = 0

    def load_state(self, state: MemoryState) -> None:
        """Start from this state."""
        self._position = state.position
        for step, block in zip(self._steps, state.blocks, strict=True):
            step.load_state(block, state.position)

    def __call__(self, x: Tensor, position: int | None = None) -> Tensor:  # noqa: ARG002
        """Advance by one position, `x` `[B, D]`; hidden state `[B, D]`."""
        rotation = self._rotation.at(self._position)
        is_new_shard = self._position and self._position % self._shard_length == 0
        for step in self._steps:
            if is_new_shard:
                step.reset_shard()
            x = step(x, self._position, rotation)
        self._position += 1
        return self._norm(x)

    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences with these indices."""
        for step in self._steps:
            step.keep(rows)

    @property
    def bytes(self) -> int:
        """Size of the state in bytes, the same for sequences of any length."""
        return sum(step.bytes for step in self._steps)
