"""Courses of the loudness of training recordings, which drawn sounds follow: they begin, go on and end as recordings do.

Small errors of a prior add up in sounds of its own: some never end, or never become loud. So the loudness, the first
level of codes, comes from a recording, stretched and moved at random, and the prior generates the rest given it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from distill.codes.sequences import eos_token
from distill.codes.store import Codes

MOST_COURSES = 2048
LOUD = 0.9  # proportion of frames at or below the nominal loudness of a sound


class Course(NamedTuple):
    """The course of a sound: the number of its recording, the place `[F]` in it of each frame, and its loudness `[F]`.

    `in_time` marks contours of recordings that repeat. `chance`, from 0 to 1, is a random number for later choices.
    """

    recording: int
    places: Tensor
    loudness: Tensor
    in_time: bool = False
    chance: float = 0.0


class Courses(nn.Module):
    """Loudness contours of recordings with these numbers of `frames`, and their labels, 0 for no label."""

    def __init__(self, frames: Sequence[int], codebook_sizes: Sequence[int]) -> None:
        super().__init__()
        self.frames, self._codebook_sizes = list(frames), codebook_sizes
        self.loudness = nn.Buffer(torch.zeros(sum(frames)))
        self.labels = nn.Buffer(torch.zeros(len(frames)))

    @torch.no_grad()
    def fit(self, recordings: Sequence[tuple[Codes, int]]) -> None:
        """Take the contours from recordings `[F, Q]`, which have these numbers of frames, and their labels."""
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
        """Contours of sounds of at most `frames` frames, each generated with its own generator.

        Each comes from a random recording, stretched at random by half an octave and moved by 1.5 steps of loudness, at
        most, so that it fits; those that do not end are stretched to `most_frames`. One that `repeats` keeps its tempo,
        and goes on from its beginning. With a label it is one with the label, where there is any.
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
        """Courses as of `stretched`, of sounds that go on after the codes `prompt` `[P, Q]` for a frame at least.

        Each comes from a longer recording, if there is any, from frame P on, and begins as loud as the prompt ends.
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
        """The loudness `[F]` of a recording, in codes."""
        return self._every()[number]

    def loud(self, label: int) -> list[float]:
        """How loud each of the recordings with a label is, 0 for any, in codes: as `LOUD` of its frames are at most."""
        every = self._every()
        return [float(every[number].quantile(LOUD)) for number in self.numbers_of(label)]

    def along(self, loudness: Tensor, label: int, generator: torch.Generator) -> Course:
        """A course of this loudness `[F]` in codes, of a sound that moves like a random recording of a label."""
        number, _, _, chance = self._draw(self.numbers_of(label), generator)
        places = torch.linspace(0, len(self._every()[number]) - 1, len(loudness))
        return Course(number, places, loudness, chance=chance)

    def tokens(self, courses: Sequence[Course], most_frames: int) -> Tensor:
        """Tokens `[count, most_frames]` of courses, EOS after their ends."""
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
        """Numbers of the recordings with a label; of all for 0, or where none has it."""
        own = [number for number, of in enumerate(self.labels.tolist()) if label in (0, of)]
        return own or list(range(len(self.frames)))

    def _draw(
        self, numbers: Sequence[int], generator: torch.Generator
    ) -> tuple[int, float, float, float]:
        """One of the numbers of recordings, two numbers from -1 to 1, and one from 0 to 1."""
        chosen = int(torch.randint(len(numbers), (1,), generator=generator))
        octaves, moved, chance = torch.rand(3, generator=generator).tolist()
        return numbers[chosen], 2 * octaves - 1, 2 * moved - 1, chance


def steps_at(places: Tensor, count: int) -> Tensor:
    """Where the steps of frames at places `[n]` in a recording, `count` of a frame, are in its steps, `[n, count]`.

    Places go on at one speed, but for what begins again.
    """
    moves = places.diff()
    speed = float(moves[moves > 0].median()) if (moves > 0).any() else 1.0
    middles = (
        torch.arange(count) + 0.5
    ) / count - 0.5  # of steps, in frames from the middle of their frame
    return (places[:, None] + 0.5 + speed * middles) * count - 0.5


def between(values: Tensor, places: Tensor) -> Tensor:
    """Values `[F, ...]` of a recording at places `[n]` in it, in frames, on the line between the two nearest."""
    before = places.floor().long()
    after, share = (before + 1).clamp_max(len(values) - 1), places - before
    return torch.lerp(
        values[before], values[after], share.view(-1, *[1] * (values.dim() - 1)).to(values)
    )
