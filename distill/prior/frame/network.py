"""`architecture: frame`: a transformer over frames and a small depth network over the levels of each frame."""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from distill.codes.sequences import NUM_SPECIAL_TOKENS
from distill.prior.attention import without_autocast
from distill.prior.base import Prior
from distill.prior.codeword_embedding import OUTPUT_HIDDEN_SIZE, CodewordEmbedding, look_up, special_token_mask
from distill.prior.count_experts import CountExperts, FrameCounts
from distill.prior.frame.config import DepthShape, FrameShape
from distill.prior.loudness_course import LoudnessCourse
from distill.prior.pointer_mixture import History, PointerMixture, Scores
from distill.prior.transformer import (
    INIT_STD,
    Ahead,
    Dropout,
    KeyValueCache,
    Linear,
    LogPositionEmbedding,
    ResidualBlock,
    Transformer,
    initialise,
    linear,
)

LABEL_STD = 0.5  # of label embeddings, a quarter of the scale of summed codeword embeddings
LONGER = 1.5  # factor of the longest recording: sounds of a calibrated prior that go on for so long are cut


class Tables(NamedTuple):
    """Embedding tables `[Q, V + 2, D]` of codes: as inputs, as conditions of finer levels, and as outputs."""

    input: Tensor
    coarser: Tensor
    output: Tensor


class Layer(NamedTuple):
    """All that is computed from the hidden state of a level, as one product: weight `[E, D]` and bias `[E]`."""

    weight: Tensor
    bias: Tensor


