"""`architecture: delay`: one position a frame, each level a position later than the one before, and no depth network."""

import torch
from torch import Tensor, nn

from distill.codes.patterns import delay_codes, undelay
from distill.codes.sequences import NUM_MARKS, begin_mark, window_start
from distill.models.code_table import BEND, CodeTable, looked_up
from distill.models.decoding import Decoder, FrameReader, Product
from distill.models.dropout import Dropout
from distill.models.prior import Draw, WordPrior
from distill.models.transformer import KeyValueCache, Place, Transformer


class DelayPrior(WordPrior):
    """A causal transformer over delayed codes (the delay pattern of Copet et al. 2023, MusicGen): position `s` reads level
    q of frame `s - q` and guesses level q of frame `s + 1 - q`."""

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
        sizes = (self.num_quantizers, self.codebook_size, codewords.shape[2], hidden_size)
        self.read, self.guessed = CodeTable(*sizes), CodeTable(*sizes, BEND)
        self.place = Place(hidden_size)
        self.dropout = Dropout(dropout)
        self.stack = Transformer(hidden_size, num_layers, num_heads, dropout, rotary=True)
        self.bias = nn.Parameter(torch.zeros(self.num_quantizers, 1, self.codebook_size + NUM_MARKS))

    def forward(self, inputs: Tensor, targets: Tensor, places: Tensor, labels: Tensor | None = None) -> Tensor:
        """See `Prior`. A level is guessed from coarser ones of frames to come, too, as far as they come before it."""
        frames = torch.cat([inputs[:, :1], targets], dim=1)
        unknown = begin_mark(self.codebook_size)
        delayed = delay_codes(torch.where(frames < 0, unknown, frames), unknown)
        return undelay(self.logits(delayed[:, :-1], places, labels))

    def logits(
        self, delayed: Tensor, places: Tensor, labels: Tensor | None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Logits `[B, S, Q, V + marks]` of the places after `delayed` `[B, S, Q]`; with a cache they follow what it holds."""
        x = looked_up(self.read(self.codewords), delayed).sum(dim=2)
        x = self.dropout(self.labelled(x + self.place(places, delayed.shape[1]), labels))
        hidden = self.stack(x, cache, None if cache is None else int(places[0]))
        guessed = self.guessed(self.codewords)
        logits = torch.einsum("bsd,qvd->bsqv", hidden, guessed.to(hidden.dtype)).float()
        return logits + (self.bias + self.impossible)[:, 0]

    def sampler(self, count: int, past: Tensor | None = None, labels: Tensor | None = None) -> "DelaySampler":
        """See `Prior`."""
        return DelaySampler(self, count, past, labels)


class DelaySampler:
    """Draws Q - 1 places ahead of the frame that it gives. Where a window ends the next one begins, see `window_start`."""

    @torch.no_grad()
    def __init__(self, prior: DelayPrior, count: int, past: Tensor | None, labels: Tensor | None) -> None:
        device, levels = prior.bias.device, prior.num_quantizers
        self.prior, self.labels, self.mark = prior, labels, begin_mark(prior.codebook_size)
        self.decoder = Decoder(prior.stack, count, prior.context_frames + levels - 1)
        self.read = FrameReader(prior.read(prior.codewords), prior.place)
        self.guessed = Product(prior.guessed(prior.codewords).flatten(0, 1), (prior.bias + prior.impossible).flatten())
        begin = torch.full((count, 1, levels), self.mark, device=device)
        self.given = begin[:, :0] if past is None else past.to(device)
        self.frame = self.given.shape[1]
        frames = torch.cat([begin, self.given], dim=1)
        self.drawn = delay_codes(frames, self.mark)[:, : frames.shape[1]]  # [B, S, Q]
        self.start = -1  # place that the window begins with; -1: the cache lacks it

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
        self.drawn, self.given = self.drawn[rows], self.given[rows]
        self.labels = None if self.labels is None else self.labels[rows]

    def _advance(self, draw: Draw) -> None:
        """One place more: level q of frame `place - q`, counted from 0 on without the begin mark."""
        place, cache = self.drawn.shape[1] - 1, self.decoder.cache
        start = window_start(place + 1, cache.positions)
        if start != self.start:
            self.start, cache.length = start, 0
            if place > start:
                self.prior.logits(self._window(start, place), torch.tensor([start]), self.labels, cache)
        logits = self._logits(self._window(place, place + 1)[:, 0], place)
        codes = [self._code(logits[:, level], level, place - level, draw) for level in range(logits.shape[1])]
        self.drawn = torch.cat([self.drawn, torch.stack(codes, dim=1)[:, None]], dim=1)

    def _code(self, logits: Tensor, level: int, frame: int, draw: Draw) -> Tensor:
        if frame < 0:
            return torch.full_like(self.drawn[:, 0, 0], self.mark)
        if frame < self.given.shape[1]:
            return self.given[:, frame, level]
        return draw(logits, level, frame).to(logits.device)

    def _window(self, begin: int, end: int) -> Tensor:
        """What has been drawn at these places, without what belongs to frames before the window."""
        window = self.drawn[:, begin:end]
        if begin - self.start < window.shape[2] - 1:
            window = window.clone()
            for level in range(begin - self.start + 1, window.shape[2]):
                window[:, : self.start + level - begin, level] = self.mark
        return window

    def _logits(self, codes: Tensor, place: int) -> Tensor:
        """Logits `[B, Q, V + marks]` after `codes` `[B, Q]`, which the cache takes up: `DelayPrior.logits` in fewer calls."""
        x = self.prior.labelled(self.read(codes, place)[:, None], self.labels)[:, 0]
        return self.guessed(self.decoder(x, place)).view(len(codes), self.prior.num_quantizers, -1)
