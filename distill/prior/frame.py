"""`architecture: frame`: a transformer over frames and a small depth network over the levels of each frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from distill.codec.layout import ATOM, NOTE, SHAPE
from distill.codes.sequences import NUM_SPECIAL_TOKENS, Batch
from distill.codes.store import CodesConfig
from distill.errors import ParamsError
from distill.params import CodewordSize, DepthLayers, PriorConfig
from distill.prior.attention import without_autocast
from distill.prior.base import CountedTones, Prior, PriorShape
from distill.prior.counts import ChosenTables, CountExperts
from distill.prior.pointer_mixture import History, PointerMixture, mix
from distill.prior.transformer import (
    INIT_STD,
    Dropout,
    KeyValueCache,
    LogPositionEmbedding,
    ResidualBlock,
    Transformer,
    initialise,
)

# Levels with a free vector per code; on finer levels free vectors memorise the recordings
FREE_LEVELS = 1


class DepthShape(PriorShape):
    """`PriorShape` of a prior with a depth network over the levels of a frame.

    `count_experts`: the prior has counts of the training recordings, overall and, if there are labels, by label.
    """

    depth_layers: DepthLayers
    codeword_size: CodewordSize
    count_experts: bool

    @classmethod
    def of(
        cls,
        settings: PriorConfig,
        codes: CodesConfig,
        codeword_size: int,
        labels: Sequence[str] = (),
    ) -> Self:
        """See `PriorShape`. Raises ParamsError if counts take over 512 MiB (about 2,000 codewords in 16 levels)."""
        count_bytes = 2 * codes.num_quantizers * codes.codebook_size**2 * 4
        if settings.count_experts and count_bytes > 512 << 20:
            raise ParamsError(
                f"prior.count_experts: expected false where the counts of {codes.num_quantizers} levels of "
                f"{codes.codebook_size} codewords would take {count_bytes >> 20} MB, found true; set it to false, or "
                "lower vqvae.codebook_size"
            )
        return super().of(settings, codes, codeword_size, labels)


class FrameShape(DepthShape):
    """`PriorShape` of a `FramePrior`."""

    architecture: Literal["frame"] = "frame"


class CodewordEmbedding(nn.Module):
    """Embedding of every code of every level: a function of its codeword, plus a free vector on the first level.

    Codes that sound alike share what is learnt, which matters most with only minutes of training audio
    (docs/decisions). The function is a projection or, with `hidden_size` hidden units, an MLP: an output distribution
    centres on a point in codeword space, and a projection cannot express distance. Special tokens have free vectors.
    """

    def __init__(self, shape: DepthShape, hidden_size: int = 0) -> None:
        super().__init__()
        levels, codeword_size, width = shape.num_quantizers, shape.codeword_size, shape.hidden_size
        self.up = nn.Parameter(
            torch.randn(levels, codeword_size, hidden_size or width) / codeword_size**0.5
        )
        self.up_bias: nn.Parameter | None = None
        self.down: nn.Parameter | None = None
        if hidden_size:
            self.up_bias = nn.Parameter(torch.zeros(levels, 1, hidden_size))
            self.down = nn.Parameter(
                torch.randn(levels, hidden_size, width) * 0.1 / hidden_size**0.5
            )
        self.free = nn.Parameter(torch.randn(FREE_LEVELS, shape.codebook_size, width) * INIT_STD)
        self.special = nn.Parameter(torch.randn(levels, NUM_SPECIAL_TOKENS, width) * INIT_STD)

    def forward(self, codewords: Tensor) -> Tensor:
        """Embedding tables `[Q, V + 2, D]` of codewords `[Q, V, codeword_size]`."""
        vectors = torch.bmm(codewords, self.up)
        if self.up_bias is not None and self.down is not None:
            vectors = torch.bmm(nn.functional.gelu(vectors + self.up_bias), self.down)
        vectors = torch.cat([vectors[:FREE_LEVELS] + self.free, vectors[FREE_LEVELS:]])
        return torch.cat([vectors, self.special.to(vectors.dtype)], dim=1)


def look_up(table: Tensor, codes: Tensor) -> Tensor:
    """Look up the vectors `[..., Q, D]` of codes `[..., Q]` in a table `[Q, V + 2, D]`."""
    levels, size, width = table.shape
    rows = codes + torch.arange(0, levels * size, size, device=codes.device)
    return nn.functional.embedding(rows, table.reshape(levels * size, width))


class HistoryDropout(nn.Module):
    """Dropout of the finer levels of input frames, from a random level on.

    A thinner history is a weaker predictor, so the prior relies more on labels. Each window draws its proportion of
    affected frames between 0 and 2 `p` (`p` at most 0.5). The first frame is kept.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Zero the dropped levels of embeddings `[B, T, Q, D]` in training."""
        if not self.training or not self.p:
            return x
        batch, frames, levels = x.shape[:3]
        dropped = torch.rand(batch, frames, device=x.device) < 2 * self.p * torch.rand(
            batch, 1, device=x.device
        )
        dropped[:, 0] = False
        num_kept = torch.randint(levels, (batch, frames), device=x.device).masked_fill(
            ~dropped, levels
        )
        return x * (torch.arange(levels, device=x.device) < num_kept[:, :, None])[..., None].to(
            x.dtype
        )


class Tables(NamedTuple):
    """Embedding tables `[Q, V + 2, D]` of codes: as inputs, as context for finer levels, and as outputs."""

    input: Tensor
    coarser: Tensor
    output: Tensor


@dataclass(eq=False)
class FrameState:
    """State of a `FramePrior` after the frames so far. `layers` is set for step-by-step generation only."""

    tables: Tables
    positions: Tensor  # [B], of the first frame
    labels: Tensor | None  # [B]
    counts: ChosenTables | None  # of `CountExperts`
    frames: Tensor  # [B, S, Q], all frames so far, which the pointer mixture may copy
    # Weight and bias of each level, see `FramePrior.layers`
    layers: list[tuple[Tensor, Tensor]] | None = None
    cache: KeyValueCache | None = None
    count: int = 0  # number of frames so far
    newest: Tensor | None = None  # [B, T, Q], frames whose successors are predicted
    hidden: Tensor | None = None  # [B, T, D] after the newest; `next_logits` adds the next codes
    history: History | None = None  # of the pointer mixture, at each newest frame
    # Result of `CountExperts.look_up`; finer levels share a lookup
    experts: tuple[list[Tensor], Tensor] | None = None
    # [B, L, 1, S], scores of the next level and the L - 1 finer levels
    copied: Tensor | None = None

    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences with these indices."""
        if self.cache is not None:
            self.cache.keep(rows)
        self.positions, self.frames = self.positions[rows], self.frames[rows]
        self.labels = None if self.labels is None else self.labels[rows]
        self.counts = None if self.counts is None else self.counts.rows(rows)


