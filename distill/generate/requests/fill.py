"""Inpainting: generate parts of a recording, or time before or after it; given samples stay, except in crossfades.

A prior samples forwards and does not see what comes after a gap. So several continuations are sampled, and the best is
kept: it makes the frames after the gap likeliest. Codes do not hold phases, so at each seam the new sound is shifted by
some samples to its best alignment with the given sound, and matched in level.

Shapes: N samples, F frames, Q levels, K candidates, R largest shift in samples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.audio.image import mono
from distill.audio.output import resampled
from distill.audio.side_info import UNKNOWN, SideInfo
from distill.codec.streaming import encode, within_full_scale
from distill.codes.sequences import Batch, bos_token
from distill.codes.store import Codes
from distill.generate.context import GenerationContext
from distill.generate.decoding import decode_sounds, folded
from distill.generate.requests.generation import GenerationRequest, Seeds
from distill.generate.sampling.processors import LogitsProcessor, SamplingStep, first_possible
from distill.generate.sampling.sampler import Sequences, generators, sample_codes
from distill.generate.sampling.tuner import SPREAD
from distill.generate.selection.faults import Samples
from distill.generate.selection.rejection import Drafts, Emit, GeneratedSound, RejectionCriterion
from distill.novelty.verdict import Novelty, least_new
from distill.prior.base import Prior
from distill.progress import Progress
from distill.seeds import Stream, derive_seed

CANDIDATES = 16  # continuations that are sampled for a gap
EDGE = 1  # frames on each side of a gap that are sampled too, as their windows reach into it
# Crossfade; compared samples; largest shift at a seam
FADE_SECONDS, ALIKE_SECONDS, REACH_SECONDS = 0.01, 0.02, 0.012
COOLER = 0.5  # factor of the temperature in a gap: flicker stands out next to steady sound
MOST_GAIN = 2.0  # maximum gain of the generated part, 6 dB

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class FillRequest(GenerationRequest):
    """Request to generate `parts` of `given`, `[N]` or `[N, 2]`, one after another, and keep the rest.

    A part is (start, end) in samples of `given`, at its own `sample_rate`. The prior gets its downmix; `side_info`
    belongs to the whole.
    """

    given: Samples
    sample_rate: int
    parts: Sequence[tuple[int, int]]
    natural_ending: bool = False
    side_info: SideInfo = field(default_factory=lambda: UNKNOWN)
    is_compared = False

    def make(
        self,
        context: GenerationContext,
        seeds: Seeds,
        criteria: Sequence[RejectionCriterion],  # noqa: ARG002 - none is refused
        report: Progress,
        emit: Emit,
        first_alone: bool,  # noqa: ARG002 - each is made alone
    ) -> Drafts:
        """Generate the parts of each sound; see `generate_sounds`. Novelty is measured on the generated parts."""
        made, rate = Drafts(), self.sample_rate
        for number in range(self.count):
            samples, scored = self.given, list[Novelty | None]()
            for part, (start, end) in enumerate(self.parts):
                seed = derive_seed(seeds.of_sound(number, 0), Stream.GAPS, part)
                part_of = self._with_part(context, samples, start, end, seed, report)
                codes = part_of.codes
                samples = spliced(samples, part_of.samples, start, end, rate)
                scored += context.novelty([part_of.drawn])
            sound = GeneratedSound(
                codes,
                least_new([own for own in scored if own]),
                None,
                samples,
                len(samples) / rate,
                side_info=self.side_info,
            )
            made.deliver(number, sound, emit)
        return made

    def _with_part(
        self,
        context: GenerationContext,
        given: Samples,
        start: int,
        end: int,
        seed: int,
        report: Progress,
    ) -> "_WithPart":
        """Generate a part of `given`, re-encoded at the codec's rate and scaled down if above full scale."""
        codec, rate = context.codec, context.codec.spectrogram.sample_rate
        scale = np.float32(max(1.0, np.abs(given).max()))
        sound = resampled(given / scale, self.sample_rate, rate)
        heard = within_full_scale(codec, folded(sound, rate), "what is given")
        codes = encode(codec, torch.from_numpy(heard)[None])[0].cpu().numpy()
        step = codec.spectrogram.samples_per_frame * self.sample_rate / rate
        before = codes[: max(0, int(start / step) - EDGE)]
        after = codes[math.ceil(end / step) + EDGE :] if end < len(given) else codes[:0]
        drawn = self._drawn(
            context, before, after, len(codes) - len(before) - len(after), seed, report
        )
        codes = np.concatenate([before, drawn, after])
        (decoded,) = decode_sounds(codec, [codes], len(heard), [self.side_info], self.width)
        decoded = scale * resampled(decoded, rate, self.sample_rate)[: len(given)]
        missing = [(0, len(given) - len(decoded)), (0, 0)][: decoded.ndim]  # a sample, by rounding
        return _WithPart(codes, drawn, np.pad(decoded, missing))

    def _drawn(
        self,
        context: GenerationContext,
        before: Codes,
        after: Codes,
        frames: int,
        seed: int,
        report: Progress,
    ) -> Codes:
        """Sample `frames` of codes `[F, Q]` between `before` and `after`; either may be empty."""
        count = CANDIDATES if len(after) else 1
        seeds = [derive_seed(seed, Stream.CONTINUATIONS, number) for number in range(count)]
        processors, sampling = list[LogitsProcessor](), self.sampling
        if len(before) and len(after):
            processors = _towards(context, before, after, frames, count)
            sampling = replace(sampling, temperature=COOLER * sampling.temperature)
        wanted = Sequences(count, frames, False, self.label, before, sampling)
        drawn = sample_codes(context.prior, wanted, generators(seeds), processors, report)
        if not len(after):
            return drawn[0]
        nats = nats_after(
            context.prior, [np.concatenate([before, own]) for own in drawn], after, self.label
        )
        return drawn[int(nats.argmin())]


