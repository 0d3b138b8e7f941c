"""`architecture: memory`: as `frame`, with windowed attention, long memories and retrieval."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from distill.codes.sequences import NUM_SPECIAL_TOKENS
from distill.prior.frame.network import FramePrior, Tables
from distill.prior.memory.block import LongMemory, MemoryStack, MemoryState, shards
from distill.prior.memory.config import MemoryShape
from distill.prior.memory.gates import Gates
from distill.prior.memory.retrieval import Retrieval, RetrievalState

KEPT_SHARDS = 4  # longer sequences recompute activations for the backward pass


class PriorState(NamedTuple):
    """State of a `MemoryPrior` after the frames so far."""

    memories: MemoryState
    retrieval: RetrievalState

    def expand(self, count: int) -> "PriorState":
        """Repeat the state of one sequence `count` times."""
        rows = torch.zeros(count, dtype=torch.int64)
        blocks = tuple(block.rows(rows) for block in self.memories.blocks)
        retrieval = RetrievalState(*(part[rows] for part in self.retrieval))
        return PriorState(self.memories._replace(blocks=blocks), retrieval)


class PriorOutput(NamedTuple):
    """Logits `[B, T, Q, V + 2]`, gates, and the state after the last frame."""

    logits: Tensor
    gates: Gates
    state: PriorState


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
        output = self.forward_shards(inputs, targets, positions, labels, folds)
        self.gates, self.final_state = output.gates, output.state.memories
        return output.logits

    def initial_state(self, batch_size: int) -> PriorState:
        """State before the first frame."""
        return PriorState(self.memories.initial_state(batch_size), self.retrieval.initial_state(batch_size))

    def advance(self, state: PriorState, inputs: Tensor, count: int, labels: Tensor | None = None) -> PriorState:
        """State after all but the last of `inputs` `[B, T, Q]`, from `state` `count` frames earlier."""
        first = inputs.shape[1] - 1 - count
        tables, positions = self.tables(), torch.zeros_like(inputs[:, 0, 0])
        key_table = self.retrieval.table(tables.input)
        for part in shards(first, count, self.memories.size.shard_length):
            window = slice(first + part.start, first + part.stop)
            x = self.embed(tables, inputs[:, window], positions + window.start, labels)
            memories = self.memories.run(x, state.memories)[1]
            state = PriorState(memories, self.retrieval.update(key_table, inputs[:, window], state.retrieval))
        return state

    def forward_shards(
        self,
        inputs: Tensor,
        targets: Tensor,
        positions: Tensor,
        labels: Tensor | None = None,
        folds: Tensor | None = None,
    ) -> PriorOutput:
        """Run a whole sequence shard by shard; arguments as for `forward`."""
        tables, state = self.tables(), self.initial_state(len(inputs))
        parts = shards(0, inputs.shape[1], self.memories.size.shard_length)
        recompute = torch.is_grad_enabled() and len(parts) > KEPT_SHARDS
        outputs = []
        for part in parts:
            arguments = (tables, state, inputs, targets, positions, labels, folds, part)
            output: PriorOutput = (
                checkpoint(self._shard, *arguments, use_reentrant=False) if recompute else self._shard(*arguments)
            )
            state = output.state
            outputs.append(output)
        gates = outputs[0].gates
        for output in outputs[1:]:
            gates = gates.merge(output.gates)
        return PriorOutput(torch.cat([output.logits for output in outputs], dim=1), gates, state)

    def _shard(
        self,
        tables: Tables,
        state: PriorState,
        inputs: Tensor,
        targets: Tensor,
        positions: Tensor,
        labels: Tensor | None,
        folds: Tensor | None,
        part: slice,
    ) -> PriorOutput:
        reach = self.context_frames
        prefix = inputs[:, max(0, part.start - reach - 1) : part.start]
        inputs, targets = inputs[:, part], targets[:, part]
        x = self.embed(tables, inputs, positions + part.start, labels)
        hidden, memories, gates = self.memories.run(x, state.memories)
        logits, depth_hidden = self.network_logits(tables, self.to_depth(hidden), inputs, targets, labels, folds)
        # As with the other memories no gradient crosses the shard boundary.
        key_table = self.retrieval.table(tables.input)
        retrieved, retrieval = self.retrieval.run(key_table, inputs, targets, state.retrieval.constant())
        mixed = self.pointer_mixture.forward_windowed(logits, depth_hidden, inputs, targets, prefix, reach, retrieved)
        return PriorOutput(mixed + self.impossible[:, 0], Gates.of(gates), PriorState(memories, retrieval))

    def candidate_logits(self, state: PriorState, inputs: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and retrieval weights, both `[B, N, Q, V + 2]`, of N candidates for the next frame.

        `candidates` `[B, N, Q]` may follow `inputs` `[B, T, Q]`; `state` is that after all but the last input.
        """
        tables, last = self.tables(), inputs[:, -1:]
        positions = torch.full_like(last[:, 0, 0], state.memories.position)
        x = self.embed(tables, last, positions, None)
        hidden = self.to_depth(self.memories.run(x, state.memories)[0])
        retrieved = self.retrieval.candidate_weights(
            self.retrieval.table(tables.input), last, candidates, state.retrieval
        )
        logits, depth_hidden = self.network_logits(tables, hidden, last.expand_as(candidates), candidates, None, None)
        history = inputs[:, -self.context_frames - 1 :]
        mixed = self.pointer_mixture.forward_candidates(
            logits, depth_hidden, history, candidates, retrieved, self.context_frames
        )
        return mixed + self.impossible[:, 0], retrieved


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
