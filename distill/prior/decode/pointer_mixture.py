"""`PointerMixture` step by step."""

import torch
from torch import Tensor

from distill.prior.pointer_mixture import TINY, PointerMixture, _one_later


class PointerMixtureDecoder:
    """`PointerMixture` for drawing, frame after frame and level after level, with nothing computed twice."""

    def __init__(self, mixture: PointerMixture, most_frames: int) -> None:
        self._mixture = mixture
        self._of_coarser, self._of_before = mixture.of_coarser(), mixture.same[:, mixture.levels :].T
        ages = torch.arange(most_frames, device=mixture.age.device).flip(0)
        self._of_ages = mixture.of_ages(ages).T  # [most_frames, Q], the last frame last

    def begin(self, past: Tensor) -> None:
        """Go on to the frame after `past` `[B, S, Q]`, of which the last frames count."""
        same = (past[:, -1:] == _one_later(past)).float()  # [B, S, Q]
        most = len(self._of_ages)
        if past.shape[1] > most:
            past, same = past[:, -most:], same[:, -most:]
        self._past = past
        scores = same @ self._of_before + self._of_ages[-past.shape[1] :]
        self._scores = scores.masked_fill_(past >= self._mixture.codebook_size, -torch.inf)  # [B, S, Q]

    def mixed(self, logits: Tensor, sentinel: Tensor, level: int, far: Tensor | None = None) -> Tensor:
        """Logits `[B, V + 2]` of a level, mixed with what was said; `sentinel` `[B]` is what the former weigh, `far`
        `[B, V + 2]` what codes weigh besides."""
        scores = self._scores[:, :, level]
        top = torch.maximum(scores.amax(dim=1), sentinel)
        shares = logits.softmax(dim=1) * (sentinel - top).exp()[:, None]
        shares.scatter_add_(1, self._past[:, :, level], (scores - top[:, None]).exp())
        if far is not None:
            shares.addcmul_(far, (-top).exp()[:, None])
        mixed: Tensor = shares.add_(TINY).log_()
        return mixed

    def say(self, level: int, codes: Tensor) -> None:
        """Go on to the next level: these are the codes `[B]` of this one."""
        agree = (self._past[:, :, level] == codes[:, None])[:, :, None]
        self._scores = torch.addcmul(self._scores, agree, self._of_coarser[:, level])
