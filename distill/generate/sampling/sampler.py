"""Sampling of codes from a prior: cached and batched, up to EOS or a given length, with logits processors.

Shapes: B active sounds, F frames, L coarser levels of a frame, Q levels, V codebook size.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from distill.codes.sequences import eos_token
from distill.codes.store import Codes
from distill.errors import ArtifactError
from distill.generate.sampling.motion import Motions
from distill.generate.sampling.processors import (
    LogitsProcessor,
    Sampling,
    SamplingStep,
    chain,
    follow,
)
from distill.prior.base import DrawCode, Prior, Sampler
from distill.progress import Progress

NO_CODES: Codes = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Sequences:
    """Request for `count` sequences of at most `max_frames`, with a label from 1 on, or 0 for none.

    They continue the codes `prompt` `[P, Q]`, empty for none. With `natural_ending` they stop at EOS, else each has
    `max_frames`. With `has_given_length` processors decide the end, which may exceed the longest recording.
    """

    count: int
    max_frames: int
    natural_ending: bool = True
    label: int = 0
    prompt: Codes = field(default_factory=lambda: NO_CODES)
    sampling: Sampling = field(default_factory=Sampling)
    has_given_length: bool = False

    def most_frames(self, prior: Prior) -> int:
        """Maximum frames of a sequence: at most the prior's training length if it ends by itself without a prompt."""
        if (
            self.natural_ending
            and not (self.has_given_length or len(self.prompt))
            and prior.most_frames
        ):
            return min(self.max_frames, prior.most_frames)
        return self.max_frames


class SampledCodes(NamedTuple):
    """Codes `[F, Q]` of a sound, and the index of the recording whose motion is transferred, or None."""

    codes: Codes
    followed: int | None = None


@torch.inference_mode()
def sample_codes(
    prior: Prior,
    wanted: Sequences,
    random: Sequence[torch.Generator],
    processors: Sequence[LogitsProcessor] = (),
    progress: Progress = lambda *_: None,
) -> list[Codes]:
    """Sample sequences of codes `[F, Q]`, F at least 1, without the prompt.

    Each level of each frame takes three steps: the prior's probabilities with label smoothing undone, the `processors` in
    order, and a sample from one random number for each sequence. Each sequence has its own generator, so it does not
    depend on the others, except by rounding. Beyond its context the prior continues from the last half of its window.
    Raises ArtifactError if the prior gives NaN or infinite values.
    """
    sizes, smoothing = prior.shape.codebook_sizes, prior.smoothing.tolist()
    most_frames = wanted.most_frames(prior)
    in_turn = chain(wanted.sampling, prior.shape.layout, processors)
    codes = torch.zeros(wanted.count, most_frames, len(sizes), dtype=torch.int64)
    lengths, active = torch.full((wanted.count,), most_frames), torch.arange(wanted.count)
    sampler = _sampler(prior, wanted)

    def draw_level(logits: Tensor, coarser: Tensor, _: int) -> Tensor:
        level = coarser.shape[1]
        may_end = level == 0 and frame > 0 and wanted.natural_ending
        possible = logits if may_end else logits[:, : sizes[level]]
        shares = undo_label_smoothing(possible.float().cpu(), smoothing[level], sizes[level])
        if not math.isfinite(shares.sum()):
            raise ArtifactError(
                "expected finite logits of the prior, found NaN or infinite values; train it again"
            )
        step = SamplingStep(frame, level, active, coarser.cpu(), codes)
        for processor in in_turn:
            shares = processor(shares, step)
        return draw(shares, numbers[:, level])

    # oneDNN costs more than it saves here.
    with torch.backends.mkldnn.flags(False, None, None, None):
        for frame in range(most_frames):
            # [B, Q]
            numbers = torch.stack([uniform(random[row], len(sizes)) for row in active.tolist()])
            drawn = sampler.next_frame(draw_level).cpu()
            codes[active, frame] = drawn
            ended = active[drawn[:, 0] == eos_token(prior.codebook_size)]
            lengths[ended] = lengths[ended].clamp_max(frame)
            unfinished = (lengths[active] == most_frames).nonzero()[:, 0]
            if not len(unfinished):
                break
            if 2 * len(unfinished) <= len(active):
                sampler.keep(unfinished)
                active = active[unfinished]
            done = int((lengths < most_frames).sum())
            progress(frame + 1, most_frames, f"frames, {done} of {wanted.count} sounds ended")
    return [
        own[:length].numpy().copy() for own, length in zip(codes, lengths.tolist(), strict=True)
    ]


