"""What a prior is, and the plan's reference: a causal transformer over flattened codes (`architecture: flat`)."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from distill.prior.codeword_embedding import special_token_mask
from distill.prior.transformer import INIT_STD
from distill.storage.weights import store_as

LABEL_STD = 0.5  # of labels' vectors, a quarter of what codes add up to that are known by their codewords

Draw = Callable[[Tensor, int, int], Tensor]
"""Logits `[B, V + 2]`, their level and the number of their frame, to one code `[B]` each."""


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
    smoothing: Tensor  # [Q], the share of each level's targets that was spread over all codes in training
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
        self.register_buffer("smoothing", torch.zeros(num_quantizers))
        store_as(self, {"smoothing": "spread"})
        self.register_buffer("longest", torch.zeros(1))
        self.label = nn.Parameter(torch.randn(num_labels + 1, width) * label_std) if num_labels else None

    def forward(self, inputs: Tensor, targets: Tensor, positions: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits `[B, T, Q, V + 2]` of `targets` `[B, T, Q]`, the frames that follow `inputs` `[B, T, Q]`.

        `positions` `[B]` are the numbers of the first inputs in their sequences, T at most `span_frames`; `labels` `[B]`
        the sounds' labels from 1 on, 0 where there is none.
        """
        raise NotImplementedError

    def labelled(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """`[B, T, D]` with what the labels `[B]` say of each sound."""
        if self.label is None:
            return x
        rows = self.label[:1] if labels is None else self.label[labels]
        return x + rows[:, None].to(x.dtype)


class CodewordPrior(Prior):
    """A prior that knows codes by their codewords `[Q, V, C]`, see `CodewordEmbedding`; with C = 0 as numbers only."""

    codewords: Tensor
    impossible: Tensor

    def __init__(self, codewords: Tensor, context_frames: int, width: int, num_labels: int) -> None:
        label_std = LABEL_STD if codewords.shape[2] else INIT_STD
        super().__init__(codewords.shape[1], codewords.shape[0], context_frames, width, num_labels, label_std)
        self.register_buffer("codewords", codewords.clone())
        self.register_buffer(
            "impossible", special_token_mask(self.num_quantizers, self.codebook_size), persistent=False
        )
