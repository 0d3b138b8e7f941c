"""`architecture: flat`: a causal transformer over flattened codes, the reference architecture."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from distill.codes.sequences import (
    NUM_SPECIAL_TOKENS,
    Batch,
    flatten_codes,
    flatten_window,
    unflatten_codes,
)
from distill.prior.base import Prior, PriorShape
from distill.prior.transformer import INIT_STD, Dropout, KeyValueCache, Transformer


class FlatShape(PriorShape):
    """`PriorShape` of a `FlatPrior`."""

    architecture: Literal["flat"] = "flat"

    head_divisor: ClassVar[int] = 1


class CodePrior(nn.Module):
    """GPT-style decoder over flattened codes.

    Token, position and level embeddings, pre-norm causal blocks with 4x MLP, a final norm and a head without bias.
    Position `i` belongs to level `i % num_quantizers`. Tokens from `codebook_size` on are the `num_special_tokens`
    special tokens (BOS, EOS); here V includes them.
    """

    def __init__(
        self,
        codebook_size: int,
        seq_len: int,
        num_quantizers: int,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        dropout: float = 0.1,
        num_special_tokens: int = 0,
    ) -> None:
        super().__init__()
        self.codebook_size, self.seq_len, self.num_quantizers = (
            codebook_size,
            seq_len,
            num_quantizers,
        )
        vocabulary = codebook_size + num_special_tokens
        self.token_embedding = nn.Embedding(vocabulary, hidden_size)
        self.position_embedding = nn.Embedding(seq_len, hidden_size)
        self.level_embedding = nn.Embedding(num_quantizers, hidden_size)
        self.dropout = Dropout(dropout)
        self.stack = Transformer(hidden_size, num_layers, num_heads, dropout)
        self.head = nn.Linear(hidden_size, vocabulary, bias=False)
        for part in (
            self.token_embedding,
            self.position_embedding,
            self.level_embedding,
            self.head,
        ):
            nn.init.normal_(part.weight, std=INIT_STD)

    def forward(
        self,
        tokens: Tensor,
        cache: KeyValueCache | None = None,
        label_embedding: Tensor | None = None,
    ) -> Tensor:
        """Tokens `[B, T]` to logits `[B, T, V]` of the next token after each.

        `label_embedding` `[B, 1, D]` is added to every embedding. With a cache, the tokens follow the cached positions,
        attend to them and are appended to the cache. Raises ValueError beyond `seq_len` positions.
        """
        start = cache.length if cache is not None else 0
        stop = start + tokens.shape[1]
        if stop > self.seq_len:
            raise ValueError(f"expected at most {self.seq_len} tokens, found {stop}")
        x = self.token_embedding(tokens) + self.position_embedding.weight[start:stop]
        if label_embedding is not None:
            x = x + label_embedding
        levels = torch.arange(start, stop, device=tokens.device) % self.num_quantizers
        x = self.dropout(
            x + self.level_embedding(levels)
        )  # indexing the weight would add gradients in any order
        return cast(Tensor, self.head(self.stack(x, cache)))


@dataclass(eq=False)
class FlatState:
    """State of a `FlatPrior` after the codes so far. `logits` `[B, V + 2]` predict the next code."""

    cache: KeyValueCache
    label_embedding: Tensor | None  # [B, 1, D], or [1, 1, D] if shared
    frames: int = 0
    logits: Tensor | None = None

    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences with these indices."""
        self.cache.keep(rows)
        if self.label_embedding is not None and len(self.label_embedding) > 1:
            self.label_embedding = self.label_embedding[rows]


class FlatPrior(Prior):
    """`CodePrior` over the flattened codes of a window of frames. It ignores codewords and sees only indices."""

    def __init__(
        self,
        shape: FlatShape,
        _codewords: Tensor | None = None,
        dropout: float = 0.0,
        _: float = 0.0,
    ) -> None:
        super().__init__(shape)
        codes = (
            shape.codebook_size,
            shape.context_frames * shape.num_quantizers,
            shape.num_quantizers,
        )
        sizes = shape.hidden_size, shape.num_layers, shape.num_heads
        self.tokens = CodePrior(*codes, *sizes, dropout, NUM_SPECIAL_TOKENS)

    def forward(self, batch: Batch) -> Tensor:
        """See `Prior`. Positions are ignored: only BOS distinguishes the first window."""
        logits = self.tokens(
            flatten_window(batch.inputs, batch.targets), None, self.label_embedding(batch.labels)
        )
        return unflatten_codes(logits, self.num_quantizers) + self.impossible

    def start(self, labels: Tensor, position: int = 0) -> FlatState:  # noqa: ARG002
        """See `Prior`."""
        cache = KeyValueCache(self.tokens.stack, len(labels), self.tokens.seq_len)
        return FlatState(cache, self.label_embedding(labels))

    def advance(self, frames: Tensor, state: Any, newest: int | None = None) -> None:  # noqa: ARG002
        """See `Prior`. `newest` is ignored: only the last frame gets predictions."""
        state.frames += frames.shape[1]
        tokens = (
            state.frames - 1
        ) * self.num_quantizers + 1  # only the last token of the first frame is read
        self._read(flatten_codes(frames)[:, state.cache.length - tokens :], state)

    def next_logits(self, codes: Tensor, state: Any) -> Tensor:
        """See `Prior`."""
        if codes.shape[1]:
            self._read(codes[:, -1:], state)
        return cast(Tensor, state.logits) + self.impossible[codes.shape[1]]

    def _read(self, tokens: Tensor, state: FlatState) -> None:
        state.logits = self.tokens(tokens, state.cache, state.label_embedding)[:, -1]

    def label_embedding(self, labels: Tensor | None) -> Tensor | None:
        """Label embeddings `[B, 1, D]`, added at every position; None without labels."""
        return None if self.label is None else self.labelled(self.label.new_zeros(1, 1, 1), labels)
