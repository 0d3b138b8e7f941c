"""Loops at a tempo: each follows a recording with a beat, played faster or slower, and repeats without a gap.

A loop is generated a little too long, and the excess is crossfaded into its beginning. The tempo of a recording changes
by a third at most.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from distill.errors import ParamsError
from distill.generate.context import GenerationContext
from distill.generate.following.contours import beside_loudness
from distill.generate.following.processors import sharpened
from distill.generate.requests.generation import (
    Attempt,
    GenerationRequest,
    Seeds,
    frames_for_seconds,
    generate_sounds,
)
from distill.generate.sampling.processors import follow
from distill.generate.sampling.sampler import SampledCodes, Sequences, generators, sample_codes
from distill.generate.selection.faults import FOLLOWING, Fault, Samples
from distill.generate.selection.rejection import Drafts, Emit, RejectionCriterion
from distill.prior.courses import Course, between
from distill.progress import Progress

# Beats are clear only near the recording's spectra and at a low temperature
BANDS, NEAR_DB, COOLER = 10, 2.0, 0.5
WHOLE = 0.03  # fraction of a beat that a whole number of beats may lack


@dataclass(frozen=True, eq=False, kw_only=True)
class LoopRequest(GenerationRequest):
    """Request for loops of `beats` at a tempo of `bpm`."""

    bpm: float
    beats: int
    natural_ending: bool = False
    is_compared = False

    @property
    def kinds(self) -> tuple[Fault, ...]:
        """Faults to check in loops."""
        return FOLLOWING

    @property
    def seconds(self) -> float:
        """Length of a loop."""
        return self.beats * 60 / self.bpm

    def make(
        self,
        context: GenerationContext,
        seeds: Seeds,
        criteria: Sequence[RejectionCriterion],
        report: Progress,
        emit: Emit,
        first_alone: bool,  # noqa: ARG002 - all are closed together
    ) -> Drafts:
        """Generate loops and crossfade their ends into their beginnings; see `generate_sounds`."""
        seam_seconds, after_seconds = 0.03, 0.01  # crossfade, and what is generated after it
        longer = replace(self, max_seconds=self.seconds + seam_seconds + after_seconds)
        made, rate = (
            generate_sounds(context, longer, seeds, criteria, report),
            context.codec.spectrogram.sample_rate,
        )
        for number, sound in made.drawn.items():
            samples = closed(sound.samples, round(self.seconds * rate), round(seam_seconds * rate))
            made.deliver(number, replace(sound, samples=samples, seconds=len(samples) / rate), emit)
        return made

    def draw(self, context: GenerationContext, attempt: Attempt) -> list[SampledCodes]:
        """Sample some loops, a little too long. Raises ParamsError if no recording has a similar tempo."""
        most_moved = 4 / 3  # maximum factor of a tempo
        motions, courses, prior = context.motions, context.prior.courses, context.prior
        tempos = self.tempos(context)
        usable = {number: _ratio(self.bpm, tempo) for number, tempo in tempos.items()}
        near = {
            number: ratio
            for number, ratio in usable.items()
            if 1 / most_moved <= ratio <= most_moved
        }
        if not near or motions is None or courses is None:
            raise ParamsError(self._none_near(sorted(tempos.values())))
        random, frames = (
            generators(attempt.seeds),
            frames_for_seconds(context.codec, self.max_seconds),
        )
        every = [self._course(context, near, frames, own) for own in random]
        cooler = replace(self.sampling, temperature=COOLER * self.sampling.temperature)
        wanted = Sequences(len(every), frames, False, self.label, sampling=cooler)
        processors = [
            follow(courses.tokens(every, frames), prior.codebook_size, [True] * len(every)),
            motions.beats(every, BANDS, NEAR_DB),
        ]
        drawn = sample_codes(prior, wanted, random, processors, attempt.progress)
        return [
            SampledCodes(
                sharpened(context.codec, codes, beside_loudness(*motions.envelopes_along(course))),
                course.recording,
            )
            for codes, course in zip(drawn, every, strict=True)
        ]

    def tempos(self, context: GenerationContext) -> dict[int, float]:
        """Tempo of each recording with a beat and with the request's label, by index."""
        if context.motions is None or context.prior.courses is None:
            return {}
        tempos = {
            number: context.motions.tempo_of(number)
            for number in context.prior.courses.numbers_of(self.label)
        }
        return {number: tempo for number, tempo in tempos.items() if not math.isnan(tempo)}

    def _course(
        self,
        context: GenerationContext,
        near: dict[int, float],
        frames: int,
        random: torch.Generator,
    ) -> Course:
        """Loudness contour along a random recording of `near`, which holds tempo factors by index."""
        assert context.motions is not None
        assert context.prior.courses is not None
        number = list(near)[int(torch.randint(len(near), (1,), generator=random))]
        loudness = context.prior.courses.loudness_of(number)
        beat = 60 / context.motions.tempo_of(number) * context.codec.spectrogram.frame_rate
        whole = (
            max(1, int(len(loudness) / beat + WHOLE)) * beat
        )  # frames in whole beats, which repeat
        places = (torch.arange(frames) * near[number]) % whole
        return Course(
            number,
            places.clamp(max=len(loudness) - 1),
            between(loudness, places.clamp(max=len(loudness) - 1)),
            True,
        )

    def _none_near(self, tempos: Sequence[float]) -> str:
        if not tempos:
            return "bpm: expected recordings that repeat, to draw loops along them, found none; give a pattern of labels"
        return (
            f"bpm {self.bpm:g}: expected 3/4 to 4/3 of a tempo of the recordings, {tempos[0]:.0f} to "
            f"{tempos[-1]:.0f} bpm, found another; choose a nearer one"
        )


def _ratio(bpm: float, tempo: float) -> float:
    """Factor of the playing speed nearest to 1; the tempo may be counted at half or double."""
    ratios = [bpm / (tempo * times) for times in (0.5, 1.0, 2.0)]
    return min(ratios, key=lambda ratio: abs(math.log(ratio)))


def closed(samples: Samples, length: int, seam: int) -> Samples:
    """First `length` of samples `[N]` or `[N, 2]`, with the `seam` samples after them crossfaded into the beginning."""
    seam = min(seam, length, len(samples) - length)
    rise = np.sqrt(np.linspace(0, 1, seam, dtype=np.float32))
    looped = samples[:length].copy()
    looped[:seam].T[...] = (
        rise * looped[:seam].T + np.sqrt(1 - rise**2) * samples[length : length + seam].T
    )
    return looped
