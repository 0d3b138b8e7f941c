"""`MemoryPrior` step by step, from a state of constant size."""

from torch import Tensor

from distill.prior.decode.frame import FrameSampler
from distill.prior.decode.memory_steps import MemoryDecoder
from distill.prior.decode.retrieval import RetrievalDecoder
from distill.prior.memory.network import MemoryPrior


class MemorySampler(FrameSampler):
    """Frame after frame, from a state that does not grow."""

    prior: MemoryPrior
    decoder: MemoryDecoder  # type: ignore[assignment]

    def _decoder(self, _: int) -> MemoryDecoder:  # type: ignore[override]
        return MemoryDecoder(self.prior.memories)

    @property
    def bytes(self) -> int:
        """How much memory the state takes."""
        return self.decoder.bytes + self.retrieval.bytes + self.past.numel() * self.past.element_size()

    def keep(self, rows: Tensor) -> None:
        """See `Sampler`."""
        super().keep(rows)
        self.retrieval.keep(rows)

    def _catch_up(self) -> None:
        """Let the memories see what comes before the last frame."""
        if self.start < 0:
            self.start = 0
            before = self.past.shape[1] - 1
            state = self.prior.go_on(self.prior.begin(len(self.past)), self.past, before, self.labels)
            self.decoder.begin(state.memories)
            self.retrieval = RetrievalDecoder(self.prior.retrieval, self.tables.input, state.retrieval)
        self.past = self.past[:, -self.prior.context_frames - 1 :]

    def _known(self) -> Tensor:
        x = self.prior.labelled(self.embed(self.past[:, -1], self.frame)[:, None], self.labels)[:, 0]
        self.retrieval.begin(self.past[:, -1])
        return self.to_depth(self.decoder(x))

    def _far(self, level: int) -> Tensor:
        return self.retrieval.weights(level)

    def _say(self, level: int, codes: Tensor) -> Tensor:
        self.retrieval.say(level, codes)
        return super()._say(level, codes)
