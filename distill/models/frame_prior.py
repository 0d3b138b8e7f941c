"""`architecture: frame`: one position a frame, and a small network that goes through the levels of each frame."""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from distill.codes.sequences import NUM_MARKS, begin_mark, window_start
from distill.models.code_table import BEND, CodeTable, looked_up
from distill.models.decoding import Decoder, FrameReader, Norm, Product, ResidualStep
from distill.models.dropout import Dropout, HistoryDropout
from distill.models.prior import Draw, WordPrior
from distill.models.recall import Recall, Recalled
from distill.models.transformer import KeyValueCache, Place, ResidualBlock, Transformer, initialise


class Tables(NamedTuple):
    """Vectors `[Q, V + marks, D]` of codes where they are read, where they lead on to finer levels, and where they are guessed."""

    read: Tensor
    given: Tensor
    guessed: Tensor


class FramePrior(WordPrior):
    """A causal transformer over frames; the codes of a frame follow from its output, level by level, through residual
    blocks that know the levels before (as in the RQ-Transformer of Lee et al. 2022, with blocks in place of attention).
    """

    def __init__(
        self,
        codewords: Tensor,
        context_frames: int,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        dropout: float = 0.1,
        depth_layers: int = 2,
        num_labels: int = 0,
        history_dropout: float = 0.0,
        stack: Callable[[], nn.Module] | None = None,
    ) -> None:
        """`stack` makes what goes over the frames, where it is not a transformer."""
        super().__init__(codewords, context_frames, hidden_size, num_labels)
        sizes = (self.num_quantizers, self.codebook_size, codewords.shape[2], hidden_size)
        self.read, self.given, self.guessed = CodeTable(*sizes), CodeTable(*sizes), CodeTable(*sizes, BEND)
        self.place = Place(hidden_size)
        self.dropout, self.history_dropout = Dropout(dropout), HistoryDropout(history_dropout)
        self.stack = stack() if stack else Transformer(hidden_size, num_layers, num_heads, dropout, rotary=True)
        self.to_depth = nn.Linear(hidden_size, hidden_size)
        self.level = nn.Parameter(torch.zeros(self.num_quantizers, hidden_size))
        self.depth = nn.ModuleList(ResidualBlock(hidden_size, dropout) for _ in range(depth_layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.recall = Recall(self.num_quantizers, self.codebook_size, hidden_size)
        self.bias = nn.Parameter(torch.zeros(self.num_quantizers, 1, self.codebook_size + NUM_MARKS))
        for part in (self.to_depth, self.depth):
            initialise(part, max(1, depth_layers))

    def forward(self, inputs: Tensor, targets: Tensor, places: Tensor, labels: Tensor | None = None) -> Tensor:
        """See `Prior`. The logits of a level depend on the coarser levels of its frame in `targets`."""
        tables = self.tables()
        hidden = self.summaries(tables, inputs, places, labels)
        logits, deep = self.guesses(tables, hidden, self.coarser(tables, targets))
        mixed: Tensor = self.recall(logits, deep, inputs, targets)
        return mixed + self.impossible[:, 0]

    def coarser(self, tables: Tables, targets: Tensor) -> Tensor:
        """What the coarser codes of each of `targets` `[B, T, Q]` are to the network, `[B, T, Q, D]`."""
        before = looked_up(tables.given, targets.clamp_min(0)).cumsum(dim=2).roll(1, dims=2)
        before[:, :, 0] = 0
        return before

    def guesses(self, tables: Tables, summaries: Tensor, coarser: Tensor) -> tuple[Tensor, Tensor]:
        """What the network says `[B, T, Q, V + marks]`, before it is mixed with what was said, and what it says that of
        `[B, T, Q, D]`."""
        deep = self._deep(summaries[:, :, None] + coarser + self.level)
        batch, frames = deep.shape[:2]
        by_level = deep.flatten(0, 1).transpose(0, 1)  # [Q, B * T, D]
        logits = torch.bmm(by_level, tables.guessed.transpose(1, 2)).float() + self.bias
        return logits.transpose(0, 1).reshape(batch, frames, self.num_quantizers, -1), deep

    def tables(self) -> Tables:
        """What the codes' vectors are with the weights as they are."""
        return Tables(self.read(self.codewords), self.given(self.codewords), self.guessed(self.codewords))

    def summaries(
        self, tables: Tables, inputs: Tensor, places: Tensor, labels: Tensor | None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """What is known `[B, T, D]` after each of `inputs` `[B, T, Q]`; with a cache they follow what it holds."""
        x = self.embedded(tables, inputs, places, labels)
        start = None if cache is None else int(places[0])
        return cast(Tensor, self.to_depth(self.stack(x, cache, start)))

    def embedded(self, tables: Tables, inputs: Tensor, places: Tensor, labels: Tensor | None) -> Tensor:
        """What `inputs` `[B, T, Q]`, from `places` `[B]` on, are to the network, `[B, T, D]`."""
        x = self.history_dropout(looked_up(tables.read, inputs)).sum(dim=2) + self.place(places, inputs.shape[1])
        return cast(Tensor, self.dropout(self.labelled(x, labels)))

    def _deep(self, x: Tensor) -> Tensor:
        for block in self.depth:
            x = block(x)
        return cast(Tensor, self.norm(x))

    def sampler(self, count: int, past: Tensor | None = None, labels: Tensor | None = None) -> "FrameSampler":
        """See `Prior`."""
        return FrameSampler(self, count, past, labels)


class FrameSampler:
    """Frame after frame, level after level. Where a window ends the next one begins, see `window_start`."""

    @torch.no_grad()
    def __init__(self, prior: FramePrior, count: int, past: Tensor | None, labels: Tensor | None) -> None:
        self.prior, self.labels = prior, labels
        self.tables, self.decoder = prior.tables(), self._decoder(count)
        self.to_depth = Product(prior.to_depth.weight, prior.to_depth.bias)
        self.depth = [ResidualStep(cast(ResidualBlock, block)) for block in prior.depth]
        self.norm = Norm(prior.norm)
        self.guessed = [self._guess(level) for level in range(prior.num_quantizers)]
        self.recalled = Recalled(prior.recall, prior.context_frames)
        mark, device = begin_mark(prior.codebook_size), prior.bias.device
        self.past = torch.full((count, 1, prior.num_quantizers), mark, device=device)  # [B, S, Q], the window
        if past is not None:
            self.past = torch.cat([self.past, past.to(device)], dim=1)
        self.frame, self.start = self.past.shape[1] - 1, -1  # what the window begins with; -1: the cache lacks it
        self.read = FrameReader(self.tables.read, prior.place)

    @torch.no_grad()
    def next_frame(self, draw: Draw) -> Tensor:
        """See `Sampler`."""
        self._catch_up()
        known = self._known()
        self.recalled.begin(self.past)
        codes: list[Tensor] = []
        for level in range(self.prior.num_quantizers):
            if level:
                known = known + self._say(level - 1, codes[-1])
            logits = self._logits(known, level)
            codes.append(draw(logits, level, self.frame).to(known.device))
        self.frame += 1
        frame = torch.stack(codes, dim=1)
        self.past = torch.cat([self.past, frame[:, None]], dim=1)
        return frame

    def keep(self, rows: Tensor) -> None:
        """See `Sampler`."""
        self.decoder.keep(rows)
        self.past = self.past[rows]
        self.labels = None if self.labels is None else self.labels[rows]

    def _decoder(self, count: int) -> Decoder:
        return Decoder(cast(Transformer, self.prior.stack), count, self.prior.context_frames)

    def _catch_up(self) -> None:
        """Let the decoder see what comes before the last frame."""
        start = window_start(self.frame + 1, self.prior.context_frames)
        if start != self.start:
            cache = self.decoder.cache
            self.past = self.past[:, start - max(0, self.start) :]
            self.start, cache.length = start, 0
            if self.past.shape[1] > 1:
                self.prior.summaries(self.tables, self.past[:, :-1], torch.tensor([start]), self.labels, cache)

    def _known(self) -> Tensor:
        """The summary `[B, D]` of the last frame, which the cache takes up: `FramePrior.summaries` in fewer calls."""
        x = self.prior.labelled(self.read(self.past[:, -1], self.frame)[:, None], self.labels)[:, 0]
        return self.to_depth(self.decoder(x, self.frame))

    def _logits(self, known: Tensor, level: int) -> Tensor:
        """Logits `[B, V + marks]` of a level: `known` `[B, D]` is the frame's summary plus `given` vectors of its coarser levels."""
        deep = known + self.prior.level[level]
        for block in self.depth:
            deep = block(deep)
        guessed = self.guessed[level](self.norm(deep))
        mixed = self.recalled.mixed(guessed[:, :-1], guessed[:, -1], level, self._far(level))
        return mixed + self.prior.impossible[level]

    def _far(self, _: int) -> Tensor | None:
        """What the codes of a level weigh besides `[B, V + marks]`."""
        return None

    def _say(self, level: int, codes: Tensor) -> Tensor:
        """Go on to the next level: what the codes `[B]` of this one are to it, `[B, D]`."""
        self.recalled.say(level, codes)
        return nn.functional.embedding(codes, self.tables.given[level])

    def _guess(self, level: int) -> Product:
        """From `[B, D]` to a level's logits and, as one more, the sentinel of what is recalled, `[B, V + marks + 1]`."""
        prior, recall = self.prior, self.prior.recall
        weight = torch.cat([self.tables.guessed[level], recall.sentinel.weight])
        return Product(weight, torch.cat([prior.bias[level, 0], recall.sentinel.bias + recall.threshold[level]]))
