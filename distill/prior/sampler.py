"""Sampling from a prior, frame by frame and level by level."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from distill.codes.sequences import bos_token
from distill.prior.base import Prior

Draw = Callable[[Tensor, int, int], Tensor]
"""Sampling function: logits `[B, V + 2]`, their level and their frame index to one code `[B]` each."""


class Sampler:
    """B sequences being sampled. Beyond the context of the prior, windows advance as in `Prior.window_start`."""

    def __init__(self, prior: Prior, count: int, history: Tensor | None = None, labels: Tensor | None = None) -> None:
        """Start `count` sequences, or continue `history` `[count, F, Q]`; `labels` `[count]` as for `Prior.forward`."""
        device = prior.smoothing.device
        self.prior, self.labels = prior, None if labels is None else labels.to(device)
        bos = torch.full((count, 1, prior.num_quantizers), bos_token(prior.codebook_size), device=device)
        self.frames = bos if history is None else torch.cat([bos, history.to(device)], dim=1)  # the last [B, S, Q]
        self.frame = self.frames.shape[1] - 1  # index of the next one
        self.start = -1  # position of the first frame of the window; -1: no window yet
        self.state: Any = None

    @torch.inference_mode()
    def next_frame(self, draw: Draw) -> Tensor:
        """Sample the next frame `[B, Q]`. A row whose first code is EOS has ended before this frame."""
        prior, start = self.prior, self.prior.window_start(self.frame + 1)
        if start == self.start:
            prior.advance(self.frames[:, -1:], self.state)
        else:
            self.start, self.state = start, prior.start(len(self.frames), self.labels, start)
            prior.advance(self.frames[:, start - self.frame - 1 :], self.state, newest=1)
        codes = self.frames[:, 0, :0]
        for level in range(prior.num_quantizers):
            drawn = draw(prior.next_logits(codes, self.state), level, self.frame)
            codes = torch.cat([codes, drawn.to(codes.device)[:, None]], dim=1)
        self.frame += 1
        self.frames = torch.cat([self.frames[:, -prior.context_frames :], codes[:, None]], dim=1)
        return codes

    @torch.inference_mode()
    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences with these indices."""
        self.frames, self.labels = self.frames[rows], None if self.labels is None else self.labels[rows]
        self.state.keep(rows)