def _towards(
    context: GenerationContext, before: Codes, after: Codes, frames: int, count: int
) -> list[LogitsProcessor]:
    """Logits processors for a gap between codes `[F, Q]`, which interpolate pitch and loudness from side to side."""
    strict = 1.0  # standard deviation in loudness steps next to a seam, which grows by 1 with each frame of distance
    share = torch.linspace(0, 1, frames + 2).double()[1:-1]
    ends = torch.from_numpy(np.stack([before[-1], after[0]]))
    pitches, loudness = context.tuner.heard(ends), ends[:, 0].double()
    line = torch.lerp(loudness[0], loudness[1], share)
    from_seam = torch.minimum(torch.arange(frames), torch.arange(frames).flip(0))
    processors: list[LogitsProcessor] = [near_loudness(line, strict + from_seam)]
    if pitches.isfinite().all():
        path = torch.lerp(pitches[0], pitches[1], share)
        processors.append(context.tuner.along(path.expand(count, -1), SPREAD))
    return processors


def near_loudness(codes: Tensor, spreads: Tensor) -> LogitsProcessor:
    """Logits processor that keeps the loudness near codes `[F]`, with standard deviations `[F]`."""

    def near(shares: Tensor, step: SamplingStep) -> Tensor:
        if step.level:
            return shares
        apart = (torch.arange(shares.shape[1]) - codes[step.frame]) / spreads[step.frame]
        return first_possible((shares * (-0.5 * apart.square()).exp()).to(shares), shares)

    return near


@torch.inference_mode()
def nats_after(prior: Prior, before: Sequence[Codes], after: Codes, label: int) -> Tensor:
    """Negative log-likelihood `[K]` in nats of the first frames of `after` `[F, Q]` after K equally long sequences."""
    judged_frames = 12  # frames after a gap that score continuations, a quarter of a second
    judged = after[:judged_frames]
    bos = np.full((1, after.shape[1]), bos_token(prior.codebook_size))
    frames = np.stack([np.concatenate([bos, own, judged]) for own in before])
    start = max(0, frames.shape[1] - 1 - prior.context_frames)
    window = torch.from_numpy(frames[:, start:]).to(prior.smoothing.device)
    labels = torch.full((len(window),), label, device=window.device)
    batch = Batch(window[:, :-1], window[:, 1:], torch.full_like(labels, start), labels)
    logits, targets = (each[:, -len(judged) :] for each in (prior(batch).float(), batch.targets))
    nats = nn.functional.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none")
    by_row: Tensor = nats.unflatten(0, (len(before), -1)).sum(dim=1)
    return by_row.cpu()


