"""Step-by-step `LoudnessCourse`."""

import torch
from torch import Tensor

from distill.prior.loudness_course import LoudnessCourse


class LoudnessCourseDecoder:
    """What a `LoudnessCourse` adds to the logits of the next frame."""

    def __init__(self, course: LoudnessCourse) -> None:
        self._course = course
        self._changes = course.changes(torch.arange(course.codebook_size + 2, device=course.table.device))

    def added(self, loudness: Tensor, position: int) -> Tensor:
        """Add to the logits `[B, V + 2]` that follow loudness `[B, T]`, of which the first is at `position`."""
        states = self._course.states(loudness, torch.full_like(loudness[:, 0], position))[:, -1]
        return self._course.table[states].gather(-1, self._changes[loudness[:, -1]])
