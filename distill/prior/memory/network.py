"""`architecture: memory`: as `frame`, with windowed attention, long memories and retrieval."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from distill.codes.sequences import NUM_SPECIAL_TOKENS
from distill.prior.frame.network import FramePrior, FrameState, Tables
from distill.prior.memory.block import LongMemory, MemoryStack, MemoryState, shards
from distill.prior.memory.config import MemoryShape
from distill.prior.memory.gates import Gates
from distill.prior.memory.retrieval import Found, Retrieval, RetrievalIndex, RetrievalState

KEPT_SHARDS = 4  # longer sequences recompute activations for the backward pass


class Memories(NamedTuple):
    """States of the blocks and of retrieval after the frames so far."""

    blocks: MemoryState
    retrieval: RetrievalState | RetrievalIndex


@dataclass(eq=False)
class MemoryFrameState(FrameState):
    """What a `MemoryPrior` needs of the frames so far; its size is bounded."""

    memories: Memories | None = None
    found: Found | None = None  # of retrieval, at each newest frame
    gates: Tensor | None = None  # [layers, B, T, D], of the newest shard

    def keep(self, rows: Tensor) -> None:
        """See `FrameState`."""
        assert self.memories is not None
        assert self.frames is not None
        blocks, retrieval = self.memories
        self.memories = Memories(blocks.rows(rows), retrieval.rows(rows))
        self.positions, self.frames = self.positions[rows], self.frames[rows]
        self.labels = None if self.labels is None else self.labels[rows]

    def expanded(self, count: int) -> "MemoryFrameState":
        """The state of one sequence, repeated."""
        state, rows = replace(self), torch.zeros(count, dtype=torch.int64)
        state.keep(rows)
        return state

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        assert self.memories is not None
        assert self.frames is not None
        frames = self.frames.numel() * self.frames.element_size()
        return self.memories.blocks.bytes + self.memories.retrieval.bytes + frames


class ShardOutput(NamedTuple):
    """Logits `[B, T, Q, V + 2]`, gates, and the memories after the last frame."""

    logits: Tensor
    gates: Gates
    memories: Memories


class MemoryPrior(FramePrior):
    """A `FramePrior` with a `MemoryStack` over frames and `Retrieval` of frames from earlier similar contexts.

    Attention sees `context_frames` frames. Sequences may have any length: the state has a constant size, but for the
    frames to retrieve, up to a limit. `gates`, with gradient, and `final_state` are those of the last `forward`.
    """

    gates: Gates
    final_state: MemoryState

    shape: MemoryShape

    def __init__(
        self,
        shape: MemoryShape,
        codewords: Tensor | None = None,
        dropout: float = 0.0,
        history_dropout: float = 0.0,
    ) -> None:
        """See `FramePrior`."""
        super().__init__(shape, codewords, dropout, history_dropout)
        self.span_frames = shape.span_frames
        self.retrieval = Retrieval(
            self.num_quantizers,
            self.codebook_size + NUM_SPECIAL_TOKENS,
            self.codebook_size,
            shape.hidden_size,
            shape.key_size,
            shape.context_frames,
        )

    def _build_stack(self, dropout: float) -> nn.Module:
        shape = self.shape
        return MemoryStack(shape.hidden_size, shape.num_layers, shape.num_heads, dropout, shape.memory)

    @property
    def memories(self) -> MemoryStack:
        """The stack of blocks over frames."""
        return cast(MemoryStack, self.stack)

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor,
        positions: Tensor,
        labels: Tensor | None = None,
        folds: Tensor | None = None,
    ) -> Tensor:
        """See `Prior`. T may be more than `span_frames`."""
        tables, memories, outputs = self.tables(), self._memories(len(inputs)), []
        parts = shards(0, inputs.shape[1], self.memories.size.shard_length)
        recompute = torch.is_grad_enabled() and len(parts) > KEPT_SHARDS
        for part in parts:
            arguments = (tables, memories, inputs, targets, positions, labels, folds, part)
            output: ShardOutput = (
                checkpoint(self._shard, *arguments, use_reentrant=False) if recompute else self._shard(*arguments)
            )
            memories = output.memories
            outputs.append(output)
        self.gates, self.final_state = outputs[0].gates, memories.blocks
        for output in outputs[1:]:
            self.gates = self.gates.merge(output.gates)
        return torch.cat([output.logits for output in outputs], dim=1)

    def _shard(
        self,
        tables: Tables,
        memories: Memories,
        inputs: Tensor,
        targets: Tensor,
        positions: Tensor,
        labels: Tensor | None,
        folds: Tensor | None,
        part: slice,
    ) -> ShardOutput:
        before = inputs[:, max(0, part.start - self.context_frames - 1) : part.start]
        # As with the other memories no gradient crosses the shard boundary.
        assert isinstance(memories.retrieval, RetrievalState)
        memories = memories._replace(retrieval=memories.retrieval.constant())
        state = MemoryFrameState(tables, positions, labels, folds, count=part.start, frames=before, memories=memories)
        self.advance(inputs[:, part], state)
        logits = self.logits(targets[:, part], state)
        assert state.gates is not None
        assert state.memories is not None
        return ShardOutput(logits, Gates.of(state.gates), state.memories)

    def window_start(self, frames: int) -> int:  # noqa: ARG002
        """See `Prior`. There is one window, which never ends."""
        return 0

    def start(self, batch_size: int, labels: Tensor | None = None, position: int = 0) -> MemoryFrameState:
        """See `Prior`."""
        positions = torch.full((batch_size,), position, device=self.bias.device)
        ahead, memories = self._positions_ahead(), self._memories(batch_size)
        no_frames = positions[:, None, None].expand(-1, 0, self.num_quantizers)
        tables = self.tables()
        return MemoryFrameState(
            tables,
            positions,
            labels,
            layers=self.layers(tables),
            scores=self.pointer_mixture.scores(self.context_frames + 2, self.context_frames),
            ahead=ahead,
            position=position,
            frames=no_frames,
            memories=memories,
        )

    def _memories(self, batch_size: int) -> Memories:
        """Memories before the first frame."""
        return Memories(self.memories.initial_state(batch_size), self.retrieval.initial_state(batch_size))

    def advance(self, frames: Tensor, state: Any, newest: int | None = None) -> None:
        """See `Prior`. The newest frames must be in one shard."""
        newest, reach = newest or frames.shape[1], self.context_frames
        for part in shards(state.count, frames.shape[1], self.memories.size.shard_length):
            inputs = frames[:, part]
            hidden, blocks, state.gates = self.memories.run(self.embed(inputs, state), state.memories.blocks)
            retrieval, state.found = self.retrieval.advance(
                state.tables.input,
                inputs,
                state.memories.retrieval,
                min(newest, inputs.shape[1]),
                state.ahead is not None,
            )
            state.memories = Memories(blocks, retrieval)
            state.count += inputs.shape[1]
            state.frames = torch.cat([state.frames[:, -reach - 1 :], inputs], dim=1)
        self._count(frames[:, -newest:], state)
        state.hidden = self.to_depth(hidden[:, -newest:])
        state.history = self.pointer_mixture.history(
            state.frames[:, -reach - newest - 1 :], newest, reach, state.scores
        )

    def _retrieved(self, codes: Tensor, state: FrameState, levels: slice) -> Tensor:
        """Retrieval weights `[B, T, L, V + 2]`."""
        assert isinstance(state, MemoryFrameState)
        return self.retrieval.weights(state.found, codes, levels)


@contextmanager
def ablated(network: nn.Module) -> Iterator[None]:
    """Ablate all memories and retrieval of a network within the context."""
    memories = [part for part in network.modules() if isinstance(part, LongMemory | Retrieval)]
    for memory in memories:
        memory.ablated = True
    try:
        yield
    finally:
        for memory in memories:
            memory.ablated = False
