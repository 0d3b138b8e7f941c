"""`architecture: memory`: as `frame`, with a window of frames and a memory of those before in place of the transformer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from distill.codes.sequences import NUM_SPECIAL_TOKENS
from distill.prior.frame import FramePrior, Tables
from distill.prior.memory.block import LongMemory, MemorySize, MemoryStack, MemoryState, shards
from distill.prior.memory.gates import Gates
from distill.prior.memory.retrieval import Retrieval, RetrievalState
from distill.storage.weights import store_as

KEPT_SHARDS = 4  # in longer sequences what leads to gradients is computed twice, not kept


class PriorState(NamedTuple):
    """What is known of the frames so far."""

    memories: MemoryState
    retrieval: RetrievalState

    def expand(self, count: int) -> "PriorState":
        """Of as many sequences that begin like this one."""
        rows = torch.zeros(count, dtype=torch.int64)
        blocks = tuple(block.rows(rows) for block in self.memories.blocks)
        retrieval = RetrievalState(*(part[rows] for part in self.retrieval))
        return PriorState(self.memories._replace(blocks=blocks), retrieval)


class Guess(NamedTuple):
    """Logits `[B, T, Q, V + 2]`, the gates on the way there, and what is known in the end."""

    logits: Tensor
    gates: Gates
    state: PriorState


class MemoryPrior(FramePrior):
    """A `FramePrior` whose blocks see `context_frames` frames and remember those before, and which recollects frames that came
    after the like of what it hears: in a state that does not grow, but for the frames to recollect, up to a number.

    Sequences may be of any length. `gates` are those of the last call of `forward`, with gradient, and `known` is what its memories
    knew in the end.
    """

    gates: Gates
    known: MemoryState

    def __init__(
        self,
        codewords: Tensor,
        context_frames: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        depth_layers: int,
        num_labels: int,
        history_dropout: float,
        size: MemorySize,
        span_frames: int,
    ) -> None:
        def stack() -> MemoryStack:
            return MemoryStack(hidden_size, num_layers, num_heads, dropout, size)

        sizes = (context_frames, hidden_size, num_layers, num_heads, dropout, depth_layers, num_labels)
        super().__init__(codewords, *sizes, history_dropout, stack)
        self.span_frames = span_frames
        store_as(self, {"retrieval": "recollection"})
        vocabulary = self.codebook_size + NUM_SPECIAL_TOKENS
        self.retrieval = Retrieval(
            self.num_quantizers, vocabulary, self.codebook_size, hidden_size, size.key_size, context_frames
        )

    @property
    def memories(self) -> MemoryStack:
        """What goes over the frames."""
        return cast(MemoryStack, self.stack)

    def forward(self, inputs: Tensor, targets: Tensor, positions: Tensor, labels: Tensor | None = None) -> Tensor:
        """See `Prior`. T may be more than `span_frames`."""
        guess = self.guess(inputs, targets, positions, labels)
        self.gates, self.known = guess.gates, guess.state.memories
        return guess.logits

    def begin(self, batch_size: int) -> PriorState:
        """Before the first frame."""
        return PriorState(self.memories.begin(batch_size), self.retrieval.begin(batch_size))

    def go_on(self, state: PriorState, inputs: Tensor, count: int, labels: Tensor | None = None) -> PriorState:
        """The state that knows all but the last of `inputs` `[B, T, Q]`, after one that lacks `count` more."""
        first = inputs.shape[1] - 1 - count
        tables, positions = self.tables(), torch.zeros_like(inputs[:, 0, 0])
        keyed = self.retrieval.table(tables.input)
        for part in shards(first, count, self.memories.size.shard_length):
            whole = slice(first + part.start, first + part.stop)
            x = self.embedded(tables, inputs[:, whole], positions + whole.start, labels)
            memories = self.memories.run(x, state.memories)[1]
            state = PriorState(memories, self.retrieval.hear(keyed, inputs[:, whole], state.retrieval))
        return state

    def guess(self, inputs: Tensor, targets: Tensor, positions: Tensor, labels: Tensor | None = None) -> Guess:
        """Shard by shard, each from the state that the one before left."""
        tables, state = self.tables(), self.begin(len(inputs))
        parts = shards(0, inputs.shape[1], self.memories.size.shard_length)
        again = torch.is_grad_enabled() and len(parts) > KEPT_SHARDS
        guesses = []
        for part in parts:
            arguments = (tables, state, inputs, targets, positions, labels, part)
            guess: Guess = (
                checkpoint(self._shard, *arguments, use_reentrant=False) if again else self._shard(*arguments)
            )
            state = guess.state
            guesses.append(guess)
        gates = guesses[0].gates
        for guess in guesses[1:]:
            gates = gates.and_those(guess.gates)
        return Guess(torch.cat([guess.logits for guess in guesses], dim=1), gates, state)

    def _shard(
        self,
        tables: Tables,
        state: PriorState,
        inputs: Tensor,
        targets: Tensor,
        positions: Tensor,
        labels: Tensor | None,
        part: slice,
    ) -> Guess:
        reach = self.context_frames
        earlier = inputs[:, max(0, part.start - reach - 1) : part.start]
        inputs, targets = inputs[:, part], targets[:, part]
        x = self.embedded(tables, inputs, positions + part.start, labels)
        hidden, memories, gates = self.memories.run(x, state.memories)
        coarser = self.coarser(tables, targets)
        logits, deep = self.guesses(tables, self.to_depth(hidden), coarser)
        # As with the other memories no gradient goes further back than where the shard begins.
        keyed = self.retrieval.table(tables.input)
        far, retrieval = self.retrieval.run(keyed, inputs, targets, state.retrieval.constant())
        mixed = self.pointer_mixture.near(logits, deep, inputs, targets, earlier, reach, far)
        return Guess(mixed + self.impossible[:, 0], Gates.of(gates), PriorState(memories, retrieval))

    def weigh(self, state: PriorState, inputs: Tensor, choices: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each of the frames `choices` `[B, N, Q]` that may follow `inputs` `[B, T, Q]`, of which `state` knows all but
        the last, and what recollection makes of them: both `[B, N, Q, V + 2]`."""
        tables, last = self.tables(), inputs[:, -1:]
        positions = torch.full_like(last[:, 0, 0], state.memories.position)
        x = self.embedded(tables, last, positions, None)
        hidden = self.to_depth(self.memories.run(x, state.memories)[0])
        coarser = self.coarser(tables, choices)
        far = self.retrieval.read(self.retrieval.table(tables.input), last, choices, state.retrieval)
        logits, deep = self.guesses(tables, hidden, coarser)
        said = inputs[:, -self.context_frames - 1 :]
        mixed = self.pointer_mixture.of_choices(logits, deep, said, choices, far, self.context_frames)
        return mixed + self.impossible[:, 0], far


@contextmanager
def ablated(network: nn.Module) -> Iterator[None]:
    """A prior, or another network, with memories that say nothing, until the context ends."""
    memories = [part for part in network.modules() if isinstance(part, LongMemory | Retrieval)]
    for memory in memories:
        memory.ablated = True
    try:
        yield
    finally:
        for memory in memories:
            memory.ablated = False
