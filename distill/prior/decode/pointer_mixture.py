"""Step-by-step version of `PointerMixture`."""

import torch
from torch import Tensor

from distill.prior.pointer_mixture import TINY, PointerMixture, previous_frames


class PointerMixtureDecoder:
    """`PointerMixture` for one frame at a time and one level at a time, without recomputation."""

    def __init__(self, mixture: PointerMixture, max_frames: int) -> None:
        self._mixture = mixture
        self._coarser_agreement, self._previous_agreement = (
            mixture.coarser_agreement(),
            mixture.agreement[:, mixture.levels :].T,
        )
        ages = torch.arange(max_frames, device=mixture.age.device).flip(0)
        self._age_scores = mixture.age_scores(ages).T  # [most_frames, Q], the last frame last

    def start_frame(self, history: Tensor) -> None:
        """Start the frame after `history` `[B, S, Q]`, of which the last `max_frames` count."""
        agreement = (history[:, -1:] == previous_frames(history)).float()  # [B, S, Q]
        max_frames = len(self._age_scores)
        if history.shape[1] > max_frames:
            history, agreement = history[:, -max_frames:], agreement[:, -max_frames:]
        self._history = history
        scores = agreement @ self._previous_agreement + self._age_scores[-history.shape[1] :]
        self._scores = scores.masked_fill_(history >= self._mixture.codebook_size, -torch.inf)  # [B, S, Q]

    def mix(self, logits: Tensor, sentinel: Tensor, level: int, retrieved: Tensor | None = None) -> Tensor:
        """Mix the logits `[B, V + 2]` of a level with copies from the history. Returns logits.

        `sentinel` `[B]` is the log-weight of the former; `retrieved` `[B, V + 2]` are weights added to those of copies.
        """
        scores = self._scores[:, :, level]
        top = torch.maximum(scores.amax(dim=1), sentinel)
        shares = logits.softmax(dim=1) * (sentinel - top).exp()[:, None]
        shares.scatter_add_(1, self._history[:, :, level], (scores - top[:, None]).exp())
        if retrieved is not None:
            shares.addcmul_(retrieved, (-top).exp()[:, None])
        mix: Tensor = shares.add_(TINY).log_()
        return mix

    def update(self, level: int, codes: Tensor) -> None:
        """Condition finer levels on the codes `[B]` of this one."""
        agrees = (self._history[:, :, level] == codes[:, None])[:, :, None]
        self._scores = torch.addcmul(self._scores, agrees, self._coarser_agreement[:, level])
