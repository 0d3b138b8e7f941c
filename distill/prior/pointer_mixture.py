"""Pointer-sentinel mixture: codes copied from earlier frames against the network's own distribution."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

# Lower bounds of the age classes, in frames.
AGES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)
NETWORK_ALONE = 50.0  # log-weight of the network beside which copies count for nothing
TINY = 1e-20  # probability that keeps logarithms and their gradients finite


class _History(NamedTuple):
    """Frames `[B, S, Q]` that may be copied, each with the frame before it.

    `ages` `[T, S]` are their ages at each of T positions. Frames of age `reach` or more are not copied.
    """

    frames: Tensor
    previous: Tensor
    ages: Tensor
    reach: int


class PointerMixture(nn.Module):
    """Pointer-sentinel mixture (Merity et al. 2016) with too few scores to memorise a recording.

    Steady sound repeats itself, in codewords that other recordings may never use. The probability of a code is the
    network's, weighted by a sentinel, plus the weights of all earlier frames that hold it. The weight of a frame is the
    exponential of a sum of scores: one for its age, one for each coarser code that it shares with the target frame, and
    one for each code that the frames before both share. Scores are a few parameters a level.
    """

    coarser: Tensor
    ages: Tensor

    def __init__(self, levels: int, codebook_size: int, width: int) -> None:
        super().__init__()
        self.levels, self.codebook_size = levels, codebook_size
        self.age = nn.Parameter(torch.zeros(levels, len(AGES)))
        # Scores of equal coarser codes of the frame, then of equal codes of the frame before.
        self.agreement = nn.Parameter(torch.ones(levels, 2 * levels))
        self.sentinel = nn.Linear(width, 1)
        self.threshold = nn.Parameter(torch.full((levels,), 3.0))
        nn.init.zeros_(self.sentinel.weight)
        self.register_buffer("coarser", torch.ones(levels, levels).tril(-1), persistent=False)
        self.register_buffer("ages", torch.tensor(AGES), persistent=False)

    @torch.no_grad()
    def copy_nothing(self, level: int) -> None:
        """Leave a level to the network: weights of copies are negligible, and so are their gradients."""
        self.threshold[level] = NETWORK_ALONE

    def forward(self, logits: Tensor, hidden: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mix the network's `logits` `[B, T, Q, V + 2]` with copies from `inputs` `[B, T, Q]`. Returns logits.

        A level depends on the coarser codes of its frame in `targets` `[B, T, Q]`. `hidden` `[B, T, Q, D]` are the
        hidden states that the logits were computed from.
        """
        positions = torch.arange(inputs.shape[1], device=inputs.device)
        history = _History(inputs, previous_frames(inputs), positions[:, None] - positions, inputs.shape[1])
        return self._mix(logits, hidden, inputs, targets, history)

    def forward_windowed(
        self,
        logits: Tensor,
        hidden: Tensor,
        inputs: Tensor,
        targets: Tensor,
        prefix: Tensor,
        reach: int,
        retrieved: Tensor,
    ) -> Tensor:
        """`forward` with copies from the last `reach` frames only. Time and memory grow with T * reach.

        `prefix` `[B, P, Q]` are the frames before `inputs`; `retrieved` `[B, T, Q, V + 2]` are weights of codes that
        are added to those of copies.
        """
        frames = inputs.shape[1]
        padding = -frames % reach
        bos = self.codebook_size
        previous = nn.functional.pad(prefix, (0, 0, max(0, reach + 1 - prefix.shape[1]), 0), value=bos)
        padded_frames = nn.functional.pad(
            torch.cat([previous[:, -reach - 1 :], inputs], dim=1), (0, 0, 0, padding), value=bos
        )
        block_frames, block_previous = (
            part.unfold(1, 2 * reach, reach).flatten(0, 1).mT
            for part in (padded_frames[:, 1:], previous_frames(padded_frames)[:, 1:])
        )  # [B * blocks, 2 * reach, Q]
        positions = torch.arange(2 * reach, device=inputs.device)
        ages = positions[reach:, None] - positions  # [reach, 2 * reach]

        def blocks(x: Tensor) -> Tensor:
            padded = nn.functional.pad(x, (0, 0) * (x.ndim - 2) + (0, padding))
            return padded.reshape(-1, reach, *x.shape[2:])

        history = _History(block_frames, block_previous, ages, reach)
        mixed = self._mix(blocks(logits), blocks(hidden), blocks(inputs), blocks(targets), history, blocks(retrieved))
        return mixed.reshape(len(inputs), -1, *mixed.shape[2:])[:, :frames]

    def forward_candidates(
        self, logits: Tensor, hidden: Tensor, inputs: Tensor, candidates: Tensor, retrieved: Tensor, reach: int
    ) -> Tensor:
        """`forward_windowed` for `candidates` `[B, N, Q]`, each as the frame after `inputs` `[B, T, Q]`."""
        previous = previous_frames(inputs)
        first = max(0, inputs.shape[1] - reach)
        ages = torch.arange(inputs.shape[1] - first, device=inputs.device).flip(0)
        history = _History(inputs[:, first:], previous[:, first:], ages.expand(candidates.shape[1], -1), reach)
        last = inputs[:, -1:].expand_as(candidates)
        return self._mix(logits, hidden, last, candidates, history, retrieved)

    def _mix(
        self,
        logits: Tensor,
        hidden: Tensor,
        inputs: Tensor,
        targets: Tensor,
        history: _History,
        retrieved: Tensor | None = None,
    ) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            sentinel = self.sentinel(hidden.float())[..., 0].transpose(1, 2) + self.threshold[:, None]  # [B, Q, T]
            scores = self._scores(inputs, targets, history)  # [B, Q, T, S]
            top = torch.maximum(scores.amax(dim=3), sentinel).detach()
            weights = (scores - top[..., None]).exp()
            codes = nn.functional.one_hot(history.frames, logits.shape[3]).to(weights.dtype)  # [B, S, Q, V + 2]
            copied = weights @ codes.transpose(1, 2)
            generated = logits.float().softmax(dim=3).transpose(1, 2) * (sentinel - top).exp()[..., None]
            if retrieved is not None:
                copied = copied + retrieved.transpose(1, 2) * (-top).exp()[..., None]
            mixed: Tensor = (generated + copied + TINY).log().transpose(1, 2)
            return mixed

    def _scores(self, inputs: Tensor, targets: Tensor, history: _History) -> Tensor:
        """Log-weights `[B, Q, T, S]` of frames; -inf for later or too old frames and for special tokens."""
        matches = torch.cat(
            [targets[:, :, None] == history.frames[:, None], inputs[:, :, None] == history.previous[:, None]], dim=3
        ).float()  # [B, T, S, 2 Q]
        agreement_scores = torch.cat([self.coarser_agreement(), self.agreement[:, self.levels :]], dim=1)
        scores = (matches @ agreement_scores.T).permute(0, 3, 1, 2)
        scores = scores + self.age_scores(history.ages.clamp_min(0))
        special = history.frames.transpose(1, 2)[:, :, None] >= self.codebook_size
        return scores.masked_fill((history.ages < 0) | (history.ages >= history.reach) | special, -torch.inf)

    def coarser_agreement(self) -> Tensor:
        """Scores `[Q, Q]` of an equal coarser code for each level; 0 for codes that are not coarser."""
        return self.agreement[:, : self.levels] * self.coarser

    def age_scores(self, ages: Tensor) -> Tensor:
        """Scores `[Q, ...]` of ages `[...]` in frames, from 0 on."""
        return self.age[:, torch.bucketize(ages, self.ages, right=True) - 1]


def previous_frames(frames: Tensor) -> Tensor:
    """The frame before each of `frames` `[B, T, Q]`, -1 before the first."""
    return nn.functional.pad(frames[:, :-1], (0, 0, 1, 0), value=-1)