class _WithPart(NamedTuple):
    """Codes `[F, Q]` of the whole sound, codes of the generated part alone, and samples of the whole sound."""

    codes: Codes
    drawn: Codes
    samples: Samples


class _Seam(NamedTuple):
    """Seam: normalised cross-correlation at each shift from -R to R, `[2 R + 1]`, and gains to the given level."""

    alike: Doubles
    gains: Doubles

    @classmethod
    def of(cls, given: Samples, drawn: Samples, start: int, reach: int) -> "_Seam":
        """Compare samples `given` `[n]`, which begin at `start`, with `drawn` `[N]`, shifted by at most `reach`."""
        padded = np.pad(drawn, (reach, reach)).astype(np.float64)
        windows = sliding_window_view(padded[start : start + len(given) + 2 * reach], len(given))
        powers, own = (
            np.square(windows).sum(axis=1),
            float(np.square(given, dtype=np.float64).sum()),
        )
        alike = windows @ given / np.sqrt(powers * own + 1e-20)
        gains = np.sqrt((own + 1e-12) / (powers + 1e-12)).clip(1 / MOST_GAIN, MOST_GAIN)
        return cls(alike, gains)


def spliced(given: Samples, drawn: Samples, start: int, end: int, sample_rate: int) -> Samples:
    """Replace samples of `given` from `start` to `end` by `drawn`, with crossfades outside; both `[N]` or `[N, 2]`.

    There is no seam at the beginning or end of `given`.
    """
    most_stretch = 0.003  # maximum change of length between two seams, 5 cents
    from scipy.ndimage import map_coordinates  # slow to import

    seconds = (FADE_SECONDS, ALIKE_SECONDS, REACH_SECONDS)
    fade, width, reach = (round(each * sample_rate) for each in seconds)
    heard, other, is_left, is_right = mono(given), mono(drawn), start > 0, end < len(given)
    first = max(0, start - width)
    left = _Seam.of(heard[first:start], other, first, reach) if is_left else None
    right = _Seam.of(heard[end : end + width], other, end, reach) if is_right else None
    moves = _moves(left or right, right or left, max(1, int(most_stretch * (end - start))), reach)
    gains = [
        1.0 if seam is None else float(seam.gains[move])
        for seam, move in zip((left or right, right or left), moves, strict=True)
    ]
    places = np.arange(max(0, start - fade), min(len(given), end + fade))
    share = ((places - start) / max(1, end - start)).clip(0, 1)
    at = places + (1 - share) * (moves[0] - reach) + share * (moves[1] - reach)
    gain = gains[0] ** (1 - share) * gains[1] ** share
    ends = (0.0 if is_left else 1.0, 1.0, 1.0, 0.0 if is_right else 1.0)
    weights = np.interp(places, (start - fade, start, end, end + fade), ends)
    rows = [
        gain * map_coordinates(row, [at], order=3, mode="nearest") for row in np.atleast_2d(drawn.T)
    ]
    result = given.copy()
    for channel, own in enumerate(np.atleast_2d(result.T)):
        own[places] = weights * rows[min(channel, len(rows) - 1)] + (1 - weights) * own[places]
    return result


def _moves(left: _Seam | None, right: _Seam | None, most: int, none: int) -> tuple[int, int]:
    """Indices of shifts, at most `most` apart, with the largest summed correlation; `none` without seams."""
    if left is None or right is None:
        return none, none
    apart = np.abs(np.subtract.outer(np.arange(len(left.alike)), np.arange(len(right.alike))))
    both = np.where(apart <= most, np.add.outer(left.alike, right.alike), -np.inf)
    own, other = np.unravel_index(int(both.argmax()), both.shape)
    return int(own), int(other)