@dataclass(eq=False)
class FrameState:
    """What a `FramePrior` needs of the frames so far. Without a cache all frames come at once."""

    tables: Tables
    positions: Tensor  # [B], of the first frame
    labels: Tensor | None  # [B]
    folds: Tensor | None = None  # [B]
    layers: list[Layer] | None = None  # of each level, where levels come one by one
    scores: Scores | None = None  # of the pointer mixture, where frames come one by one
    cache: KeyValueCache | None = None
    ahead: Ahead | None = None  # embeddings of positions [1, D]
    position: int = 0  # of the first frame, where it is that of all rows
    count: int = 0  # of frames so far
    frames: Tensor | None = None  # [B, S, Q], those that may be copied
    hidden: Tensor | None = None  # [B, T, D], hidden states after the newest, with the codes of `next_logits`
    history: History | None = None  # of the pointer mixture, at each of the newest
    counts: FrameCounts | None = None  # of the frames after the newest
    changes: Tensor | None = None  # [V + 2, V + 2], of the loudness, with a `LoudnessCourse`
    loudest: Tensor | None = None  # [B], dB, of the frames so far
    raised: Tensor | None = None  # [B, T, V + 2], logits of the loudness after the newest

    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences with these indices."""
        assert self.cache is not None
        assert self.frames is not None
        self.cache.keep(rows)
        self.positions, self.frames = self.positions[rows], self.frames[rows]
        self.labels = None if self.labels is None else self.labels[rows]
        self.loudest = None if self.loudest is None else self.loudest[rows]


class HistoryDropout(nn.Module):
    """Dropout of the finer levels of input frames, from a random level on.

    A thinner history predicts less, so that labels count more. The share of frames is drawn for each window, up to
    twice `p` (at most .5). The first frame is kept.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings `[B, T, Q, D]` of codes, in training with zeros for dropped levels."""
        if not self.training or not self.p:
            return x
        batch, frames, levels = x.shape[:3]
        dropped = torch.rand(batch, frames, device=x.device) < 2 * self.p * torch.rand(batch, 1, device=x.device)
        dropped[:, 0] = False
        num_kept = torch.randint(levels, (batch, frames), device=x.device).masked_fill(~dropped, levels)
        return x * (torch.arange(levels, device=x.device) < num_kept[:, :, None])[..., None].to(x.dtype)


class FramePrior(Prior):
    """A causal transformer over frames and a depth network that predicts the levels of the next frame one by one.

    As the RQ-Transformer of Lee et al. 2022, with residual blocks in place of attention over depth.
    """

    codewords: Tensor  # [Q, V, C], see `CodewordEmbedding`; with C = 0 codes are embedded by index alone
    impossible: Tensor

    def __init__(
        self,
        shape: DepthShape,
        codewords: Tensor | None = None,
        dropout: float = 0.0,
        history_dropout: float = 0.0,
    ) -> None:
        """Without `codewords` `[Q, V, C]` they are zeros, for a state dict to fill."""
        super().__init__(shape, LABEL_STD if shape.codeword_size else INIT_STD)
        levels, size, hidden_size = shape.num_quantizers, shape.codebook_size, shape.hidden_size
        if codewords is None or not shape.codeword_size:
            codewords = torch.zeros(levels, size, shape.codeword_size)
        self.register_buffer("codewords", codewords.clone())
        self.register_buffer("impossible", special_token_mask(levels, size), persistent=False)
        sizes = (levels, size, shape.codeword_size, hidden_size)
        self.input_embedding = CodewordEmbedding(*sizes)
        self.coarser_embedding = CodewordEmbedding(*sizes)
        self.output_embedding = CodewordEmbedding(*sizes, OUTPUT_HIDDEN_SIZE)
        self.position_embedding = LogPositionEmbedding(hidden_size)
        self.dropout, self.history_dropout = Dropout(dropout), HistoryDropout(history_dropout)
        self.stack = self._build_stack(dropout)
        self.to_depth = Linear(hidden_size, hidden_size)
        self.level = nn.Parameter(torch.zeros(levels, hidden_size))
        self.depth = nn.ModuleList(ResidualBlock(hidden_size, dropout) for _ in range(shape.depth_layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.pointer_mixture = PointerMixture(levels, size, hidden_size)
        self.count_experts = (
            CountExperts(levels, size, hidden_size, shape.counted_labels) if shape.count_experts else None
        )
        self.loudness_course = LoudnessCourse(size) if isinstance(shape, FrameShape) and shape.calibrated else None
        self.bias = nn.Parameter(torch.zeros(levels, 1, size + NUM_SPECIAL_TOKENS))
        for part in (self.to_depth, self.depth):
            initialise(part, max(1, shape.depth_layers))

    def _build_stack(self, dropout: float) -> nn.Module:
        """The network over frames."""
        shape = self.shape
        return Transformer(shape.hidden_size, shape.num_layers, shape.num_heads, dropout, rotary=True)

    @property
    def most_frames(self) -> int:
        """See `Prior`. A prior that is calibrated ends sounds when recordings do, so that some may be longer."""
        return round(super().most_frames * (LONGER if self.loudness_course is not None else 1))

    def begin_calibration(self) -> LoudnessCourse:
        """Give the prior a `LoudnessCourse` that adds nothing yet, and return it."""
        self.loudness_course = LoudnessCourse(self.codebook_size).to(self.bias.device)
        self.shape = self.shape.model_copy(update={"calibrated": True})
        return self.loudness_course

    def copy_no_loudness(self) -> None:
        """Copy nothing in the first level, where that is the loudness.

        A copied loudness stays what it is, and copies of it make the next more likely: sounds would never end.
        """
        self.pointer_mixture.copy_nothing(0)

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor,
        positions: Tensor,
        labels: Tensor | None = None,
        folds: Tensor | None = None,
    ) -> Tensor:
        """See `Prior`. The logits of a level depend on the coarser levels of its frame in `targets`."""
        state = FrameState(self.tables(), positions, labels, folds)
        self.advance(inputs, state)
        return self.logits(targets, state)

    def start(self, batch_size: int, labels: Tensor | None = None, position: int = 0) -> FrameState:
        """See `Prior`."""
        positions = torch.full((batch_size,), position, device=self.bias.device)
        cache = KeyValueCache(cast(Transformer, self.stack), batch_size, self.context_frames)
        tables, ahead = self.tables(), self._positions_ahead()
        scores = self.pointer_mixture.scores(self.context_frames)
        return FrameState(tables, positions, labels, None, self.layers(tables), scores, cache, ahead, position)

    def advance(self, frames: Tensor, state: Any, newest: int | None = None) -> None:
        """See `Prior`."""
        newest = newest or frames.shape[1]
        hidden = self.to_depth(self.stack(self.embed(frames, state), state.cache))
        if self.loudness_course is not None:
            if state.changes is None:
                state.changes, state.loudest = self.loudness_course.all_changes(), torch.zeros_like(hidden[:, 0, 0])
            positions = state.positions + state.count
            raised, state.loudest = self.loudness_course(frames[:, :, 0], positions, state.loudest, state.changes)
            state.raised = raised[:, -newest:]
        state.count += frames.shape[1]
        state.frames = frames if state.frames is None else torch.cat([state.frames, frames], dim=1)
        state.hidden = hidden[:, -newest:]
        state.history = self.pointer_mixture.history(state.frames, newest, None, state.scores)
        self._count(frames[:, -newest:], state)

    def _count(self, newest: Tensor, state: FrameState) -> None:
        if self.count_experts is not None:
            state.counts = self.count_experts.counts(newest, state.labels, state.folds)

    def next_logits(self, codes: Tensor, state: Any) -> Tensor:
        """See `Prior`."""
        level = codes.shape[1]
        state.history = self.pointer_mixture.given(state.history, codes)
        if level:
            state.hidden = state.hidden + nn.functional.embedding(codes[:, -1:], state.tables.coarser[level - 1])
        return self.logits(codes[:, None], state, level)[:, 0, 0]

    def logits(self, codes: Tensor, state: FrameState, first: int | None = None) -> Tensor:
        """Logits `[B, T, L, V + 2]` of the levels of the frames `codes` `[B, T, Q]` that follow the newest.

        `first` asks for that level alone, given the codes `[B, T, first]` of the coarser ones. After one newest frame
        T frames of `codes` are candidates for the next.
        """
        assert state.hidden is not None
        assert state.history is not None
        levels = slice(0, self.num_quantizers) if first is None else slice(first, first + 1)
        hidden = state.hidden[:, :, None]
        if first is None:
            hidden = hidden + self.coarser(state.tables, codes)
        depth_hidden = self._run_depth(hidden, levels)
        logits, sentinel, gates = self._outputs(depth_hidden, state, first)
        if self.count_experts is not None:
            logits = self.count_experts(logits, gates, state.counts, codes, levels)
        if self.loudness_course is not None and levels.start == 0:
            assert state.raised is not None
            logits = torch.cat([logits[:, :, :1] + state.raised[:, :, None], logits[:, :, 1:]], dim=2)
        retrieved = self._retrieved(codes, state, levels)
        mixed: Tensor = self.pointer_mixture(logits, sentinel, state.history, codes, levels.start, retrieved)
        return mixed + self.impossible[levels, 0]

    def _outputs(self, hidden: Tensor, state: FrameState, first: int | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits `[B, T, L, V + 2]`, sentinels and gates of experts from hidden states `[B, T, L, D]`; `first` as above."""
        if first is not None:
            assert state.layers is not None
            outputs, size = linear(hidden, *state.layers[first]), self.bias.shape[2]
            return outputs[..., :size], outputs[..., size], outputs[..., size + 1 :]
        by_level = hidden.flatten(0, 1).transpose(0, 1)  # [Q, B * T, D]
        logits = torch.bmm(by_level, state.tables.output.transpose(1, 2)).float() + self.bias
        logits = logits.transpose(0, 1).reshape(*hidden.shape[:3], -1)
        gates = None if self.count_experts is None else self.count_experts.gates(hidden)
        with without_autocast(hidden.device.type):
            return logits, self.pointer_mixture.sentinel(hidden.float())[..., 0], gates

    def layers(self, tables: Tables) -> list[Layer]:
        """The layer of each level: logits, the sentinel of the pointer mixture, and gates of experts."""
        sentinel, experts = self.pointer_mixture.sentinel, self.count_experts
        weights, biases = [sentinel.weight], [sentinel.bias.expand(self.num_quantizers, 1)]
        if experts is not None:
            weights.append(experts.gate.weight)
            biases.append(experts.gate.bias + experts.weight)
        every = torch.cat(weights).expand(self.num_quantizers, -1, -1)
        weight, bias = torch.cat([tables.output, every], dim=1), torch.cat([self.bias[:, 0], *biases], dim=1)
        return [Layer(*both) for both in zip(weight.unbind(), bias.unbind(), strict=True)]

    def _retrieved(self, codes: Tensor, state: FrameState, levels: slice) -> Tensor | None:  # noqa: ARG002
        """Weights `[B, T, L, V + 2]` of codes from a memory, if any."""
        return None

    def coarser(self, tables: Tables, codes: Tensor) -> Tensor:
        """Summed embeddings `[B, T, Q, D]` of the coarser codes in `codes` `[B, T, Q]` of each level."""
        vectors = look_up(tables.coarser[:-1], codes[:, :, :-1].clamp_min(0))
        return nn.functional.pad(vectors.cumsum(dim=2), (0, 0, 1, 0))

    def tables(self) -> Tables:
        """Compute the embedding tables from the current weights."""
        return Tables(
            self.input_embedding(self.codewords),
            self.coarser_embedding(self.codewords),
            self.output_embedding(self.codewords),
        )

    def embed(self, frames: Tensor, state: FrameState) -> Tensor:
        """Embed `frames` `[B, T, Q]`, which follow those of the state, as `[B, T, D]`."""
        count = frames.shape[1]
        if count == 1 and state.ahead is not None:
            position = state.ahead.at(state.position + state.count)
        else:
            position = self.position_embedding(state.positions + state.count, count)
        x = self.history_dropout(look_up(state.tables.input, frames)).sum(dim=2) + position
        return cast(Tensor, self.dropout(self.labelled(x, state.labels)))

    def _positions_ahead(self) -> Ahead:
        device = self.bias.device
        return Ahead(lambda first, count: self.position_embedding(torch.tensor([first], device=device), count)[0])

    def _run_depth(self, x: Tensor, levels: slice) -> Tensor:
        x = x + self.level[levels]
        for block in self.depth:
            x = block(x)
        return cast(Tensor, self.norm(x))
