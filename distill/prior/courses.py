"""Courses of the loudness of training recordings, which drawn sounds follow: they begin, go on and end as recordings do.

Small errors of a prior add up in sounds of its own: some never end, or never become loud. So the loudness, the first
level of codes, is that of a recording, stretched and moved at random, and the prior draws all else given it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from distill.codes.sequences import eos_token
from distill.codes.store import Codes

MOST_COURSES = 2048


class Courses(nn.Module):
    """Courses of the loudness of recordings of so many `frames`, and their labels, 0 for none."""

    def __init__(self, frames: Sequence[int], codebook_sizes: Sequence[int]) -> None:
        super().__init__()
        self.frames, self._codebook_sizes = list(frames), codebook_sizes
        self.loudness = nn.Buffer(torch.zeros(sum(frames)))
        self.labels = nn.Buffer(torch.zeros(len(frames)))

    @torch.no_grad()
    def fit(self, recordings: Sequence[tuple[Codes, int]]) -> None:
        """Take the courses from recordings `[F, Q]`, which have so many frames, and their labels."""
        self.loudness.copy_(torch.from_numpy(np.concatenate([codes[:, 0] for codes, _ in recordings])))
        self.labels.copy_(torch.tensor([label for _, label in recordings]))

    def stretched(
        self, most_frames: int, label: int, generators: Sequence[torch.Generator], ends: bool = True
    ) -> Tensor:
        """Courses `[count, most_frames]` of sounds, each drawn with its own generator, in tokens, with EOS where they have ended.

        Each is that of a random recording, stretched at random by half an octave and moved by 1.5 steps of loudness, at
        most, so that it fits; those that do not end are stretched to `most_frames`. With a label it is one with the
        label, where there is any.
        """
        recordings, courses = self._of(label), []
        for generator in generators:
            recording, octaves, moved = self._draw(recordings, generator)
            frames = min(most_frames, max(1, round(len(recording) * 2 ** (0.5 * octaves))))
            frames = frames if ends else most_frames
            course = nn.functional.interpolate(recording[None, None], frames, mode="linear")[0, 0]
            courses.append(course + 1.5 * moved)
        return self._tokens(courses, most_frames)

    def continued(self, prompt: Codes, most_frames: int, label: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Courses as of `stretched`, of sounds that go on after the codes `prompt` `[P, Q]` for a frame at least.

        Each is that of a longer recording, where there is one, from frame P on, and begins as loud as the prompt ends.
        """
        recordings, courses = self._of(label), []
        recordings = [recording for recording in recordings if len(recording) > len(prompt)] or recordings
        for generator in generators:
            recording, *_ = self._draw(recordings, generator)
            rest = recording[min(len(prompt), len(recording)) - 1 :]
            rest = rest - rest[0] + int(prompt[-1, 0])
            courses.append(rest[1:] if len(rest) > 1 else rest)
        return self._tokens(courses, most_frames)

    def _of(self, label: int) -> list[Tensor]:
        """Courses of the recordings with a label; of all for 0, or where none has it."""
        every = self.loudness.cpu().split(self.frames)
        own = [course for course, of in zip(every, self.labels.tolist(), strict=True) if label in (0, of)]
        return own or list(every)

    def _draw(self, recordings: Sequence[Tensor], generator: torch.Generator) -> tuple[Tensor, float, float]:
        """A recording, and two numbers from -1 to 1."""
        chosen = int(torch.randint(len(recordings), (1,), generator=generator))
        octaves, moved = (2 * torch.rand(2, generator=generator) - 1).tolist()
        return recordings[chosen], octaves, moved

    def _tokens(self, courses: Sequence[Tensor], most_frames: int) -> Tensor:
        """Tokens `[count, most_frames]` of courses, EOS after their ends."""
        loudest = self._codebook_sizes[0] - 1
        tokens = torch.full((len(courses), most_frames), eos_token(max(self._codebook_sizes)))
        for row, course in zip(tokens, courses, strict=True):
            own = course[:most_frames].round().clamp(0, loudest).long()
            row[: len(own)] = own
        return tokens
