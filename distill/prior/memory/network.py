"""`architecture: memory`: `frame` plus sliding-window attention, long memories and retrieval."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from distill.codes.sequences import Batch
from distill.prior.frame import FramePrior, FrameState
from distill.prior.memory.block import BlockState, LongMemory, MemoryShape, MemoryStack, shards
from distill.prior.memory.retrieval import Found, Retrieval, RetrievalIndex, RetrievalState

KEPT_SHARDS = 4  # sequences with more shards recompute activations in the backward pass

# The two mechanisms of memory: the memories of the blocks, and retrieval by hashing.
Mechanisms = frozenset[type[nn.Module]]
BLOCKS: Mechanisms = frozenset({LongMemory})
RETRIEVAL: Mechanisms = frozenset({Retrieval})


@dataclass(eq=False, kw_only=True)
class MemoryFrameState(FrameState):
    """State of a `MemoryPrior` after the frames so far; its size is bounded."""

    blocks: list[BlockState]
    retrieval: RetrievalState | RetrievalIndex
    found: Found | None = None  # retrieved frames, at each newest frame

    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences with these indices, or repeat them."""
        self.blocks, self.retrieval = (
            [block.rows(rows) for block in self.blocks],
            self.retrieval.rows(rows),
        )
        super().keep(rows)


class MemoryPrior(FramePrior):
    """A `FramePrior` with a `MemoryStack` over frames and `Retrieval` of frames from earlier similar contexts.

    Attention spans `context_frames`. Sequences may have any length: the state has a constant size, except for the
    frames to retrieve, which are limited. `gates` `[layers, B, T, D]`, with gradient, come from the last `forward`.
    """

    gates: Tensor
    shape: MemoryShape
    stack: MemoryStack

    def __init__(self, shape: MemoryShape, *more: Any) -> None:
        """See `FramePrior`."""
        super().__init__(shape, *more)
        self.span_frames = shape.span_frames
        self.retrieval = Retrieval(shape)

    def _build_stack(self, dropout: float) -> nn.Module:
        return MemoryStack(self.shape, dropout)

    def forward(self, batch: Batch) -> Tensor:
        """See `Prior`. T may be more than `span_frames`."""
        state, logits, gates = self._state(batch.positions, batch.labels, batch.folds), [], []
        parts = shards(0, batch.inputs.shape[1], self.shape.shard_length)
        for part in parts:
            run = partial(self._run_shard, batch.inputs[:, part], batch.targets[:, part])
            if torch.is_grad_enabled() and len(parts) > KEPT_SHARDS:
                output, state = checkpoint(run, state, use_reentrant=False)
            else:
                output, state = run(state)
            logits.append(output)
            gates.append(torch.stack([block.gates for block in state.blocks]))
        self.gates = torch.cat(gates, dim=2)
        return torch.cat(logits, dim=1)

    def _run_shard(
        self, inputs: Tensor, targets: Tensor, before: MemoryFrameState
    ) -> tuple[Tensor, MemoryFrameState]:
        """Logits of one shard and the state after it. No gradient crosses the boundary."""
        assert isinstance(before.retrieval, RetrievalState)
        state = replace(
            before, retrieval=RetrievalState(*(part.detach() for part in before.retrieval))
        )
        self.advance(inputs, state)
        return self.logits(targets, state), state

    def window_start(self, frames: int) -> int:  # noqa: ARG002
        """See `Prior`. A single window holds the whole sequence."""
        return 0

    def _state(
        self, positions: Tensor, labels: Tensor | None, folds: Tensor | None = None
    ) -> MemoryFrameState:
        batch = len(positions)
        return MemoryFrameState(
            **vars(super()._state(positions, labels, folds)),
            blocks=self.stack.initial_state(batch),
            retrieval=self.retrieval.initial_state(batch),
        )

    def advance(self, frames: Tensor, state: Any, newest: int | None = None) -> None:
        """See `Prior`. The newest frames must be in one shard."""
        newest, reach = newest or frames.shape[1], self.context_frames
        one_by_one = frames.shape[1] == 1 and state.layers is not None
        for part in shards(state.count, frames.shape[1], self.shape.shard_length):
            inputs = frames[:, part]
            hidden, state.blocks = self.stack(self.embed(inputs, state), state.blocks, state.count)
            state.retrieval, state.found = self.retrieval.advance(
                state.tables.input,
                inputs,
                state.retrieval,
                min(newest, inputs.shape[1]),
                one_by_one,
            )
            state.count += inputs.shape[1]
            state.frames = torch.cat([state.frames[:, -reach - 1 :], inputs], dim=1)
        state.newest, state.hidden = frames[:, -newest:], self.to_depth(hidden[:, -newest:])
        recent = state.frames[:, -reach - newest - 1 :]
        state.history = self.pointer_mixture.history(recent, newest, reach)

    def _retrieved(self, codes: Tensor, state: FrameState, levels: slice) -> Tensor:
        """Retrieval weights `[B, T, L, V + 2]`."""
        assert isinstance(state, MemoryFrameState)
        assert state.found is not None
        return self.retrieval.weights(state.found, codes, levels)


@contextmanager
def ablated(network: nn.Module, mechanisms: Mechanisms = BLOCKS | RETRIEVAL) -> Iterator[None]:
    """Ablate the given mechanisms of a network's memory (default: both) within the context."""
    every = (part for part in network.modules() if isinstance(part, LongMemory | Retrieval))
    memories = [part for part in every if type(part) in mechanisms]
    for memory in memories:
        memory.ablated = True
    try:
        yield
    finally:
        for memory in memories:
            memory.ablated = False
