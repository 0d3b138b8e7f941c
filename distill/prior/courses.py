"""Loudness contours of training recordings, which generated sounds follow so that they begin and end naturally.

Small errors of a prior accumulate: some of its sounds never end, or never become loud. So the loudness, the first
level of codes, comes from a recording, randomly stretched and shifted; the prior samples all other levels given it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from distill.codes.sequences import eos_token
from distill.codes.store import Codes

MOST_COURSES = 2048
LOUD = 0.9  # quantile of a recording's frames that counts as its loudness


class Course(NamedTuple):
    """Contour of a sound: index of its recording, position in it of each frame `[F]`, and loudness `[F]` in codes.

    `in_time`: the recording repeats at its own tempo. `chance` in [0, 1) is a random number for later choices.
    """

    recording: int
    places: Tensor
    loudness: Tensor
    in_time: bool = False
    chance: float = 0.0


class Courses(nn.Module):
    """Loudness contours of recordings with lengths `frames`, and their labels (0: no label)."""

    def __init__(self, frames: Sequence[int], codebook_sizes: Sequence[int]) -> None:
        super().__init__()
        self.frames, self._codebook_sizes = list(frames), codebook_sizes
        self.loudness = nn.Buffer(torch.zeros(sum(frames)))
        self.labels = nn.Buffer(torch.zeros(len(frames)))

    @torch.no_grad()
    def fit(self, recordings: Sequence[tuple[Codes, int]]) -> None:
        """Store the contours of `recordings`, pairs of codes `[F, Q]` and label, with the lengths in `frames`."""
        self.loudness.copy_(
            torch.from_numpy(np.concatenate([codes[:, 0] for codes, _ in recordings]))
        )
        self.labels.copy_(torch.tensor([label for _, label in recordings]))

    def stretched(
        self,
        most_frames: int,
        label: int,
        generators: Sequence[torch.Generator],
        ends: bool = True,
        repeats: Callable[[int], bool] = lambda _: False,
    ) -> list[Course]:
        """Sample contours of at most `most_frames` frames, one per generator.

        Each follows a random recording, stretched in time by up to a factor of 2 ** 0.5 either way and shifted by up to
        1.5 loudness steps. Without `ends` it is stretched to `most_frames` instead. A recording that `repeats` keeps
        its tempo and loops. With a label, the recording has that label, if any recording does.
        """
        every, numbers, courses = self._every(), self.numbers_of(label), []
        for generator in generators:
            number, octaves, moved, chance = self._draw(numbers, generator)
            long, in_time = len(every[number]), repeats(number)
            frames = most_frames
            if ends:
                frames = min(
                    most_frames, max(1, round(long * 2 ** (0.5 * octaves * (not in_time))))
                )
            places = (
                torch.arange(frames) % long
                if in_time
                else ((torch.arange(frames) + 0.5) * long / frames - 0.5)
            )
            places = places.clamp(0, long - 1)
            loudness = between(every[number], places) + 1.5 * moved
            courses.append(Course(number, places, loudness, in_time, chance))
        return courses

    def continued(
        self, prompt: Codes, label: int, generators: Sequence[torch.Generator]
    ) -> list[Course]:
        """Sample contours, one per generator, that continue the codes `prompt` `[P, Q]` by at least one frame.

        Each follows a recording longer than the prompt, if there is one, from frame P on, unstretched. It is shifted
        to continue from the prompt's last loudness.
        """
        every, numbers, courses = self._every(), self.numbers_of(label), []
        numbers = [number for number in numbers if len(every[number]) > len(prompt)] or numbers
        for generator in generators:
            number, *_ = self._draw(numbers, generator)
            long = len(every[number])
            places = torch.arange(min(len(prompt), long - 1), long)
            before = every[number][min(len(prompt), long) - 1]
            courses.append(
                Course(number, places, every[number][places] - before + int(prompt[-1, 0]))
            )
        return courses

    def loudness_of(self, number: int) -> Tensor:
        """Loudness `[F]` of a recording, in codes."""
        return self._every()[number]

    def loud(self, label: int) -> list[float]:
        """Loudness, in codes, of each recording with a label (0: any): the `LOUD` quantile of its frames."""
        every = self._every()
        return [float(every[number].quantile(LOUD)) for number in self.numbers_of(label)]

    def along(self, loudness: Tensor, label: int, generator: torch.Generator) -> Course:
        """A contour with loudness `[F]` in codes, and the positions of a random recording with the label."""
        number, _, _, chance = self._draw(self.numbers_of(label), generator)
        places = torch.linspace(0, len(self._every()[number]) - 1, len(loudness))
        return Course(number, places, loudness, chance=chance)

    def tokens(self, courses: Sequence[Course], most_frames: int) -> Tensor:
        """Tokens `[count, most_frames]` of contours, padded with EOS."""
        loudest = self._codebook_sizes[0] - 1
        tokens = torch.full((len(courses), most_frames), eos_token(max(self._codebook_sizes)))
        for row, course in zip(tokens, courses, strict=True):
            own = course.loudness[:most_frames].nan_to_num().round().clamp(0, loudest).long()
            row[: len(own)] = own
        return tokens

    def _every(self) -> tuple[Tensor, ...]:
        every: tuple[Tensor, ...] = self.loudness.cpu().split(self.frames)
        return every

    def numbers_of(self, label: int) -> list[int]:
        """Indices of the recordings with a label; all indices if the label is 0 or no recording has it."""
        own = [number for number, of in enumerate(self.labels.tolist()) if label in (0, of)]
        return own or list(range(len(self.frames)))

    def _draw(
        self, numbers: Sequence[int], generator: torch.Generator
    ) -> tuple[int, float, float, float]:
        """Draw one of `numbers`, two values from -1 to 1, and one from 0 to 1."""
        chosen = int(torch.randint(len(numbers), (1,), generator=generator))
        octaves, moved, chance = torch.rand(3, generator=generator).tolist()
        return numbers[chosen], 2 * octaves - 1, 2 * moved - 1, chance


def steps_at(places: Tensor, count: int) -> Tensor:
    """Convert positions `[n]` of frames in a recording to positions `[n, count]` of their steps, `count` per frame.

    The result is in steps of the recording. Positions advance at a constant speed, except where the recording loops.
    """
    moves = places.diff()
    speed = float(moves[moves > 0].median()) if (moves > 0).any() else 1.0
    middles = (
        torch.arange(count) + 0.5
    ) / count - 0.5  # offsets of steps from the middle of their frame, in frames
    return (places[:, None] + 0.5 + speed * middles) * count - 0.5


def between(values: Tensor, places: Tensor) -> Tensor:
    """Interpolate the values `[F, ...]` of a recording linearly at positions `[n]`, in frames."""
    before = places.floor().long()
    after, share = (before + 1).clamp_max(len(values) - 1), places - before
    return torch.lerp(
        values[before], values[after], share.view(-1, *[1] * (values.dim() - 1)).to(values)
    )
