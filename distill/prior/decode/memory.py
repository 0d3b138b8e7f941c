"""Step-by-step sampler of `MemoryPrior`, with a state of constant size."""

from torch import Tensor

from distill.prior.decode.frame import FrameSampler
from distill.prior.decode.memory_steps import MemoryDecoder
from distill.prior.decode.retrieval import RetrievalDecoder
from distill.prior.memory.network import MemoryPrior


class MemorySampler(FrameSampler):
    """Samples frame by frame and level by level, from a state that does not grow."""

    prior: MemoryPrior
    decoder: MemoryDecoder  # type: ignore[assignment]

    def _decoder(self, _: int) -> MemoryDecoder:  # type: ignore[override]
        return MemoryDecoder(self.prior.memories)

    @property
    def bytes(self) -> int:
        """Size of the state in bytes."""
        return self.decoder.bytes + self.retrieval.bytes + self.history.numel() * self.history.element_size()

    def keep(self, rows: Tensor) -> None:
        """See `Sampler`."""
        super().keep(rows)
        self.retrieval.keep(rows)

    def _prefill(self) -> None:
        """Run the memories over the frames before the last one, once."""
        if self.start < 0:
            self.start = 0
            before = self.history.shape[1] - 1
            state = self.prior.advance(self.prior.initial_state(len(self.history)), self.history, before, self.labels)
            self.decoder.load_state(state.memories)
            self.retrieval = RetrievalDecoder(self.prior.retrieval, self.tables.input, state.retrieval)
        self.history = self.history[:, -self.prior.context_frames - 1 :]

    def _hidden_state(self) -> Tensor:
        x = self.prior.labelled(self.embed(self.history[:, -1], self.frame)[:, None], self.labels)[:, 0]
        self.retrieval.start_frame(self.history[:, -1])
        return self.to_depth(self.decoder(x))

    def _retrieved(self, level: int) -> Tensor:
        return self.retrieval.weights(level)

    def _advance_level(self, level: int, codes: Tensor) -> Tensor:
        self.retrieval.update(level, codes)
        return super()._advance_level(level, codes)