def sample_along_courses(
    prior: Prior,
    wanted: Sequences,
    random: Sequence[torch.Generator],
    processors: Sequence[LogitsProcessor] = (),
    motions: Motions | None = None,
    bends: bool = True,
    progress: Progress = lambda *_: None,
) -> list[SampledCodes]:
    """Sample as `sample_codes`, along loudness contours of recordings if the prior has them.

    The motion of recordings in `motions` is transferred, without pitch unless `bends`; they must be the recordings of
    the prior's contours. With a prompt no motion is transferred; with a prompt and a length there is no contour.
    """
    if prior.courses is None or (len(wanted.prompt) and not wanted.natural_ending):
        return [
            SampledCodes(codes)
            for codes in sample_codes(prior, wanted, random, processors, progress)
        ]
    most = wanted.most_frames(prior)
    if len(wanted.prompt):
        courses, motions = prior.courses.continued(wanted.prompt, wanted.label, random), None
    else:
        repeats = motions.repeats if motions else lambda _: False
        courses = prior.courses.stretched(
            most, wanted.label, random, wanted.natural_ending, repeats
        )
    in_time = [course.in_time for course in courses]
    own = [follow(prior.courses.tokens(courses, most), prior.codebook_size, in_time)]
    if motions and any(in_time):
        own.append(motions.beats(courses))
    drawn = sample_codes(prior, wanted, random, [*processors, *own], progress)
    if not motions:
        return list(map(SampledCodes, drawn))
    pairs = zip(drawn, courses, strict=True)
    return [SampledCodes(*motions.moved(codes, course, bends)) for codes, course in pairs]


def _sampler(prior: Prior, wanted: Sequences) -> Sampler:
    """Sampler of the prior, guided if there is a label and a guidance scale other than 1."""
    labels, scale = torch.full((wanted.count,), wanted.label), wanted.sampling.guidance
    history = (
        torch.from_numpy(wanted.prompt)
        .reshape(-1, prior.num_quantizers)
        .expand(wanted.count, -1, -1)
    )
    if not wanted.label or scale == 1:
        return Sampler(prior, history, labels)
    # Loudness is not guided: labels name kinds of sound, and guided loudness ends sounds at odd times.
    scales = [1.0] + [scale] * (prior.num_quantizers - 1)
    return GuidedSampler(prior, history, labels, scales)


class GuidedSampler(Sampler):
    """Sampler of labelled sequences with classifier-free guidance; `scales` holds the guidance scale of each level.

    The batch is doubled: the second half has the same sequences without a label.
    """

    def __init__(
        self, prior: Prior, history: Tensor, labels: Tensor, scales: Sequence[float]
    ) -> None:
        super().__init__(
            prior, history.repeat(2, 1, 1), torch.cat([labels, torch.zeros_like(labels)])
        )
        self._scales = scales

    def next_frame(self, draw: DrawCode) -> Tensor:
        def draw_guided(logits: Tensor, coarser: Tensor, frame: int) -> Tensor:
            conditional, unconditional = logits.float().chunk(2)
            guided = classifier_free_guidance(
                conditional, unconditional, self._scales[coarser.shape[1]]
            )
            return draw(guided, coarser.chunk(2)[0], frame).repeat(2)

        return super().next_frame(draw_guided).chunk(2)[0]

    def keep(self, rows: Tensor) -> None:
        super().keep(torch.cat([rows, rows + len(self.labels) // 2]))


def classifier_free_guidance(conditional: Tensor, unconditional: Tensor, guidance: float) -> Tensor:
    """Guided logits `[B, V]`, extrapolated from unconditional to conditional logits (Ho and Salimans 2022, eq. 6)."""
    conditional, unconditional = conditional.log_softmax(dim=-1), unconditional.log_softmax(dim=-1)
    guided = unconditional + guidance * (conditional - unconditional)
    return torch.where(conditional == -torch.inf, conditional, guided)


def undo_label_smoothing(logits: Tensor, smoothing: float, codebook_size: int) -> Tensor:
    """Undo label smoothing: logits `[B, V]` of tokens to unnormalised probabilities of unsmoothed labels.

    The first `codebook_size` tokens are the level's codes. Training on smoothed labels teaches (1 - smoothing) p +
    smoothing / codebook_size. The held-out loss is lowest so, but a proportion `smoothing` of sampled codes would be
    uniform noise.
    """
    most_smoothing = 0.99  # undoing a smoothing of 1 would leave no probability
    shares = logits.softmax(dim=-1)
    codes = shares[:, :codebook_size]
    # Soft shrinkage subtracts and clips at 0.
    codes.copy_(nn.functional.softshrink(codes, min(smoothing, most_smoothing) / codebook_size))
    return shares


def generators(seeds: Iterable[int]) -> list[torch.Generator]:
    """Random generator for each seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def uniform(generator: torch.Generator, count: int) -> Tensor:
    """Uniform random numbers `[count]` in [0, 1)."""
    return torch.rand(count, dtype=torch.float64, generator=generator)


def draw(shares: Tensor, numbers: Tensor) -> Tensor:
    """Sample one token `[B]` from each row of unnormalised probabilities `[B, V]`, which must not be all 0.

    `numbers` `[B]` are random, uniform in [0, 1).
    """
    cumulative = shares.cumsum(dim=1, dtype=torch.float64)
    # Inverse transform sampling needs one random number a row; the Gumbel trick needs one for every token.
    chosen = numbers[:, None] * cumulative[:, -1:]
    return (cumulative <= chosen).sum(dim=1)
