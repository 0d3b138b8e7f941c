"""Generation that follows a recording's loudness, pitch and onsets frame by frame, by logits processors.

The recording's timbre is not kept: the prior chooses partial-set codes and spectral codes. The recording is cut into
notes at attacks and at steps of its pitch. Each note is sampled as a separate sound, so that it begins as sounds of the
corpus do, and the codes of the notes are joined.

Shapes: F frames of a recording, B active sounds, V codebook size, E values of a frame's envelope.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from distill.codec.layout import LOUDNESS_RANGE, LOUDNESS_STEP
from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each, runs
from distill.codec.tones.meter import PitchMeter
from distill.codes.sequences import eos_token
from distill.codes.store import Codes
from distill.drums import drum_keys
from distill.errors import ParamsError
from distill.generate.context import GenerationContext, Recorded
from distill.generate.following.contours import Followed, followed
from distill.generate.following.processors import (
    LOOSE_SEMITONES,
    centred,
    follow_loudness,
    near_envelopes,
    sharpened,
    without_tone,
)
from distill.generate.requests.generation import BATCH, Attempt, GenerationRequest
from distill.generate.sampling.processors import (
    LogitsProcessor,
)
from distill.generate.sampling.sampler import SampledCodes, Sequences, generators, sample_codes
from distill.generate.sampling.tuner import moves_in_words, octaves_back, octaves_into
from distill.generate.selection.faults import FOLLOWING, Fault
from distill.prior.courses import LOUD
from distill.progress import Progress
from distill.seeds import Stream, derive_seed
from distill.text import several

# Maximum drafts of a note; the draft in tune and nearest to the other notes is chosen
CANDIDATES = 8


# Maximum drafts of a phrase, which limits the time; minimum drafts of a note
MOST_DRAFTS, FEWEST = 1024, 2
MOSTLY = 0.5  # a rhythm has a larger proportion of drum labels, or a smaller proportion of frames with a pitch
BANDS = 10  # bands of the spectra that assign hits to labels


# Tolerance of a frame's pitch in semitones; rounding step of proportions off
IN_TUNE, OFF_STEP = 0.5, 0.05
SILENT = 1e-4  # peak of silence, -80 dB
T = TypeVar("T")


@dataclass(frozen=True, eq=False, kw_only=True)
class FollowRequest(GenerationRequest):
    """Request for sounds that follow the contours of a recording; they follow its pitch only with `has_pitch`.

    `loose`, from 0 to 1, is how far the prior may depart from the contours.
    """

    course: Followed
    has_pitch: bool
    labels: Sequence[int]  # of each note
    loose: float = 0.0
    natural_ending: bool = False
    is_compared = False

    @property
    def kinds(self) -> tuple[Fault, ...]:
        """Faults to check: contours were requested, so they are not faults."""
        return FOLLOWING

    def draw(self, context: GenerationContext, attempt: Attempt) -> list[SampledCodes]:
        """Generate a draft for each seed."""
        return [
            SampledCodes(self._phrase(context, seed, attempt.progress)) for seed in attempt.seeds
        ]

    def _phrase(self, context: GenerationContext, seed: int, progress: Progress) -> Codes:
        """Codes `[F, Q]` of a sound, joined from one candidate for each note.

        The most in-tune candidate of a label's longest note is the reference: other notes of the label get the
        candidate that is in tune and nearest to it in mean latent.
        """
        course, notes = self.course, range(len(self.course.starts))
        each = max(FEWEST, min(CANDIDATES, MOST_DRAFTS // len(notes)))
        # Batches of equally long notes waste few frames.
        rows = sorted(
            itertools.product(notes, range(each)),
            key=lambda row: (self.labels[row[0]], course.frames(row[0])),
        )
        batches = [
            batch
            for _, own in itertools.groupby(rows, key=lambda row: self.labels[row[0]])
            for batch in _batches(list(own))
        ]
        candidates: list[list[_Candidate]] = [[] for _ in notes]
        for number, batch in enumerate(batches, 1):
            own = [note for note, _ in batch]
            seeds = [derive_seed(seed, Stream.FOLLOWED_NOTES, *row) for row in batch]
            for note, candidate in zip(own, self._candidates(context, own, seeds), strict=True):
                candidates[note].append(candidate)
            progress(number, len(batches), f"drafts of {several(len(notes), 'note')}")
        leaders = {}
        for label in {*self.labels}:
            longest = max((note for note in notes if self.labels[note] == label), key=course.frames)
            leaders[label] = min(candidates[longest], key=lambda candidate: candidate.off)
        chosen = [
            min(own, key=leaders[label].preference).codes
            for own, label in zip(candidates, self.labels, strict=True)
        ]
        every = [
            course.envelopes[start:end]
            for start, end in zip(course.starts, course.ends, strict=True)
        ]
        return np.concatenate(
            [
                sharpened(context.codec, codes, wanted)
                for codes, wanted in zip(chosen, every, strict=True)
            ]
        )

    def _candidates(
        self, context: GenerationContext, notes: Sequence[int], seeds: Sequence[int]
    ) -> "list[_Candidate]":
        """Sample one candidate for each of `notes`, which share a label, and measure how far it is out of tune."""
        random = generators(seeds)
        codec, course, made = context.codec, self.course, []
        drawn = self._moved(
            context, self._drawn(context, notes, random), random, self.labels[notes[0]]
        )
        decoded = decode_each(codec, map(torch.from_numpy, drawn))
        for note, codes, heard in zip(
            notes, drawn, _courses(context.tuner.measure, decoded), strict=True
        ):
            wanted = course.pitches[course.starts[note] : course.ends[note]]
            away = (heard - wanted)[wanted.isfinite()].abs().nan_to_num(math.inf)
            is_off = away > IN_TUNE + 2 * self.loose * LOOSE_SEMITONES
            off = (
                round(float(is_off.double().mean()) / OFF_STEP)
                if self.has_pitch and len(away)
                else 0
            )
            latents = codec.dequantise(torch.from_numpy(codes)[None].to(codec.device))[0, :, 1:]
            made.append(_Candidate(codes, off, latents.mean(dim=0).cpu()))
        return made

    def _drawn(
        self, context: GenerationContext, notes: Sequence[int], random: Sequence[torch.Generator]
    ) -> list[Codes]:
        """Sample codes `[F, Q]` of some notes."""
        course, codec, prior = self.course, context.codec, context.prior
        most = max(map(course.frames, notes))
        values = course.codes_of_loudness, course.pitches, course.envelopes
        loudness, pitches, envelopes = (course.by_note(value, notes) for value in values)
        processors: list[LogitsProcessor] = [near_envelopes(codec, envelopes)]
        if self.has_pitch:
            tones = context.tuner.along(pitches, self.loose * LOOSE_SEMITONES)
            processors += [tones, without_tone(pitches.isnan(), self.loose)]
        processors.append(follow_loudness(loudness, eos_token(prior.codebook_size), self.loose))
        label = self.labels[notes[0]]
        wanted = Sequences(
            len(notes), most, has_given_length=True, label=label, sampling=self.sampling
        )
        return sample_codes(prior, wanted, random, processors)

    def _moved(
        self,
        context: GenerationContext,
        drawn: Sequence[Codes],
        random: Sequence[torch.Generator],
        label: int,
    ) -> list[Codes]:
        """Transfer motion of recordings to codes of notes, if the model has motions and loudness contours."""
        motions, courses = context.motions, context.prior.courses
        if motions is None or courses is None:
            return list(drawn)
        every = [
            courses.along(torch.from_numpy(codes[:, 0]).float(), label, own)
            for codes, own in zip(drawn, random, strict=True)
        ]
        return [
            motions.moved(codes, course, bends=False)[0]
            for codes, course in zip(drawn, every, strict=True)
        ]


def _batches(rows: Sequence[T]) -> list[Sequence[T]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def _courses(meter: PitchMeter, sounds: Iterable[Tensor]) -> Iterator[Tensor]:
    """Pitches `[F]` of sounds `[F * samples_per_frame]`; short sounds are measured together."""
    step, margin = meter.config.samples_per_frame, meter.analysis.margin
    for run in runs((len(sound) // step, sound.cpu()) for sound in sounds):
        heard = meter.course(meter.config.padded(torch.cat(run), margin))
        yield from heard.split([len(sound) // step for sound in run])


class _Candidate(NamedTuple):
    """Codes `[F, Q]` for a note, the proportion of frames out of tune in steps of OFF_STEP, and the mean latent."""

    codes: Codes
    off: int
    shape: Tensor

    def preference(self, other: "_Candidate") -> tuple[int, float]:
        """Sort key: the lowest is in tune and nearest to this candidate."""
        return other.off, float((self.shape - other.shape).square().sum())


def follow_request(
    context: GenerationContext, recorded: Recorded, **about: Any
) -> tuple[FollowRequest, list[str]]:
    """Request that follows a recording with a model, and remarks on how it is followed.

    `about` holds the request's other fields. Raises ParamsError for silence.
    """
    samples, codes = recorded.samples, torch.from_numpy(recorded.codes)
    if np.abs(samples).max(initial=0.0) < SILENT:
        raise ParamsError("follow: expected a sound, found silence; choose another recording")
    label, remarks = about.get("label", 0), []
    course = followed(context.codec, context.tuner.measure, samples)
    loud = float(course.loudness[course.is_audible].quantile(LOUD))
    course = replace(course, loudness=course.loudness + _loud(context, label, loud) - loud)
    known = context.tuner.known(label)
    voiced = float(course.pitches[course.is_audible].isfinite().double().mean())
    named = (
        []
        if label
        else [number for number, keys in enumerate(drum_keys(context.labels), 1) if keys]
    )
    drums = list(filter(context.labelled, named))  # a model may hold no recordings
    are_drums = len(drums) > MOSTLY * len(context.labels)
    is_rhythm = bool(drums) and (are_drums or known is None or voiced < MOSTLY)
    has_pitch = known is not None and voiced > 0 and not is_rhythm
    if not has_pitch:
        course = replace(course, pitches=torch.full_like(course.pitches, math.nan))
    labels = (
        _labels_like(context, drums, course, codes) if is_rhythm else [label] * len(course.starts)
    )
    if is_rhythm:
        counts = Counter(context.labels[number - 1] for number in labels)
        remarks.append(
            f"hits are played by {', '.join(f'{name} ({count})' for name, count in counts.items())}"
        )
    elif known is None:
        remarks.append("few of the recordings have a pitch, so the loudness alone is followed")
    elif has_pitch:
        course, moved = _within(course, known)
        remarks += moved
    (novelty,) = context.novelty([recorded.codes])
    if novelty and novelty.verdict == "copy":
        remarks.append(
            f"what is followed is among the recordings of the model: {novelty.nearest.nearest}"
        )
    seconds = len(samples) / context.codec.spectrogram.sample_rate
    return FollowRequest(
        max_seconds=seconds, course=course, has_pitch=has_pitch, labels=labels, **about
    ), remarks


def _labels_like(
    context: GenerationContext, drums: Sequence[int], course: Followed, codes: Tensor
) -> list[int]:
    """For each note, the drum label with the nearest standardised spectrum.

    Notes and labels are standardised apart: a beatboxed kick is not like a kick, but it is the darkest of the hits.
    """
    theirs = [
        torch.stack(
            [
                _bands(context.codec, torch.from_numpy(own.astype(np.int64)))
                for own in context.labelled(number)
            ]
        )
        for number in drums
    ]
    pieces = [codes[start:end] for start, end in zip(course.starts, course.ends, strict=True)]
    notes = _standardised(torch.stack([_bands(context.codec, piece) for piece in pieces]))
    labels = _standardised(torch.stack([own.mean(dim=0) for own in theirs]))
    return [drums[place] for place in torch.cdist(notes, labels).argmin(dim=1).tolist()]


def _standardised(values: Tensor) -> Tensor:
    """Values `[n, BANDS]` minus their mean, scaled to a mean square of 1."""
    values = values - values.mean(dim=0)
    return values / values.square().mean().sqrt().clamp_min(1e-6)


def _bands(codec: VQVAE, codes: Tensor) -> Tensor:
    """Mean spectrum `[BANDS]` of codes `[F, Q]`, weighted by amplitude, in log10 minus its mean."""
    features = codec.unproject(codec.dequantise(codes[None].to(codec.device))[0])
    bands = nn.functional.adaptive_avg_pool1d(
        codec.spectrogram.mean_log_mel(features)[:, None], BANDS
    )[:, 0]
    loud = 10.0 ** codec.frame_features.loudness(features)
    return centred((bands * loud).sum(dim=0) / loud.sum().clamp_min(1e-12)).cpu()


def _loud(context: GenerationContext, label: int, otherwise: float) -> float:
    """Median loudness of recordings with a label as log10 of an amplitude, or `otherwise` if the prior has none."""
    courses = context.prior.courses
    if courses is None:
        return otherwise
    return LOUDNESS_RANGE[0] + LOUDNESS_STEP * float(np.median(courses.loud(label)))


def _within(course: Followed, known: tuple[int, int]) -> tuple[Followed, list[str]]:
    """Contours moved by octaves to the `known` (lowest, highest) notes, and remarks on the moves."""
    octaves = octaves_into(course.pitches, known)
    pitches, others = course.pitches + 12 * octaves, 0
    for start, end in zip(course.starts, course.ends, strict=True):
        alone = octaves_back(float(pitches[start:end].nanmedian()), known)
        pitches[start:end] += 12 * alone
        others += alone != 0
    return replace(course, pitches=pitches), moves_in_words(octaves, others, known)
