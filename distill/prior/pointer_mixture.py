"""Pointer-sentinel mixture: codes copied from earlier frames against the network's own distribution."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.prior.attention import without_autocast

# Lower bounds of the age classes, in frames.
AGES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)
NETWORK_ALONE = 50.0  # log-weight of the network beside which copies count for nothing
TINY = 1e-20  # probability that keeps logarithms and their gradients finite


class History(NamedTuple):
    """Frames `[B, S, Q]` that may be copied at each of T positions.

    `repeats` `[B, T, S, Q]`: codes of the frame before each that are those of the position's newest frame. `ages` `[B,
    Q, T, S]` are scores of ages, -inf for what is too old or not yet there, and for special tokens. `agreement` `[Q, 2
    Q]` are scores of equal codes, of coarser ones of the frame and of the frame before. A long history is folded into
    blocks of positions, `[B * blocks, ...]`: `block` is their length, else 0. `scores` `[B, Q, 1, S]` are log-weights at
    one position, given what `PointerMixture.given` was told of its frame.
    """

    frames: Tensor
    repeats: Tensor
    ages: Tensor
    agreement: Tensor
    block: int = 0
    scores: Tensor | None = None


class Scores(NamedTuple):
    """What the weights say of a position's frames: `ages` `[Q, 1, S]`, the newest last, and `agreement` of `History`."""

    ages: Tensor
    agreement: Tensor


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

    def scores(self, frames: int, reach: int | None = None) -> Scores:
        """Scores at one position of up to so many frames, for `history`."""
        ages = torch.arange(frames, device=self.ages.device).flip(0)
        return self._scores_of(ages[None], reach)

    def history(self, frames: Tensor, count: int, reach: int | None = None, scores: Scores | None = None) -> History:
        """History of the newest `count` of `frames` `[B, S, Q]`; frames of age `reach` or more are not copied.

        With `reach` time and memory of many positions grow with count * reach: they are folded. `scores` of one position
        save time.
        """
        if count == 1 and scores is not None:
            scores = scores._replace(ages=scores.ages[:, :, -frames.shape[1] :])
            return self._history(frames[:, -1:], frames, previous_frames(frames), scores)
        if reach is None or count == 1:
            positions = torch.arange(frames.shape[1], device=frames.device)
            scores = self._scores_of(positions[-count:, None] - positions, reach)
            return self._history(frames[:, -count:], frames, previous_frames(frames), scores)
        earlier, padding = frames.shape[1] - count, -count % reach
        # Each block may copy from itself and the one before it.
        padded = nn.functional.pad(frames, (0, 0, reach + 1 - earlier, padding), value=self.codebook_size)
        folded, previous = (
            part.unfold(1, 2 * reach, reach).flatten(0, 1).mT
            for part in (padded[:, 1:], previous_frames(padded)[:, 1:])
        )  # [B * blocks, 2 * reach, Q]
        positions = torch.arange(2 * reach, device=frames.device)
        ages = positions[reach:, None] - positions  # [reach, 2 * reach]
        return self._history(folded[:, reach:], folded, previous, self._scores_of(ages, reach))._replace(block=reach)

    def _history(self, inputs: Tensor, frames: Tensor, previous: Tensor, scores: Scores) -> History:
        is_special = frames.transpose(1, 2)[:, :, None] >= self.codebook_size
        ages = scores.ages.masked_fill(is_special, -torch.inf)
        return History(frames, inputs[:, :, None] == previous[:, None], ages, scores.agreement)

    def _scores_of(self, ages: Tensor, reach: int | None) -> Scores:
        """Scores of ages `[T, S]`, -inf below 0 and from `reach` on."""
        blocked = ages < 0 if reach is None else (ages < 0) | (ages >= reach)
        scores = self.age_scores(ages.clamp_min(0)).masked_fill(blocked, -torch.inf)
        return Scores(
            scores,
            torch.cat([self.agreement[:, : self.levels] * self.coarser, self.agreement[:, self.levels :]], dim=1),
        )

    def given(self, history: History, codes: Tensor) -> History:
        """A history at one position, given the codes `[B, L]` of its frame: none at first, then one more each time."""
        level = codes.shape[1] - 1
        if level < 0:
            repeats = history.repeats[:, 0].float() @ history.agreement[:, self.levels :].T  # [B, S, Q]
            return history._replace(scores=repeats.mT[:, :, None] + history.ages)
        assert history.scores is not None
        agrees = history.frames[:, None, None, :, level] == codes[:, None, None, -1:]
        return history._replace(scores=torch.addcmul(history.scores, agrees, history.agreement[:, level, None, None]))

    def forward(
        self,
        logits: Tensor,
        sentinel: Tensor,
        history: History,
        codes: Tensor,
        first: int = 0,
        retrieved: Tensor | None = None,
    ) -> Tensor:
        """Mix the network's `logits` `[B, T, L, V + 2]` of L levels from `first` on with copies. Returns logits.

        A level depends on the coarser ones of its frame in `codes` `[B, T, Q]`, or as many as are known. `sentinel` `[B,
        T, L]` are the network's log-weights above `threshold`; `retrieved` `[B, T, L, V + 2]` are weights of codes that
        are added to those of copies.
        """
        if not history.block:
            return self._mix(logits, sentinel, history, codes, first, retrieved)
        batch, count = logits.shape[:2]

        def fold(x: Tensor) -> Tensor:
            padded = nn.functional.pad(x, (0, 0) * (x.ndim - 2) + (0, -count % history.block))
            return padded.reshape(-1, history.block, *x.shape[2:])

        folded = None if retrieved is None else fold(retrieved)
        mixed = self._mix(fold(logits), fold(sentinel), history, fold(codes), first, folded)
        return mixed.reshape(batch, -1, *mixed.shape[2:])[:, :count]

    def _mix(
        self, logits: Tensor, sentinel: Tensor, history: History, codes: Tensor, first: int, retrieved: Tensor | None
    ) -> Tensor:
        levels = slice(first, first + logits.shape[2])
        with without_autocast(logits.device.type):
            sentinel = sentinel.transpose(1, 2) + self.threshold[levels, None]  # [B, L, T]
            known = history.scores
            scores = self._scores(history, codes, levels) if known is None else known[:, levels]  # [B, L, T, S]
            top = torch.maximum(scores.amax(dim=3), sentinel).detach()
            weights = (scores - top[..., None]).exp()
            codes = history.frames[..., levels].transpose(1, 2)
            generated = logits.float().softmax(dim=3).transpose(1, 2) * (sentinel - top).exp()[..., None]
            if retrieved is None:
                mixed = _add_by_code(generated, weights, codes)
            else:
                mixed = generated + _add_by_code(retrieved.transpose(1, 2) * (-top).exp()[..., None], weights, codes)
            return (mixed + TINY).log().transpose(1, 2)

    def _scores(self, history: History, codes: Tensor, levels: slice) -> Tensor:
        """Log-weights `[B, L, T, S]` of frames, -inf where they are blocked."""
        known = codes.shape[2]
        agrees = codes[:, :, None] == history.frames[:, None, :, :known]
        if known < self.levels:
            agrees = nn.functional.pad(agrees, (0, self.levels - known))
        repeats = history.repeats.expand(-1, codes.shape[1], -1, -1)
        matches = torch.cat([agrees, repeats], dim=3).float()  # [B, T, S, 2 Q]
        return (matches @ history.agreement[levels].T).permute(0, 3, 1, 2) + history.ages[:, levels]

    def age_scores(self, ages: Tensor) -> Tensor:
        """Scores `[Q, ...]` of ages `[...]` in frames, from 0 on."""
        return self.age[:, torch.bucketize(ages, self.ages, right=True) - 1]


def _add_by_code(sums: Tensor, weights: Tensor, codes: Tensor) -> Tensor:
    """Add weights `[B, L, T, S]` of frames with `codes` `[B, L, S]` to `sums` `[B, L, T, V + 2]`."""
    if weights.shape[2] == 1:  # one-hot vectors pay for many positions alone
        return sums.scatter_add(3, codes[:, :, None], weights)
    return sums + weights @ nn.functional.one_hot(codes, sums.shape[3]).to(weights.dtype)


def previous_frames(frames: Tensor) -> Tensor:
    """The frame before each of `frames` `[B, T, Q]`, -1 before the first."""
    return nn.functional.pad(frames[:, :-1], (0, 0, 1, 0), value=-1)
