"""What a recording said before: codes of earlier frames, weighed against what the network would say."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

AGES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)  # frames, first of each class
TINY = 1e-20  # probability that keeps logarithms and their gradients finite


class _Said(NamedTuple):
    """Frames `[B, S, Q]` that may be said again, each with the one before it, and how old they are to each of T frames
    `[T, S]`; of ages from `reach` on none is said again."""

    frames: Tensor
    before: Tensor
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
        self.same = nn.Parameter(torch.ones(levels, 2 * levels))  # coarser codes of the frame; all of the one before
        self.sentinel = nn.Linear(width, 1)
        self.threshold = nn.Parameter(torch.full((levels,), 3.0))
        nn.init.zeros_(self.sentinel.weight)
        self.register_buffer("coarser", torch.ones(levels, levels).tril(-1), persistent=False)
        self.register_buffer("ages", torch.tensor(AGES), persistent=False)

    def forward(self, logits: Tensor, deep: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Logits `[B, T, Q, V + 2]` of the frames after each of `inputs` `[B, T, Q]`, mixed with what these said.

        `targets` `[B, T, Q]` are those frames, of which a level knows the coarser codes; `deep` `[B, T, Q, D]` is what the
        logits were made of.
        """
        positions = torch.arange(inputs.shape[1], device=inputs.device)
        said = _Said(inputs, _one_later(inputs), positions[:, None] - positions, inputs.shape[1])
        return self._mixed(logits, deep, inputs, targets, said)

    def near(
        self, logits: Tensor, deep: Tensor, inputs: Tensor, targets: Tensor, earlier: Tensor, reach: int, far: Tensor
    ) -> Tensor:
        """`forward` of nothing but the last `reach` frames before each that is asked for; `earlier` `[B, P, Q]` are those
        before `inputs`, `far` `[B, T, Q, V + 2]` what codes weigh besides. Time and memory grow with T * reach."""
        frames = inputs.shape[1]
        spare = -frames % reach
        mark = self.codebook_size
        before = nn.functional.pad(earlier, (0, 0, max(0, reach + 1 - earlier.shape[1]), 0), value=mark)
        said = nn.functional.pad(torch.cat([before[:, -reach - 1 :], inputs], dim=1), (0, 0, 0, spare), value=mark)
        frames_said, frames_before = (
            part.unfold(1, 2 * reach, reach).flatten(0, 1).mT for part in (said[:, 1:], _one_later(said)[:, 1:])
        )  # [B * blocks, 2 * reach, Q]
        positions = torch.arange(2 * reach, device=inputs.device)
        ages = positions[reach:, None] - positions  # [reach, 2 * reach]

        def blocks(x: Tensor) -> Tensor:
            padded = nn.functional.pad(x, (0, 0) * (x.ndim - 2) + (0, spare))
            return padded.reshape(-1, reach, *x.shape[2:])

        near = _Said(frames_said, frames_before, ages, reach)
        mixed = self._mixed(blocks(logits), blocks(deep), blocks(inputs), blocks(targets), near, blocks(far))
        return mixed.reshape(len(inputs), -1, *mixed.shape[2:])[:, :frames]

    def of_choices(
        self, logits: Tensor, deep: Tensor, inputs: Tensor, choices: Tensor, far: Tensor, reach: int
    ) -> Tensor:
        """As `near` of the frame after `inputs` `[B, T, Q]`, for each of the frames that it may be, `choices` `[B, N, Q]`."""
        before = _one_later(inputs)
        first = max(0, inputs.shape[1] - reach)
        ages = torch.arange(inputs.shape[1] - first, device=inputs.device).flip(0)
        said = _Said(inputs[:, first:], before[:, first:], ages.expand(choices.shape[1], -1), reach)
        last = inputs[:, -1:].expand_as(choices)
        return self._mixed(logits, deep, last, choices, said, far)

    def _mixed(
        self, logits: Tensor, deep: Tensor, inputs: Tensor, targets: Tensor, said: "_Said", far: Tensor | None = None
    ) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            sentinel = self.sentinel(deep.float())[..., 0].transpose(1, 2) + self.threshold[:, None]  # [B, Q, T]
            scores = self._scores(inputs, targets, said)  # [B, Q, T, S]
            top = torch.maximum(scores.amax(dim=3), sentinel).detach()
            weights = (scores - top[..., None]).exp()
            codes = nn.functional.one_hot(said.frames, logits.shape[3]).to(weights.dtype)  # [B, S, Q, V + 2]
            copied = weights @ codes.transpose(1, 2)
            known = logits.float().softmax(dim=3).transpose(1, 2) * (sentinel - top).exp()[..., None]
            if far is not None:
                copied = copied + far.transpose(1, 2) * (-top).exp()[..., None]
            mixed: Tensor = (known + copied + TINY).log().transpose(1, 2)
            return mixed

    def _scores(self, inputs: Tensor, targets: Tensor, said: "_Said") -> Tensor:
        """Logarithms of the weights of what was said, `[B, Q, T, S]`; -inf where it is not past, too old or a mark."""
        same = torch.cat(
            [targets[:, :, None] == said.frames[:, None], inputs[:, :, None] == said.before[:, None]], dim=3
        ).float()  # [B, T, S, 2 Q]
        worth = torch.cat([self.of_coarser(), self.same[:, self.levels :]], dim=1)
        scores = (same @ worth.T).permute(0, 3, 1, 2)
        scores = scores + self.of_ages(said.ages.clamp_min(0))
        mark = said.frames.transpose(1, 2)[:, :, None] >= self.codebook_size
        return scores.masked_fill((said.ages < 0) | (said.ages >= said.reach) | mark, -torch.inf)

    def of_coarser(self) -> Tensor:
        """What agreement of each coarser code is worth to a level, `[Q, Q]`; 0 for codes that are not coarser."""
        return self.same[:, : self.levels] * self.coarser

    def of_ages(self, ages: Tensor) -> Tensor:
        """What ages `[...]` in frames, from 0 on, are worth: `[Q, ...]`."""
        return self.age[:, torch.bucketize(ages, self.ages, right=True) - 1]


def _one_later(frames: Tensor) -> Tensor:
    """For each of `frames` `[B, T, Q]` the one before it, -1 before the first."""
    return nn.functional.pad(frames[:, :-1], (0, 0, 1, 0), value=-1)
