"""Pointer-sentinel mixture of the network's distribution and codes copied from earlier frames."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.prior.attention import without_autocast

# Lower bounds of the age classes, in frames.
AGES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)
NETWORK_ALONE = 50.0  # log-weight of the network at which copies are negligible
TINY = 1e-20  # probability that keeps logarithms and their gradients finite


class History(NamedTuple):
    """Frames `[B, S, Q]` that may be copied at each of T positions.

    `repeats` `[B, T, S, Q]`: whether a code of the frame before each history frame equals the same level's code of the
    position's newest frame. `ages` `[B, Q, T, S]`: age scores, -inf for frames that are too old or in the future, and
    for special tokens. A long history is folded into blocks of `block` positions, `[B * blocks, ...]`; 0: not folded.
    """

    frames: Tensor
    repeats: Tensor
    ages: Tensor
    block: int = 0


class PointerMixture(nn.Module):
    """Pointer-sentinel mixture (Merity et al. 2016) with too few parameters to memorise a recording.

    Steady sound repeats itself, in codewords that other recordings may never use. The probability of a code is the
    network's, weighted by a sentinel, plus the weights of all earlier frames that hold the code, normalised. A frame's
    weight is the exponential of a sum of scores: for its age, for each coarser code it shares with the target frame,
    and for each code that their two previous frames share. Scores are a few parameters per level.
    """

    def __init__(self, levels: int, codebook_size: int, width: int) -> None:
        super().__init__()
        self.levels, self.codebook_size = levels, codebook_size
        self.age = nn.Parameter(torch.zeros(levels, len(AGES)))
        # Scores of equal coarser codes in the frame, then of equal codes in the previous frame.
        self.agreement = nn.Parameter(torch.ones(levels, 2 * levels))
        self.sentinel = nn.Linear(width, 1)
        self.threshold = nn.Parameter(torch.full((levels,), 3.0))
        nn.init.zeros_(self.sentinel.weight)
        self.coarser = nn.Buffer(torch.ones(levels, levels).tril(-1), persistent=False)
        self.ages = nn.Buffer(torch.tensor(AGES), persistent=False)

    @torch.no_grad()
    def copy_nothing(self, level: int) -> None:
        """Disable copying for a level: the weights of copies, and their gradients, become negligible.

        Copying a loudness makes copying it again more likely, so sounds would never end.
        """
        self.threshold[level] = NETWORK_ALONE

    def age_scores(self, ages: Tensor, reach: int | None = None) -> Tensor:
        """Scores `[Q, ...]` of ages `[...]` in frames, -inf below 0 and from `reach` on."""
        blocked = ages < 0 if reach is None else (ages < 0) | (ages >= reach)
        classes = torch.bucketize(ages.clamp_min(0), self.ages, right=True) - 1
        return self.age[:, classes].masked_fill(blocked, -torch.inf)

    def history(self, frames: Tensor, count: int, reach: int | None = None) -> History:
        """History at the newest `count` of `frames` `[B, S, Q]`; frames of age `reach` or more are not copied.

        With `reach`, several positions are folded into blocks: time and memory grow with count * reach.
        """
        if reach is None or count == 1:
            positions = torch.arange(frames.shape[1], device=frames.device)
            ages = self.age_scores(positions[-count:, None] - positions, reach)
            return self._history(frames[:, -count:], frames, previous_frames(frames), ages)
        earlier, padding = frames.shape[1] - count, -count % reach
        # Each block may copy from itself and the previous block.
        padded = nn.functional.pad(
            frames, (0, 0, reach + 1 - earlier, padding), value=self.codebook_size
        )
        folded, previous = (
            part.unfold(1, 2 * reach, reach).flatten(0, 1).mT
            for part in (padded[:, 1:], previous_frames(padded)[:, 1:])
        )  # [B * blocks, 2 * reach, Q]
        positions = torch.arange(2 * reach, device=frames.device)
        ages = self.age_scores(positions[reach:, None] - positions, reach)  # [Q, reach, 2 * reach]
        return self._history(folded[:, reach:], folded, previous, ages)._replace(block=reach)

    def _history(self, inputs: Tensor, frames: Tensor, previous: Tensor, ages: Tensor) -> History:
        is_special = frames.transpose(1, 2)[:, :, None] >= self.codebook_size
        repeats = inputs[:, :, None] == previous[:, None]
        return History(frames, repeats, ages.masked_fill(is_special, -torch.inf))

    def scores(self, history: History, codes: Tensor) -> Tensor:
        """Log-weights `[B, Q, T, S]` of frames; a level depends only on coarser levels of `codes` `[B, T, Q]`."""
        agreement = torch.cat(
            [self.agreement[:, : self.levels] * self.coarser, self.agreement[:, self.levels :]],
            dim=1,
        )
        agrees = codes[:, :, None] == history.frames[:, None]
        repeats = history.repeats.expand(-1, codes.shape[1], -1, -1)
        matches = torch.cat([agrees, repeats], dim=3).float()  # [B, T, S, 2 Q]
        return (matches @ agreement.T).permute(0, 3, 1, 2) + history.ages

    def next_scores(self, history: History, codes: Tensor, scores: Tensor | None) -> Tensor:
        """Log-weights `[B, Q - L, 1, S]` of the levels from L on at one position, given the L coarser codes `[B, L]`.

        `scores` is the result of the previous level, or None at level 0.
        """
        level = codes.shape[1]
        if scores is None or not level:
            repeats = (
                history.repeats[:, 0].float() @ self.agreement[:, self.levels :].T
            )  # [B, S, Q]
            return repeats.mT[:, :, None] + history.ages
        agrees = codes[:, None, None, -1:] == history.frames[:, None, None, :, level - 1]
        return torch.addcmul(scores[:, 1:], agrees, self.agreement[level:, level - 1, None, None])

    def forward(
        self,
        logits: Tensor,
        sentinel: Tensor,
        history: History,
        codes: Tensor,
        retrieved: Tensor | None = None,
    ) -> Tensor:
        """Mix the network's `logits` `[B, T, Q, V + 2]` with copies. Returns logits.

        A level depends on the coarser levels of its frame in `codes` `[B, T, Q]`. `sentinel` `[B, T, Q]` is the
        network's log-weight minus `threshold`. `retrieved` `[B, T, Q, V + 2]` holds more weights of codes,
        added to the copies. After a single newest frame, the T frames of `codes` are candidates for the next frame.
        """
        batch, count = logits.shape[:2]

        def fold(x: Tensor) -> Tensor:
            if not history.block:
                return x
            padded = nn.functional.pad(x, (0, 0) * (x.ndim - 2) + (0, -count % history.block))
            return padded.reshape(-1, history.block, *x.shape[2:])

        with without_autocast(logits.device.type):
            scores = self.scores(history, fold(codes))
            copied = history.frames.transpose(1, 2)  # [B, Q, S]
            mixed = mix(
                fold(logits).float().softmax(dim=3).transpose(1, 2),
                fold(sentinel).transpose(1, 2) + self.threshold[:, None],
                scores,
                copied[:, :, None] if scores.shape[2] == 1 else copied,
                None if retrieved is None else fold(retrieved).transpose(1, 2),
            )
        return mixed.transpose(1, 2).reshape(batch, -1, *logits.shape[2:])[:, :count]


def mix(
    generated: Tensor, sentinel: Tensor, scores: Tensor, codes: Tensor, retrieved: Tensor | None
) -> Tensor:
    """Logits `[..., V + 2]` of a mixture of the network's probabilities `generated` and copies of `codes`.

    `scores` `[..., S]` are the log-weights of frames with codes `[..., S]`; or `[..., T, S]` where T positions share
    the codes `[..., S]`. `sentinel` `[...]` is the log-weight of `generated`. `retrieved` adds weights of codes.
    """
    top = torch.maximum(scores.amax(dim=-1), sentinel).detach()
    weights = (scores - top[..., None]).exp()
    generated = generated * (sentinel - top).exp()[..., None]
    sums = generated if retrieved is None else retrieved * (-top).exp()[..., None]
    if codes.ndim == weights.ndim:  # one-hot vectors are faster only for many positions
        sums = sums.scatter_add(-1, codes, weights)
    else:
        held = weights.new_zeros(*codes.shape, sums.shape[-1]).scatter_(-1, codes[..., None], 1.0)
        sums = sums + weights @ held
    return ((sums if retrieved is None else generated + sums) + TINY).log()


def previous_frames(frames: Tensor) -> Tensor:
    """Shift `frames` `[B, T, Q]` by one: the frame before each, -1 before the first."""
    return nn.functional.pad(frames[:, :-1], (0, 0, 1, 0), value=-1)
