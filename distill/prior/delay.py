"""`architecture: delay`: a transformer over codes in the delay pattern, one position a frame."""

import torch
from torch import Tensor, nn

from distill.codes.patterns import delay_codes, undelay
from distill.codes.sequences import NUM_SPECIAL_TOKENS, bos_token
from distill.prior.base import CodewordPrior
from distill.prior.codeword_embedding import OUTPUT_HIDDEN_SIZE, CodewordEmbedding, look_up
from distill.prior.dropout import Dropout
from distill.prior.transformer import KeyValueCache, LogPositionEmbedding, Transformer
from distill.storage.weights import store_as


class DelayPrior(CodewordPrior):
    """A causal transformer over delayed codes (the delay pattern of Copet et al. 2023, MusicGen).

    Position `s` reads level q of frame `s - q` and predicts level q of frame `s + 1 - q`.
    """

    def __init__(
        self,
        codewords: Tensor,
        context_frames: int,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        dropout: float = 0.1,
        num_labels: int = 0,
    ) -> None:
        super().__init__(codewords, context_frames, hidden_size, num_labels)
        store_as(self, {"input_embedding": "read", "output_embedding": "guessed", "position_embedding": "place"})
        sizes = (self.num_quantizers, self.codebook_size, codewords.shape[2], hidden_size)
        self.input_embedding, self.output_embedding = (
            CodewordEmbedding(*sizes),
            CodewordEmbedding(*sizes, OUTPUT_HIDDEN_SIZE),
        )
        self.position_embedding = LogPositionEmbedding(hidden_size)
        self.dropout = Dropout(dropout)
        self.stack = Transformer(hidden_size, num_layers, num_heads, dropout, rotary=True)
        self.bias = nn.Parameter(torch.zeros(self.num_quantizers, 1, self.codebook_size + NUM_SPECIAL_TOKENS))

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor,
        positions: Tensor,
        labels: Tensor | None = None,
        folds: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """See `Prior`. A level also depends on the coarser levels of later frames that precede it in the pattern."""
        frames = torch.cat([inputs[:, :1], targets], dim=1)
        bos = bos_token(self.codebook_size)
        delayed = delay_codes(torch.where(frames < 0, bos, frames), bos)
        return undelay(self.logits(delayed[:, :-1], positions, labels))

    def logits(
        self, delayed: Tensor, positions: Tensor, labels: Tensor | None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Logits `[B, S, Q, V + 2]` of the positions after `delayed` `[B, S, Q]`.

        With a cache these positions follow the cached ones.
        """
        x = look_up(self.input_embedding(self.codewords), delayed).sum(dim=2)
        x = self.dropout(self.labelled(x + self.position_embedding(positions, delayed.shape[1]), labels))
        hidden = self.stack(x, cache, None if cache is None else int(positions[0]))
        table = self.output_embedding(self.codewords)
        logits = torch.einsum("bsd,qvd->bsqv", hidden, table.to(hidden.dtype)).float()
        return logits + (self.bias + self.impossible)[:, 0]
