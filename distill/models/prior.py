"""What a prior is, and the plan's reference: a causal transformer over flattened codes (`architecture: flat`)."""

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from distill.codes.patterns import flatten_codes, flatten_window, unflatten_codes
from distill.codes.sequences import NUM_MARKS, begin_mark
from distill.models.code_table import impossible_marks
from distill.models.dropout import Dropout
from distill.models.transformer import INIT_STD, KeyValueCache, Transformer

__all__ = [
    "CodePrior",
    "Draw",
    "FlatPrior",
    "KeyValueCache",
    "Prior",
    "Sampler",
    "WordPrior",
    "flatten_codes",
    "unflatten_codes",
]

Draw = Callable[[Tensor, int, int], Tensor]
"""Logits `[B, V + marks]`, their level and the number of their frame, to one code `[B]` each."""


class Sampler(Protocol):
    """Sounds in the making."""

    def next_frame(self, draw: Draw) -> Tensor:
        """Codes `[B, Q]` of the next frame; where the first is the end mark the sound has ended before it."""


class Prior(nn.Module):
    """A distribution over sequences of frames of codes."""

    codebook_size: int  # V: codes of each level, without the marks
    num_quantizers: int  # Q: levels of each frame
    context_frames: int  # frames that the next one is guessed from
    spread: Tensor  # [Q], the share of each level's labels that was spread over all codes in training

    def __init__(self, codebook_size: int, num_quantizers: int, context_frames: int) -> None:
        super().__init__()
        self.codebook_size, self.num_quantizers, self.context_frames = codebook_size, num_quantizers, context_frames
        self.register_buffer("spread", torch.zeros(num_quantizers))

    def forward(self, inputs: Tensor, targets: Tensor, places: Tensor) -> Tensor:
        """Logits `[B, T, Q, V + marks]` of `targets` `[B, T, Q]`, the frames that follow `inputs` `[B, T, Q]`.

        `places` `[B]` are the numbers of the first inputs in their sequences, T at most `context_frames`.
        """
        raise NotImplementedError

    def sampler(self, count: int) -> Sampler:
        """Begin `count` sounds."""
        raise NotImplementedError


class WordPrior(Prior):
    """A prior that knows codes by their codewords `[Q, V, C]`, see `CodeTable`; with C = 0 as numbers only."""

    codewords: Tensor
    impossible: Tensor

    def __init__(self, codewords: Tensor, context_frames: int) -> None:
        super().__init__(codewords.shape[1], codewords.shape[0], context_frames)
        self.register_buffer("codewords", codewords.clone())
        self.register_buffer("impossible", impossible_marks(self.num_quantizers, self.codebook_size), persistent=False)


class CodePrior(nn.Module):
    """GPT-style decoder: token, position and level embeddings, pre-norm causal blocks with 4x MLP, final norm, bias-free head.

    Position `i` belongs to level `i % num_quantizers`. Tokens `codebook_size` and up are `num_special_tokens` marks
    (begin, end) that have embeddings and logits of their own; V counts them.
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
        self.codebook_size, self.seq_len, self.num_quantizers = codebook_size, seq_len, num_quantizers
        vocabulary = codebook_size + num_special_tokens
        self.token_embedding = nn.Embedding(vocabulary, hidden_size)
        self.position_embedding = nn.Embedding(seq_len, hidden_size)
        self.level_embedding = nn.Embedding(num_quantizers, hidden_size)
        self.dropout = Dropout(dropout)
        self.stack = Transformer(hidden_size, num_layers, num_heads, dropout)
        self.head = nn.Linear(hidden_size, vocabulary, bias=False)
        for part in (self.token_embedding, self.position_embedding, self.level_embedding, self.head):
            nn.init.normal_(part.weight, std=INIT_STD)

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Tokens `[B, T]` to logits `[B, T, V]` of what follows each.

        With a cache the tokens come after those it holds, which they attend to; it takes them up. Raises ValueError
        when more than `seq_len` positions come together.
        """
        start = cache.length if cache is not None else 0
        stop = start + tokens.shape[1]
        if stop > self.seq_len:
            raise ValueError(f"expected at most {self.seq_len} tokens, found {stop}")
        x = self.token_embedding(tokens) + self.position_embedding.weight[start:stop]
        positions = torch.arange(start, stop, device=tokens.device) if stop > start + 1 else start
        x = self.dropout(x + self.level_embedding.weight[positions % self.num_quantizers])
        return cast(Tensor, self.head(self.stack(x, cache)))

    def cache(self, batch_size: int) -> KeyValueCache:
        """An empty cache for `seq_len` positions."""
        return KeyValueCache(self.stack, batch_size, self.seq_len)


class FlatPrior(Prior):
    """`CodePrior` behind the interface of priors: a window of frames is flattened, code after code."""

    def __init__(
        self,
        codebook_size: int,
        num_quantizers: int,
        context_frames: int,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(codebook_size, num_quantizers, context_frames)
        self.tokens = CodePrior(
            codebook_size,
            context_frames * num_quantizers,
            num_quantizers,
            hidden_size,
            num_layers,
            num_heads,
            dropout,
            NUM_MARKS,
        )

    def forward(self, inputs: Tensor, targets: Tensor, places: Tensor) -> Tensor:  # noqa: ARG002
        """See `Prior`. A window knows nothing of its place but whether it is the first."""
        return unflatten_codes(self.tokens(flatten_window(inputs, targets)), self.num_quantizers)

    def sampler(self, count: int) -> "FlatSampler":
        """See `Prior`."""
        return FlatSampler(self, count)


class FlatSampler:
    """Code after code. When the context is full it goes on from the last half of it, as if that were a window."""

    def __init__(self, prior: FlatPrior, count: int) -> None:
        self.prior, self.frame = prior, 0
        self.device = prior.tokens.head.weight.device
        self.cache = prior.tokens.cache(count)
        self.fresh = torch.full((count, 1), begin_mark(prior.codebook_size), device=self.device)  # not in the cache yet
        self.tokens = [self.fresh]  # all of them

    def next_frame(self, draw: Draw) -> Tensor:
        """See `Sampler`."""
        levels = self.prior.num_quantizers
        for level in range(levels):
            if self.cache.length == self.prior.tokens.seq_len:
                kept = max(1, self.prior.context_frames // 2) * levels
                self.cache.length, self.fresh = 0, torch.cat(self.tokens[-kept:], dim=1)
            logits = self.prior.tokens(self.fresh, self.cache)[:, -1]
            self.fresh = draw(logits, level, self.frame)[:, None].to(self.device)
            self.tokens.append(self.fresh)
        self.frame += 1
        return torch.cat(self.tokens[-levels:], dim=1)
