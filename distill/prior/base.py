"""Interface of priors over codes: one forward pass, whole in training and continued from a state in sampling."""

import math
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from distill.codes.sequences import window_start
from distill.prior.architectures import ARCHITECTURES
from distill.prior.shape import PriorShape
from distill.prior.transformer import INIT_STD

if TYPE_CHECKING:
    AnyShape = PriorShape
else:  # type checkers cannot read the table
    AnyShape = Annotated[
        reduce(or_, (one.shape for one in ARCHITECTURES.values())), Field(discriminator="architecture")
    ]


class Prior(nn.Module):
    """A distribution over sequences of frames of codes, conditional on labels where there are any.

    `forward` runs whole windows. Sampling continues: `start` makes a state, `advance` reads frames, `next_logits`
    predicts the levels of the frame that follows one by one. All run the same modules.
    """

    codebook_size: int  # V, without special tokens
    num_quantizers: int  # Q
    context_frames: int  # frames that attention sees
    span_frames: int  # longest sequence in training and validation
    smoothing: Tensor  # [Q], label smoothing of each level in training
    longest: Tensor  # [1], frames of the longest training recording, 0 if unknown

    def __init__(self, shape: PriorShape, label_std: float = INIT_STD) -> None:
        super().__init__()
        self.shape = shape
        self.codebook_size, self.num_quantizers = shape.codebook_size, shape.num_quantizers
        self.context_frames = self.span_frames = shape.context_frames
        self.register_buffer("smoothing", torch.zeros(shape.num_quantizers))
        self.register_buffer("longest", torch.zeros(1))
        self.label: nn.Parameter | None = None  # [labels + 1, D], label embeddings; row 0: no label
        if shape.labels:
            self.label = nn.Parameter(torch.randn(len(shape.labels) + 1, shape.hidden_size) * label_std)

    @property
    def most_frames(self) -> int:
        """Frames after which a sound is cut that has not ended; 0 for no such number. By default the longest known."""
        longest = self.longest.item()
        return int(longest) if 1 <= longest < math.inf else 0  # a file may hold any number

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor,
        positions: Tensor,
        labels: Tensor | None = None,
        folds: Tensor | None = None,
    ) -> Tensor:
        """Logits `[B, T, Q, V + 2]` of `targets` `[B, T, Q]`, the frames that follow `inputs` `[B, T, Q]`.

        `positions` `[B]` are the indices of the first inputs in their sequences. T is at most `span_frames`.
        `labels` `[B]` count from 1; 0 is no label. `folds` `[B]` choose the counts of `CountExperts`, where there are.
        """
        raise NotImplementedError

    def window_start(self, frames: int) -> int:
        """Start of the window that the next frame is predicted from, after so many frames. BOS counts."""
        return window_start(frames, self.context_frames)

    def start(self, batch_size: int, labels: Tensor | None = None, position: int = 0) -> Any:
        """State of sequences that begin at `position`, for `advance`, `next_logits`, and its own `keep(rows)`."""
        raise NotImplementedError

    def advance(self, frames: Tensor, state: Any, newest: int | None = None) -> None:
        """Read `frames` `[B, T, Q]`, which follow those before. Only the `newest` of them are asked for what follows."""
        raise NotImplementedError

    def next_logits(self, codes: Tensor, state: Any) -> Tensor:
        """Logits `[B, V + 2]` of the next level of the frame that follows, given its L coarser codes `[B, L]`."""
        raise NotImplementedError

    def labelled(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Add the embeddings of `labels` `[B]` to `x` `[B, T, D]`."""
        if self.label is None:
            return x
        rows = self.label[:1] if labels is None else nn.functional.embedding(labels, self.label)
        return x + rows[:, None].to(x.dtype)


def build_prior(
    shape: PriorShape, codewords: Tensor | None = None, dropout: float = 0.0, history_dropout: float = 0.0
) -> Prior:
    """Build a prior of this shape, with weights drawn from torch's global generator.

    Without `codewords` `[Q, V, C]` they are zeros, for a state dict to fill.
    """
    build: Any = ARCHITECTURES[shape.architecture].network
    prior: Prior = build(shape, codewords, dropout, history_dropout)
    return prior
