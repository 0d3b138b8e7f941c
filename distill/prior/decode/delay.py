"""Step-by-step sampler of `DelayPrior`."""

import torch
from torch import Tensor

from distill.codes.patterns import delay_codes, undelay
from distill.codes.sequences import bos_token, window_start
from distill.prior.base import Draw
from distill.prior.decode.steps import Decoder, FastLinear, FrameEmbedding
from distill.prior.delay import DelayPrior


class DelaySampler:
    """Samples Q - 1 positions ahead of the frame that it returns. Windows advance as in `window_start`."""

    @torch.no_grad()
    def __init__(
        self, prior: DelayPrior, count: int, history: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        device, levels = prior.bias.device, prior.num_quantizers
        self.prior, self.labels, self.bos = prior, labels, bos_token(prior.codebook_size)
        self.decoder = Decoder(prior.stack, count, prior.context_frames + levels - 1)
        self.embed = FrameEmbedding(prior.input_embedding(prior.codewords), prior.position_embedding)
        self.output = FastLinear(
            prior.output_embedding(prior.codewords).flatten(0, 1), (prior.bias + prior.impossible).flatten()
        )
        bos_frame = torch.full((count, 1, levels), self.bos, device=device)
        self.prompt = bos_frame[:, :0] if history is None else history.to(device)
        self.frame = self.prompt.shape[1]
        frames = torch.cat([bos_frame, self.prompt], dim=1)
        self.drawn = delay_codes(frames, self.bos)[:, : frames.shape[1]]  # [B, S, Q]
        self.start = -1  # first position of the window; -1: not in the cache yet

    @torch.no_grad()
    def next_frame(self, draw: Draw) -> Tensor:
        """See `Sampler`."""
        levels = self.prior.num_quantizers
        while self.drawn.shape[1] < self.frame + 1 + levels:
            self._advance(draw)
        self.frame += 1
        return undelay(self.drawn[:, self.frame : self.frame + levels])[:, 0]

    def keep(self, rows: Tensor) -> None:
        """See `Sampler`."""
        self.decoder.keep(rows)
        self.drawn, self.prompt = self.drawn[rows], self.prompt[rows]
        self.labels = None if self.labels is None else self.labels[rows]

    def _advance(self, draw: Draw) -> None:
        """Sample one more position: level q of frame `position - q`, counted without BOS."""
        position, cache = self.drawn.shape[1] - 1, self.decoder.cache
        start = window_start(position + 1, cache.positions)
        if start != self.start:
            self.start, cache.length = start, 0
            if position > start:
                self.prior.logits(self._window(start, position), torch.tensor([start]), self.labels, cache)
        logits = self._logits(self._window(position, position + 1)[:, 0], position)
        codes = [self._code(logits[:, level], level, position - level, draw) for level in range(logits.shape[1])]
        self.drawn = torch.cat([self.drawn, torch.stack(codes, dim=1)[:, None]], dim=1)

    def _code(self, logits: Tensor, level: int, frame: int, draw: Draw) -> Tensor:
        if frame < 0:
            return torch.full_like(self.drawn[:, 0, 0], self.bos)
        if frame < self.prompt.shape[1]:
            return self.prompt[:, frame, level]
        return draw(logits, level, frame).to(logits.device)

    def _window(self, first: int, end: int) -> Tensor:
        """Codes at these positions, with BOS for frames before the window."""
        window = self.drawn[:, first:end]
        if first - self.start < window.shape[2] - 1:
            window = window.clone()
            for level in range(first - self.start + 1, window.shape[2]):
                window[:, : self.start + level - first, level] = self.bos
        return window

    def _logits(self, codes: Tensor, position: int) -> Tensor:
        """Append `codes` `[B, Q]` to the cache; logits `[B, Q, V + 2]`. `DelayPrior.logits` in fewer calls."""
        x = self.prior.labelled(self.embed(codes, position)[:, None], self.labels)[:, 0]
        return self.output(self.decoder(x, position)).view(len(codes), self.prior.num_quantizers, -1)
