"""What a recording said before: codes of earlier frames, weighed against what the network would say."""

import torch
from torch import Tensor, nn

AGES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)  # frames, first of each class
TINY = 1e-20  # probability that keeps logarithms and their gradients finite


class Recall(nn.Module):
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

    def forward(self, logits: Tensor, deep: Tensor, inputs: Tensor, targets: Tensor, first: int = 0) -> Tensor:
        """Logits `[B, T, L, V + marks]` of levels `first` to `first + L`, mixed with what `inputs` `[B, S, Q]` said.

        The last T of `inputs` come before the frames asked for, of which `targets` `[B, T, Q]` holds the coarser codes.
        `deep` `[B, T, L, D]` is what the logits were made of.
        """
        count, chosen = logits.shape[1], slice(first, first + logits.shape[2])
        with torch.autocast(logits.device.type, enabled=False):
            sentinel = self.sentinel(deep.float())[..., 0].transpose(1, 2) + self.threshold[chosen, None]  # [B, L, T]
            scores = self._scores(inputs, targets, chosen)  # [B, L, T, S]
            top = torch.maximum(scores.amax(dim=3), sentinel).detach()
            weights = (scores - top[..., None]).exp()
            said = nn.functional.one_hot(inputs[..., chosen], logits.shape[3]).to(weights.dtype)  # [B, S, L, V + marks]
            copied = weights @ said.transpose(1, 2)
            known = logits.float().softmax(dim=3).transpose(1, 2) * (sentinel - top).exp()[..., None]
            mixed = (known + copied + TINY).log()
            assert mixed.shape[2] == count
            swapped: Tensor = mixed.transpose(1, 2)
            return swapped

    def _scores(self, inputs: Tensor, targets: Tensor, chosen: slice) -> Tensor:
        """Logarithms of the weights of frames, `[B, L, T, S]`; -inf for those not past and for marks."""
        count, past = targets.shape[1], inputs.shape[1]
        asked = inputs[:, past - count :]
        before = nn.functional.pad(inputs[:, :-1], (0, 0, 1, 0), value=-1)
        same = torch.cat(
            [targets[:, :, None] == inputs[:, None], asked[:, :, None] == before[:, None]], dim=3
        ).float()  # [B, T, S, 2 Q]
        worth = torch.cat([self.same[:, : self.levels] * self.coarser, self.same[:, self.levels :]], dim=1)
        scores = (same @ worth[chosen].T).permute(0, 3, 1, 2)
        places = torch.arange(past, device=inputs.device)
        ages = places[past - count :, None] - places  # [T, S]
        classes = torch.bucketize(ages, self.ages, right=True) - 1
        scores = scores + self.age[chosen][:, classes.clamp_min(0)]
        mark = inputs[..., chosen].transpose(1, 2)[:, :, None] >= self.codebook_size
        return scores.masked_fill((ages < 0) | mark, -torch.inf)
