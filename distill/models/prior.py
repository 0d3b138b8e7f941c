"""What a prior is, and the plan's reference: a causal transformer over flattened codes (`architecture: flat`)."""

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from distill.codes.patterns import flatten_codes, flatten_window, unflatten_codes
from distill.codes.sequences import NUM_MARKS, begin_mark, window_start
from distill.models.code_table import impossible_marks
from distill.models.decoding import Decoder, Product
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

LABEL_STD = 0.5  # of labels' vectors, a quarter of what codes add up to that are known by their codewords

Draw = Callable[[Tensor, int, int], Tensor]
"""Logits `[B, V + marks]`, their level and the number of their frame, to one code `[B]` each."""


class Sampler(Protocol):
    """Sounds in the making."""

    def next_frame(self, draw: Draw) -> Tensor:
        """Codes `[B, Q]` of the next frame; where the first is the end mark the sound has ended before it."""

    def keep(self, rows: Tensor) -> None:
        """Go on with the sounds of these numbers alone."""


class Prior(nn.Module):
    """A distribution over sequences of frames of codes, and with labels of each label's."""

    codebook_size: int  # V: codes of each level, without the marks
    num_quantizers: int  # Q: levels of each frame
    context_frames: int  # frames that the next one is guessed from, or that it is guessed from without a memory
    span_frames: int  # frames of the longest sequence that it learns from and is judged on
    spread: Tensor  # [Q], the share of each level's targets that was spread over all codes in training
    longest: Tensor  # [1], frames of the longest recording that it learnt, 0 where that is not known
    label: nn.Parameter | None  # [labels + 1, D], what is known of a sound beforehand; row 0: nothing

    def __init__(
        self,
        codebook_size: int,
        num_quantizers: int,
        context_frames: int,
        width: int,
        num_labels: int,
        label_std: float = INIT_STD,
    ) -> None:
        super().__init__()
        self.codebook_size, self.num_quantizers, self.context_frames = codebook_size, num_quantizers, context_frames
        self.span_frames = context_frames
        self.register_buffer("spread", torch.zeros(num_quantizers))
        self.register_buffer("longest", torch.zeros(1))
        self.label = nn.Parameter(torch.randn(num_labels + 1, width) * label_std) if num_labels else None

    def forward(self, inputs: Tensor, targets: Tensor, places: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits `[B, T, Q, V + marks]` of `targets` `[B, T, Q]`, the frames that follow `inputs` `[B, T, Q]`.

        `places` `[B]` are the numbers of the first inputs in their sequences, T at most `span_frames`; `labels` `[B]`
        the sounds' labels from 1 on, 0 where there is none.
        """
        raise NotImplementedError

    def sampler(self, count: int, past: Tensor | None = None, labels: Tensor | None = None) -> Sampler:
        """Begin `count` sounds, or go on from `past` `[count, F, Q]`; `labels` `[count]` as for `forward`."""
        raise NotImplementedError

    def labelled(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """`[B, T, D]` with what the labels `[B]` say of each sound."""
        if self.label is None:
            return x
        rows = self.label[:1] if labels is None else self.label[labels]
        return x + rows[:, None].to(x.dtype)


class WordPrior(Prior):
    """A prior that knows codes by their codewords `[Q, V, C]`, see `CodeTable`; with C = 0 as numbers only."""

    codewords: Tensor
    impossible: Tensor

    def __init__(self, codewords: Tensor, context_frames: int, width: int, num_labels: int) -> None:
        label_std = LABEL_STD if codewords.shape[2] else INIT_STD
        super().__init__(codewords.shape[1], codewords.shape[0], context_frames, width, num_labels, label_std)
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

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None, known: Tensor | None = None) -> Tensor:
        """Tokens `[B, T]` to logits `[B, T, V]` of what follows each. `known` `[B, 1, D]` is added to each embedding.

        With a cache the tokens come after those it holds, which they attend to; it takes them up. Raises ValueError
        when more than `seq_len` positions come together.
        """
        start = cache.length if cache is not None else 0
        stop = start + tokens.shape[1]
        if stop > self.seq_len:
            raise ValueError(f"expected at most {self.seq_len} tokens, found {stop}")
        x = self.token_embedding(tokens) + self.position_embedding.weight[start:stop]
        if known is not None:
            x = x + known
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
        num_labels: int = 0,
    ) -> None:
        super().__init__(codebook_size, num_quantizers, context_frames, hidden_size, num_labels)
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

    def forward(self, inputs: Tensor, targets: Tensor, places: Tensor, labels: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """See `Prior`. A window knows nothing of its place but whether it is the first."""
        return unflatten_codes(
            self.tokens(flatten_window(inputs, targets), None, self.known(labels)), self.num_quantizers
        )

    def known(self, labels: Tensor | None) -> Tensor | None:
        """What is added to each embedding, `[B, 1, D]`."""
        return None if self.label is None else self.labelled(self.label.new_zeros(1, 1, 1), labels)

    def sampler(self, count: int, past: Tensor | None = None, labels: Tensor | None = None) -> "FlatSampler":
        """See `Prior`."""
        return FlatSampler(self, count, past, labels)


class FlatSampler:
    """Code after code. Where a window ends the next one begins, see `window_start`."""

    @torch.no_grad()
    def __init__(self, prior: FlatPrior, count: int, past: Tensor | None, labels: Tensor | None) -> None:
        tokens = prior.tokens
        self.prior, self.known = prior, prior.known(labels)
        self.device = tokens.head.weight.device
        self.decoder, self.head = Decoder(tokens.stack, count, tokens.seq_len), Product(tokens.head.weight)
        levels = torch.arange(tokens.seq_len, device=self.device) % tokens.num_quantizers
        self.places = tokens.position_embedding.weight + tokens.level_embedding(levels)  # [positions, D]
        self.tokens = [torch.full((count, 1), begin_mark(prior.codebook_size), device=self.device)]
        self.frame, self.start = 0, 0
        if past is not None:
            self.tokens.append(flatten_codes(past.to(self.device)))
            self.frame = past.shape[1]
        self.fresh = torch.cat(self.tokens, dim=1)  # what the cache lacks

    @torch.no_grad()
    def next_frame(self, draw: Draw) -> Tensor:
        """See `Sampler`."""
        levels = self.prior.num_quantizers
        start = window_start(self.frame + 1, self.prior.context_frames)
        if start != self.start:
            self.start, self.decoder.cache.length = start, 0
            self.fresh = torch.cat(self.tokens, dim=1)[:, start * levels :]
        for level in range(levels):
            self.fresh = draw(self._logits(), level, self.frame)[:, None].to(self.device)
            self.tokens.append(self.fresh)
        self.frame += 1
        return torch.cat(self.tokens[-levels:], dim=1)

    def keep(self, rows: Tensor) -> None:
        """See `Sampler`."""
        self.decoder.keep(rows)
        self.tokens, self.fresh = [torch.cat(self.tokens, dim=1)[rows]], self.fresh[rows]
        if self.known is not None and len(self.known) > 1:
            self.known = self.known[rows]

    def _logits(self) -> Tensor:
        """Logits `[B, V + marks]` of what follows `fresh`, which the cache takes up: `CodePrior.forward` in fewer calls."""
        tokens, cache = self.prior.tokens, self.decoder.cache
        if self.fresh.shape[1] > 1:
            return cast(Tensor, tokens(self.fresh, cache, self.known))[:, -1]
        x = nn.functional.embedding(self.fresh[:, 0], tokens.token_embedding.weight) + self.places[cache.length]
        return self.head(self.decoder(x if self.known is None else x + self.known[:, 0]))
