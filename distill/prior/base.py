"""Interfaces of priors over codes and of their step-by-step samplers."""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from distill.prior.codeword_embedding import special_token_mask
from distill.prior.transformer import INIT_STD

LABEL_STD = 0.5  # of label embeddings, a quarter of the scale of summed codeword embeddings

Draw = Callable[[Tensor, int, int], Tensor]
"""Sampling function: logits `[B, V + 2]`, their level and their frame index to one code `[B]` each."""


class Sampler(Protocol):
    """B sequences being sampled, frame by frame."""

    def next_frame(self, draw: Draw) -> Tensor:
        """Sample the next frame `[B, Q]`. A row whose first code is EOS has ended before this frame."""

    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences with these indices."""


class Prior(nn.Module):
    """A distribution over sequences of frames of codes, conditional on labels where there are any."""

    codebook_size: int  # V, without special tokens
    num_quantizers: int  # Q
    context_frames: int  # frames that attention sees
    span_frames: int  # longest sequence in training and validation
    smoothing: Tensor  # [Q], label smoothing of each level in training
    longest: Tensor  # [1], frames of the longest training recording, 0 if unknown
    label: nn.Parameter | None  # [labels + 1, D], label embeddings; row 0: no label

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
        self.register_buffer("smoothing", torch.zeros(num_quantizers))
        self.register_buffer("longest", torch.zeros(1))
        self.label = nn.Parameter(torch.randn(num_labels + 1, width) * label_std) if num_labels else None

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

    def labelled(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Add the embeddings of `labels` `[B]` to `x` `[B, T, D]`."""
        if self.label is None:
            return x
        rows = self.label[:1] if labels is None else self.label[labels]
        return x + rows[:, None].to(x.dtype)


class CodewordPrior(Prior):
    """A prior that embeds codes by their codewords `[Q, V, C]`, see `CodewordEmbedding`; with C = 0 by index alone."""

    codewords: Tensor
    impossible: Tensor

    def __init__(self, codewords: Tensor, context_frames: int, width: int, num_labels: int) -> None:
        label_std = LABEL_STD if codewords.shape[2] else INIT_STD
        super().__init__(codewords.shape[1], codewords.shape[0], context_frames, width, num_labels, label_std)
        self.register_buffer("codewords", codewords.clone())
        self.register_buffer(
            "impossible", special_token_mask(self.num_quantizers, self.codebook_size), persistent=False
        )
