"""Step-by-step sampler of `FlatPrior`."""

from typing import cast

import torch
from torch import Tensor, nn

from distill.codes.patterns import flatten_codes
from distill.codes.sequences import bos_token, window_start
from distill.prior.base import Draw
from distill.prior.decode.steps import Decoder, FastLinear
from distill.prior.flat.network import FlatPrior


class FlatSampler:
    """Samples code by code. Windows advance as in `window_start`."""

    @torch.no_grad()
    def __init__(
        self, prior: FlatPrior, count: int, history: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        tokens = prior.tokens
        self.prior, self.label_embedding = prior, prior.label_embedding(labels)
        self.device = tokens.head.weight.device
        self.decoder, self.head = Decoder(tokens.stack, count, tokens.seq_len), FastLinear(tokens.head.weight)
        levels = torch.arange(tokens.seq_len, device=self.device) % tokens.num_quantizers
        self.positions = tokens.position_embedding.weight + tokens.level_embedding(levels)  # [positions, D]
        self.tokens = [torch.full((count, 1), bos_token(prior.codebook_size), device=self.device)]
        self.frame, self.start = 0, 0
        if history is not None:
            self.tokens.append(flatten_codes(history.to(self.device)))
            self.frame = history.shape[1]
        self.pending = torch.cat(self.tokens, dim=1)  # tokens that are not in the cache yet

    @torch.no_grad()
    def next_frame(self, draw: Draw) -> Tensor:
        """See `Sampler`."""
        levels = self.prior.num_quantizers
        start = window_start(self.frame + 1, self.prior.context_frames)
        if start != self.start:
            self.start, self.decoder.cache.length = start, 0
            self.pending = torch.cat(self.tokens, dim=1)[:, start * levels :]
        for level in range(levels):
            self.pending = draw(self._logits(), level, self.frame)[:, None].to(self.device)
            self.tokens.append(self.pending)
        self.frame += 1
        return torch.cat(self.tokens[-levels:], dim=1)

    def keep(self, rows: Tensor) -> None:
        """See `Sampler`."""
        self.decoder.keep(rows)
        self.tokens, self.pending = [torch.cat(self.tokens, dim=1)[rows]], self.pending[rows]
        if self.label_embedding is not None and len(self.label_embedding) > 1:
            self.label_embedding = self.label_embedding[rows]

    def _logits(self) -> Tensor:
        """Append `pending` to the cache; logits `[B, V + 2]`. `CodePrior.forward` in fewer calls."""
        tokens, cache = self.prior.tokens, self.decoder.cache
        if self.pending.shape[1] > 1:
            return cast(Tensor, tokens(self.pending, cache, self.label_embedding))[:, -1]
        x = nn.functional.embedding(self.pending[:, 0], tokens.token_embedding.weight) + self.positions[cache.length]
        return self.head(self.decoder(x if self.label_embedding is None else x + self.label_embedding[:, 0]))
