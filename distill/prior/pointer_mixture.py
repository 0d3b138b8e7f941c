"""What a recording history before: codes of earlier frames, weighed against what the network would say."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.storage.weights import store_as

AGES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)  # frames, first of each class
TINY = 1e-20  # probability that keeps logarithms and their gradients finite


class _History(NamedTuple):
    """Frames `[B, S, Q]` that may be history again, each with the one before it, and how old they are to each of T frames
    `[T, S]`; of ages from `reach` on none is history again."""

    frames: Tensor
    previous: Tensor
    ages: Tensor
    reach: int


class PointerMixture(nn.Module):
    """A pointer-sentinel mixture (Merity et al. 2016) with scores that no recording can be learnt by heart with.

    Steady sound says the same again, in words that other recordings may never use. The probability of a code is that of
    the network, weighed by a sentinel, plus the weights of all earlier frames that have it. A frame's weight is the
    exponential of what its age, its agreement with the coarser codes of the frame in question and the agreement of what
    came before both are worth: a few numbers for each level.
    """

    coarser: Tensor
    ages: Tensor

    def __init__(self, levels: int, codebook_size: int, width: int) -> None:
        super().__init__()
        self.levels, self.codebook_size = levels, codebook_size
        self.age = nn.Parameter(torch.zeros(levels, len(AGES)))
        self.agreement = nn.Parameter(
            torch.ones(levels, 2 * levels)
        )  # coarser codes of the frame; all of the one before
        self.sentinel = nn.Linear(width, 1)
        self.threshold = nn.Parameter(torch.full((levels,), 3.0))
        store_as(self, {"agreement": "same"})
        nn.init.zeros_(self.sentinel.weight)
        self.register_buffer("coarser", torch.ones(levels, levels).tril(-1), persistent=False)
        self.register_buffer("ages", torch.tensor(AGES), persistent=False)

    def forward(self, logits: Tensor, hidden: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Logits `[B, T, Q, V + 2]` of the frames after each of `inputs` `[B, T, Q]`, mixed with what these history.

        `targets` `[B, T, Q]` are those frames, of which a level knows the coarser codes; `hidden` `[B, T, Q, D]` is what the
        logits were made of.
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
        """`forward` of nothing but the last `reach` frames before each that is asked for; `prefix` `[B, P, Q]` are those
        before `inputs`, `retrieved` `[B, T, Q, V + 2]` what codes weigh besides. Time and memory grow with T * reach."""
        frames = inputs.shape[1]
        padding = -frames % reach
        mark = self.codebook_size
        previous = nn.functional.pad(prefix, (0, 0, max(0, reach + 1 - prefix.shape[1]), 0), value=mark)
        padded_frames = nn.functional.pad(
            torch.cat([previous[:, -reach - 1 :], inputs], dim=1), (0, 0, 0, padding), value=mark
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
        """As `near` of the frame after `inputs` `[B, T, Q]`, for each of the frames that it may be, `candidates` `[B, N, Q]`."""
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
        """Logarithms of the weights of what was history, `[B, Q, T, S]`; -inf where it is not past, too old or a mark."""
        matches = torch.cat(
            [targets[:, :, None] == history.frames[:, None], inputs[:, :, None] == history.previous[:, None]], dim=3
        ).float()  # [B, T, S, 2 Q]
        agreement_scores = torch.cat([self.coarser_agreement(), self.agreement[:, self.levels :]], dim=1)
        scores = (matches @ agreement_scores.T).permute(0, 3, 1, 2)
        scores = scores + self.age_scores(history.ages.clamp_min(0))
        mark = history.frames.transpose(1, 2)[:, :, None] >= self.codebook_size
        return scores.masked_fill((history.ages < 0) | (history.ages >= history.reach) | mark, -torch.inf)

    def coarser_agreement(self) -> Tensor:
        """What agreement of each coarser code is worth to a level, `[Q, Q]`; 0 for codes that are not coarser."""
        return self.agreement[:, : self.levels] * self.coarser

    def age_scores(self, ages: Tensor) -> Tensor:
        """What ages `[...]` in frames, from 0 on, are worth: `[Q, ...]`."""
        return self.age[:, torch.bucketize(ages, self.ages, right=True) - 1]


def previous_frames(frames: Tensor) -> Tensor:
    """For each of `frames` `[B, T, Q]` the one before it, -1 before the first."""
    return nn.functional.pad(frames[:, :-1], (0, 0, 1, 0), value=-1)
