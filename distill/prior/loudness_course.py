"""How loudness goes on in the training recordings, as an expert of a prior: how sounds start, start again, and end.

Loudness is the first level of codecs whose codewords are in shared coordinates. After each frame a sound is in a state:
how long it has gone on, how far it is below its loudest frame, and whether it has been as loud as the recordings get.
The logits of a class of changes are raised by what `calibration` found: how much more often recordings have it than
sounds that were drawn from the prior. A few recordings do not say how often sounds change and end. There sounds follow
the course of one of them, stretched.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codec.constants import LOUDNESS_STEP
from distill.codes.sequences import NUM_SPECIAL_TOKENS, bos_token, eos_token
from distill.codes.store import Codes

TIMES = 8  # powers of two, in frames
FALLS_DB = (7.0, 19.0, 29.0, 39.0)  # between classes of how far a frame is below the loudest
SITUATIONS = 2 * (len(FALLS_DB) + 1)  # of a frame, whatever its time: its fall, and whether the sound has been loud
STATES = TIMES * SITUATIONS + 1  # the last is before the first frame
CHANGES_DB = (-7.0, -1.0, 1.0, 7.0, 19.0)  # between classes of how the next frame differs
STARTS_DB = (-6.0, 0.0, 6.0, 12.0, 18.0)  # between classes of how the first frame differs from the softest recording
CHANGES = len(CHANGES_DB) + 2  # the last is the end
LOUD_DB = 6.0  # below the loudest frame of the softest recording: from here on a sound has been loud
COMMON = 0.99  # share of the recordings that become as loud as the softest

FEW = 64  # recordings, up to which sounds follow their courses
STRETCHED_OCTAVES = 0.5  # that a course is longer or shorter, at most
MOVED_STEPS = 1.5  # of loudness that it is louder or softer, at most

Table = NDArray[np.float64]


class LoudnessCourse(nn.Module):
    """Adds a table of logits of changes after states, and knows how loud the softest recording becomes."""

    def __init__(self, codebook_size: int) -> None:
        super().__init__()
        self.codebook_size, self.step = codebook_size, 20 * LOUDNESS_STEP
        self.table: Tensor = nn.Buffer(torch.zeros(STATES, CHANGES))
        self.softest = nn.Buffer(torch.zeros(1))  # dB above silence
        bounds = (torch.tensor(values) for values in (FALLS_DB, CHANGES_DB, STARTS_DB))
        self.falls, self.rises, self.starts = (nn.Buffer(values, persistent=False) for values in bounds)
        self.powers = nn.Buffer(2 ** torch.arange(1, TIMES), persistent=False)
        self.decibels = nn.Buffer(self.step * torch.arange(codebook_size).float(), persistent=False)  # [V], of codes

    @torch.no_grad()
    def hear(self, recordings: Iterable[Codes]) -> None:
        """Note how loud the softest of the recordings `[F, Q]` becomes, but for very few."""
        loudest = self.step * np.array([codes[:, 0].max() for codes in recordings])
        self.softest.fill_(float(np.quantile(loudest, 1 - COMMON, method="lower")))

    def forward(self, loudness: Tensor, positions: Tensor, loudest: Tensor | None) -> tuple[Tensor, Tensor]:
        """What to add to logits of the loudness `[B, T, V + 2]` that follow `loudness` `[B, T]`, and the loudest now.

        See `states`.
        """
        states, loudest = self.states(loudness, positions, loudest)
        return self.table[states].gather(-1, self.changes(loudness)), loudest

    def states(self, loudness: Tensor, positions: Tensor, loudest: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """State `[B, T]` after each token of loudness `[B, T]`, and how loud the loudest was until the end, `[B]` dB.

        The first is at `positions` `[B]`. Position 0 is BOS, so that positions count the frames. `loudest` `[B]` dB is
        that of the frames before, None without any.
        """
        is_code = loudness < self.codebook_size
        decibels = self.step * loudness.where(is_code, 0).float()
        so_far = decibels.cummax(dim=1).values
        if loudest is not None:
            so_far = so_far.maximum(loudest[:, None])
        falls = torch.bucketize(so_far - decibels, self.falls)
        frames = positions[:, None] + torch.arange(loudness.shape[1], device=loudness.device)
        times = torch.bucketize(frames, self.powers, right=True)  # whole logarithms
        has_been_loud = so_far >= self.softest - LOUD_DB
        return (SITUATIONS * times + 2 * falls + has_been_loud).where(is_code, STATES - 1), so_far[:, -1]

    def changes(self, loudness: Tensor) -> Tensor:
        """Class `[..., V + 2]` of the change from tokens of loudness `[...]` to each other one."""
        rises = torch.bucketize(self.decibels - self.step * loudness[..., None].float(), self.rises)
        starts = torch.bucketize(self.decibels - self.softest, self.starts)
        classes = torch.where(loudness[..., None] < self.codebook_size, rises, starts)
        return nn.functional.pad(classes, (0, NUM_SPECIAL_TOKENS), value=CHANGES - 1)

    def count(self, sounds: Iterable[Codes], most_frames: int) -> Table:
        """How often sounds `[F, Q]` change in each way from each state, `[STATES, CHANGES]`.

        A sound counts in a state with the root of its frames there, as frames of a sound are much alike. One of
        `most_frames` or more goes on, for all that is known.
        """
        total, device = np.zeros((STATES, CHANGES)), self.table.device
        start = torch.tensor([bos_token(self.codebook_size)], device=device)
        for codes in sounds:
            heard = torch.from_numpy(codes[:most_frames, 0].astype(np.int64)).to(device)
            loudness = torch.cat([start, heard])
            before = self.states(loudness[None], torch.zeros_like(start))[0][0]
            ways = self.changes(loudness[:-1]).gather(1, heard[:, None])[:, 0]
            if len(codes) < most_frames:
                ways = nn.functional.pad(ways, (0, 1), value=CHANGES - 1)
            pairs = (before[: len(ways)] * CHANGES + ways).cpu().numpy()
            counted = np.bincount(pairs, minlength=total.size).reshape(total.shape)
            total += counted / np.sqrt(np.maximum(1, counted.sum(axis=1, keepdims=True)))
        return total


class KnownCourses(nn.Module):
    """Courses of the loudness of recordings of so many `frames`, and their labels, 0 for none."""

    def __init__(self, frames: Sequence[int], codebook_sizes: Sequence[int]) -> None:
        super().__init__()
        self.frames, self._codebook_sizes = list(frames), codebook_sizes
        self.loudness = nn.Buffer(torch.zeros(sum(frames)))
        self.labels = nn.Buffer(torch.zeros(len(frames)))

    @torch.no_grad()
    def fit(self, recordings: Sequence[Codes], labels: Sequence[int]) -> None:
        """Take the courses from recordings `[F, Q]`, which have so many frames."""
        self.loudness.copy_(torch.from_numpy(np.concatenate([codes[:, 0] for codes in recordings])))
        self.labels.copy_(torch.tensor(labels))

    def stretched(
        self, count: int, most_frames: int, label: int, generator: torch.Generator, ends: bool = True
    ) -> Tensor:
        """Courses `[count, most_frames]` of sounds, in tokens, with EOS where they have ended.

        Each is that of a random recording, stretched and moved at random, so that it fits; those that do not end are
        stretched to `most_frames`. With a label it is one with the label, where there is any.
        """
        recordings, courses = self._of(label), []
        for _ in range(count):
            recording, octaves, moved = self._draw(recordings, generator)
            frames = min(most_frames, max(1, round(len(recording) * 2 ** (STRETCHED_OCTAVES * octaves))))
            frames = frames if ends else most_frames
            course = nn.functional.interpolate(recording[None, None], frames, mode="linear")[0, 0]
            courses.append(course + MOVED_STEPS * moved)
        return self._tokens(courses, most_frames)

    def continued(self, prompt: Codes, count: int, most_frames: int, label: int, generator: torch.Generator) -> Tensor:
        """Courses as of `stretched`, of sounds that go on after the codes `prompt` `[P, Q]` for a frame at least.

        Each is that of a longer recording, where there is one, from frame P on, and begins as loud as the prompt ends.
        """
        recordings, courses = self._of(label), []
        recordings = [recording for recording in recordings if len(recording) > len(prompt)] or recordings
        for _ in range(count):
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