class FramePrior(Prior):
    """A causal transformer over frames and a depth network that predicts the levels of the next frame one by one.

    It follows the RQ-Transformer (Lee et al. 2022), with residual blocks in place of attention over depth.
    """

    def __init__(
        self,
        shape: DepthShape,
        codewords: Tensor | None = None,
        dropout: float = 0.0,
        history_dropout: float = 0.0,
    ) -> None:
        """`codewords` are `[Q, V, C]`; zeros if omitted, to be filled from a state dict."""
        super().__init__(
            shape, label_std=0.5
        )  # a quarter of the scale of summed codeword embeddings
        levels, size, hidden_size = shape.num_quantizers, shape.codebook_size, shape.hidden_size
        if codewords is None:
            codewords = torch.zeros(levels, size, shape.codeword_size)
        self.codewords: Tensor = nn.Buffer(codewords.clone())
        self.input_embedding = CodewordEmbedding(shape)
        self.coarser_embedding = CodewordEmbedding(shape)
        self.output_embedding = CodewordEmbedding(shape, hidden_size=128)
        self.position_embedding = LogPositionEmbedding(hidden_size)
        self.dropout, self.history_dropout = Dropout(dropout), HistoryDropout(history_dropout)
        self.stack = self._build_stack(dropout)
        self.to_depth = nn.Linear(hidden_size, hidden_size)
        self.level = nn.Parameter(torch.zeros(levels, hidden_size))
        self.depth = nn.ModuleList(
            ResidualBlock(hidden_size, dropout) for _ in range(shape.depth_layers)
        )
        self.norm = nn.LayerNorm(hidden_size)
        self.pointer_mixture = PointerMixture(levels, size, hidden_size)
        self.count_experts = (
            CountExperts(shape.codebook_sizes, hidden_size, len(shape.labels))
            if shape.count_experts
            else None
        )
        self.bias = nn.Parameter(torch.zeros(levels, 1, size + NUM_SPECIAL_TOKENS))
        for part in (self.to_depth, self.depth):
            initialise(part, max(1, shape.depth_layers))

    def _build_stack(self, dropout: float) -> nn.Module:
        """Build the network over frames."""
        shape = self.shape
        return Transformer(
            shape.hidden_size, shape.num_layers, shape.num_heads, dropout, rotary=True
        )

    def counted_tones(self) -> CountedTones:
        """See `Prior`."""
        counted, experts = super().counted_tones(), self.count_experts
        if experts is None:
            return counted
        notes, atoms = (count.shape[1] for count in counted)
        by_note = experts.unigram[NOTE, :notes] + (
            experts.labelled[:, NOTE, :notes] if self.shape.labels else 0
        )
        by_atom = experts.unigram[ATOM, :atoms] + experts.given[ATOM, :notes, :atoms]
        return CountedTones(counted.notes + by_note.cpu(), counted.atoms + by_atom.cpu())

    def forward(self, batch: Batch) -> Tensor:
        """See `Prior`. The logits of a level depend on the coarser levels of its frame in the targets."""
        state = self._state(batch.positions, batch.labels, batch.folds)
        self.advance(batch.inputs, state)
        return self.logits(batch.targets, state)

    def _state(
        self, positions: Tensor, labels: Tensor | None, folds: Tensor | None = None
    ) -> FrameState:
        """State before the first frame."""
        counts = None if self.count_experts is None else self.count_experts.choose(labels, folds)
        no_frames = positions.new_zeros(len(positions), 0, self.num_quantizers)
        return FrameState(self.tables(), positions, labels, counts, no_frames)

    def start(self, labels: Tensor, position: int = 0) -> FrameState:
        """See `Prior`."""
        state = self._state(torch.full_like(labels, position), labels)
        state.layers = self.layers(state.tables)
        if isinstance(self.stack, Transformer):
            state.cache = KeyValueCache(self.stack, len(labels), self.context_frames)
        return state

    def advance(self, frames: Tensor, state: Any, newest: int | None = None) -> None:
        """See `Prior`."""
        newest = newest or frames.shape[1]
        hidden = self.to_depth(self.stack(self.embed(frames, state), state.cache))
        state.count += frames.shape[1]
        state.frames = torch.cat([state.frames, frames], dim=1)
        state.newest, state.hidden = frames[:, -newest:], hidden[:, -newest:]
        state.history = self.pointer_mixture.history(state.frames, newest)

    def logits(self, codes: Tensor, state: FrameState) -> Tensor:
        """Logits `[B, T, Q, V + 2]` of the frames `codes` `[B, T, Q]` that follow the newest frames.

        After a single newest frame, the T frames of `codes` are candidates for the next frame.
        """
        assert state.hidden is not None
        assert state.newest is not None
        coarser = look_up(state.tables.coarser[:-1], codes[:, :, :-1].clamp_min(0)).cumsum(dim=2)
        coarser = nn.functional.pad(
            coarser, (0, 0, 1, 0)
        )  # [B, T, Q, D], sums of the embeddings of coarser codes
        hidden = self._run_depth(state.hidden[:, :, None] + coarser + self.level)
        by_level = hidden.flatten(0, 1).transpose(0, 1)  # [Q, B * T, D]
        bias = (
            self.bias + self.impossible[:, None]
        )  # mask here too: impossible codes take no probability
        logits = torch.bmm(by_level, state.tables.output.transpose(1, 2)).float() + bias
        logits = logits.transpose(0, 1).reshape(*hidden.shape[:3], -1)
        if self.count_experts is not None and state.counts is not None:
            logits = self.count_experts(logits, hidden, state.counts, state.newest, codes)
        with without_autocast(hidden.device.type):
            sentinel = self.pointer_mixture.sentinel(hidden.float())[..., 0]
        retrieved = self._retrieved(codes, state, slice(0, self.num_quantizers))
        mixed: Tensor = self.pointer_mixture(logits, sentinel, state.history, codes, retrieved)
        return mixed + self.impossible

    def next_logits(self, codes: Tensor, state: Any) -> Tensor:
        """See `Prior`."""
        level = codes.shape[1]
        if level:
            state.hidden = state.hidden + nn.functional.embedding(
                codes[:, -1:], state.tables.coarser[level - 1]
            )
        hidden = self._run_depth(state.hidden + self.level[level])
        # [B, 1, E]
        outputs, size = nn.functional.linear(hidden, *state.layers[level]), self.bias.shape[2]
        logits, sentinel, weights = (
            outputs[..., :size],
            outputs[..., size],
            outputs[..., size + 1 :],
        )
        experts = self.count_experts
        if experts is not None:
            finer = SHAPE + 1  # from here on, the context of all finer levels is known
            if level <= finer:
                levels = slice(level, level + 1 if level < finer else self.num_quantizers)
                state.experts = experts.look_up(state.counts, state.newest, codes[:, None], levels)
            index = max(0, level - finer)
            logs, evidence = state.experts
            logits = experts.add(
                logits, weights + evidence[:, :, index], [log[:, :, index] for log in logs]
            )
        state.copied = self.pointer_mixture.next_scores(state.history, codes, state.copied)
        retrieved = self._retrieved(codes[:, None], state, slice(level, level + 1))
        mixed = mix(
            logits.softmax(dim=-1),
            sentinel,
            state.copied[:, 0],
            state.history.frames[:, None, :, level],
            None if retrieved is None else retrieved[:, :, 0],
        )
        return (mixed + self.impossible[level])[:, 0]

    def layers(self, tables: Tables) -> list[tuple[Tensor, Tensor]]:
        """Fuse each level's projections of the hidden state into one: weight `[E, D]` and bias `[E]` per level.

        Outputs: logits including the unigrams, the sentinel, and the weights of the other experts.
        """
        mixture, experts = self.pointer_mixture, self.count_experts
        weights, biases = tables.output, self.bias[:, 0] + self.impossible
        more = [(mixture.sentinel.weight, mixture.sentinel.bias + mixture.threshold[:, None])]
        if experts is not None:
            gate, bias = experts.gate.weight, experts.gate.bias + experts.weight
            weights = weights + experts.unigram[:, :, None] * gate[0]
            biases = biases + experts.unigram * bias[:, :1]
            more.append((gate[1:], bias[:, 1:]))
        shared = torch.cat([weight for weight, _ in more]).expand(self.num_quantizers, -1, -1)
        weights, biases = (
            torch.cat([weights, shared], dim=1),
            torch.cat([biases, *(bias for _, bias in more)], dim=1),
        )
        return list(zip(weights, biases, strict=True))

    def _retrieved(self, codes: Tensor, state: FrameState, levels: slice) -> Tensor | None:  # noqa: ARG002
        """Weights `[B, T, L, V + 2]` of codes from a memory, or None without one."""
        return None

    def tables(self) -> Tables:
        """Compute the embedding tables from the current weights."""
        embeddings = (self.input_embedding, self.coarser_embedding, self.output_embedding)
        return Tables(*(embedding(self.codewords) for embedding in embeddings))

    def embed(self, frames: Tensor, state: FrameState) -> Tensor:
        """Embed `frames` `[B, T, Q]`, which follow the frames of the state, as `[B, T, D]`."""
        position = self.position_embedding(state.positions + state.count, frames.shape[1])
        x = self.history_dropout(look_up(state.tables.input, frames)).sum(dim=2) + position
        return cast(Tensor, self.dropout(self.labelled(x, state.labels)))

    def _run_depth(self, x: Tensor) -> Tensor:
        for block in self.depth:
            x = block(x)
        return cast(Tensor, self.norm(x))
