"""`architecture: frame`: a transformer over frames and a small depth network over the levels of each frame."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from distill.codes.sequences import NUM_SPECIAL_TOKENS
from distill.prior.base import Prior
from distill.prior.codeword_embedding import OUTPUT_HIDDEN_SIZE, CodewordEmbedding, look_up, special_token_mask
from distill.prior.count_experts import CountExperts
from distill.prior.dropout import Dropout, HistoryDropout
from distill.prior.frame.config import DepthShape, FrameShape
from distill.prior.loudness_course import LoudnessCourse
from distill.prior.pointer_mixture import PointerMixture
from distill.prior.transformer import (
    INIT_STD,
    KeyValueCache,
    LogPositionEmbedding,
    ResidualBlock,
    Transformer,
    initialise,
)

LABEL_STD = 0.5  # of label embeddings, a quarter of the scale of summed codeword embeddings
LONGER = 1.5  # factor of the longest recording: sounds of a calibrated prior that go on for so long are cut


class Tables(NamedTuple):
    """Embedding tables `[Q, V + 2, D]` of codes: as inputs, as conditions of finer levels, and as outputs."""

    input: Tensor
    coarser: Tensor
    output: Tensor


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
        self.to_depth = nn.Linear(hidden_size, hidden_size)
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
        tables = self.tables()
        hidden = self.hidden_states(tables, inputs, positions, labels)
        logits, depth_hidden = self.network_logits(tables, hidden, inputs, targets, labels, folds)
        if self.loudness_course is not None:
            logits = self.loudness_course(logits, inputs, positions)
        mixed: Tensor = self.pointer_mixture(logits, depth_hidden, inputs, targets)
        return mixed + self.impossible[:, 0]

    def coarser(self, tables: Tables, targets: Tensor) -> Tensor:
        """Summed embeddings `[B, T, Q, D]` of the coarser codes of each level of `targets` `[B, T, Q]`."""
        preceding = look_up(tables.coarser, targets.clamp_min(0)).cumsum(dim=2).roll(1, dims=2)
        preceding[:, :, 0] = 0
        return preceding

    def network_logits(
        self,
        tables: Tables,
        hidden_states: Tensor,
        inputs: Tensor,
        targets: Tensor,
        labels: Tensor | None,
        folds: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Logits `[B, T, Q, V + 2]` before the pointer mixture, and the depth network's hidden states `[B, T, Q, D]`.

        `hidden_states` `[B, T, D]` are those of the method of this name; the rest as for `forward`.
        """
        depth_hidden = self._run_depth(hidden_states[:, :, None] + self.coarser(tables, targets) + self.level)
        batch, frames = depth_hidden.shape[:2]
        by_level = depth_hidden.flatten(0, 1).transpose(0, 1)  # [Q, B * T, D]
        logits = torch.bmm(by_level, tables.output.transpose(1, 2)).float() + self.bias
        logits = logits.transpose(0, 1).reshape(batch, frames, self.num_quantizers, -1)
        if self.count_experts is not None:
            logits = self.count_experts(logits, depth_hidden, inputs, targets, labels, folds)
        return logits, depth_hidden

    def tables(self) -> Tables:
        """Compute the embedding tables from the current weights."""
        return Tables(
            self.input_embedding(self.codewords),
            self.coarser_embedding(self.codewords),
            self.output_embedding(self.codewords),
        )

    def hidden_states(
        self,
        tables: Tables,
        inputs: Tensor,
        positions: Tensor,
        labels: Tensor | None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Hidden states `[B, T, D]` after each frame of `inputs` `[B, T, Q]`.

        With a cache the inputs follow the cached positions.
        """
        x = self.embed(tables, inputs, positions, labels)
        start = None if cache is None else int(positions[0])
        return cast(Tensor, self.to_depth(self.stack(x, cache, start)))

    def embed(self, tables: Tables, inputs: Tensor, positions: Tensor, labels: Tensor | None) -> Tensor:
        """Embed `inputs` `[B, T, Q]`, from `positions` `[B]` on, as `[B, T, D]`."""
        x = self.history_dropout(look_up(tables.input, inputs)).sum(dim=2) + self.position_embedding(
            positions, inputs.shape[1]
        )
        return cast(Tensor, self.dropout(self.labelled(x, labels)))

    def _run_depth(self, x: Tensor) -> Tensor:
        for block in self.depth:
            x = block(x)
        return cast(Tensor, self.norm(x))
