"""Generation of sounds and takes: sample codes, score them, regenerate rejected drafts, decode, fade.

A take keeps part of a recording's codes, and the prior samples the rest. As strength rises, fine levels are sampled
before coarse levels, in runs of frames; tones stay as long as the coarsest level. With the same seed, codes kept at a
higher strength are a subset of those kept at a lower strength.
"""

import itertools
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import numpy as np

from distill.audio.output import Output
from distill.audio.side_info import SideInfo
from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.errors import ArtifactError
from distill.generate.context import GenerationContext
from distill.generate.decoding import NO_SAMPLES, decoded_sounds, in_channels
from distill.generate.sampling.processors import LogitsProcessor, Sampling
from distill.generate.sampling.sampler import (
    NO_CODES,
    SampledCodes,
    Sequences,
    generators,
    sample_along_courses,
    sample_codes,
)
from distill.generate.selection.faults import (
    AT_NOTES,
    FAULTS,
    WITH_LENGTH,
    WITH_PROMPT,
    Fault,
)
from distill.generate.selection.rejection import (
    IN_TUNE,
    MAX_DRAFTS,
    MISTUNED,
    DraftKey,
    Drafts,
    Emit,
    GeneratedSound,
    RejectionCriterion,
    generate_until_accepted,
    kept,
)
from distill.generate.settings import Delivery, OnSound
from distill.progress import Progress, silent
from distill.seeds import Stream, derive_seed

BATCH = 64


@dataclass(frozen=True)
class Attempt:
    """Attempt at some sounds of a batch: their numbers, their seeds, and seeds of the codes that takes keep."""

    numbers: Sequence[int]
    seeds: Sequence[int]
    take_seeds: Sequence[int]
    progress: Progress


@dataclass(frozen=True, eq=False)
class GenerationRequest:
    """Request for `count` sounds that end at EOS within `max_seconds`, or last exactly as long.

    They continue the codes `prompt` `[P, Q]`, empty for none. `label` counts from 1; 0 stands for no label. Sounds take
    `notes`, in semitones (MIDI), in turn. With `finds_faults` they are searched for faults. `side_info` belongs to the
    recording that they continue or vary; without it a sound takes the side information of a similar recording. `width`
    scales stereo width.
    """

    count: int
    max_seconds: float
    natural_ending: bool = True
    sampling: Sampling = field(default_factory=Sampling)
    label: int = 0
    prompt: Codes = field(default_factory=lambda: NO_CODES)
    notes: Sequence[float] = ()
    finds_faults: bool = False
    side_info: SideInfo | None = None
    width: float = 1.0
    drafts: int = 1  # drafts of a sound, among which the model's critic chooses, if it has a critic
    is_compared: ClassVar[bool] = True  # the set of sounds is compared with the recordings

    @property
    def kinds(self) -> tuple[Fault, ...]:
        """Faults to check: effects of a requested length, prompt or note are not faults."""
        asked = [WITH_LENGTH] * (not self.natural_ending) + [WITH_PROMPT] * bool(len(self.prompt))
        asked += [AT_NOTES] * bool(self.notes)
        return tuple(kind for kind in FAULTS if all(kind in kinds for kinds in asked))

    @property
    def is_tuned(self) -> bool:
        """Whether the pitch of each sound is measured."""
        return bool(self.notes)

    def make(
        self,
        context: GenerationContext,
        seeds: "Seeds",
        criteria: Sequence[RejectionCriterion],
        report: Progress,
        emit: Emit,
        first_alone: bool,
    ) -> Drafts:
        """Generate the sounds; see `generate_sounds`."""
        return generate_sounds(context, self, seeds, criteria, report, emit, first_alone)

    def channels(self, context: GenerationContext) -> int:
        """Number of channels of all sounds: 2 if any may be stereo."""
        may_be = context.is_stereo if self.side_info is None else self.side_info.is_stereo
        return 2 if may_be and self.width else 1

    def prompt_samples(self, context: GenerationContext) -> int:
        """Number of samples of the prompt."""
        return len(self.prompt) * context.codec.spectrogram.samples_per_frame

    def note_of(self, number: int) -> float | None:
        """Requested note of the sound with this number, or None."""
        return self.notes[number % len(self.notes)] if self.notes else None

    def draw(self, context: GenerationContext, attempt: Attempt) -> list[SampledCodes]:
        """Sample codes of some sounds, without the prompt."""
        notes = (
            [context.tuner.weights(list(map(self.note_of, attempt.numbers)))] if self.notes else []
        )
        return self._sampled(
            context, attempt, frames_for_seconds(context.codec, self.max_seconds), notes
        )

    def _sampled(
        self,
        context: GenerationContext,
        attempt: Attempt,
        frames: int,
        processors: Sequence[LogitsProcessor],
        has_courses: bool = True,
    ) -> list[SampledCodes]:
        """Sample codes with processors, and with `has_courses` along loudness contours of recordings."""
        prior, random = context.prior, generators(attempt.seeds)
        wanted = Sequences(
            len(attempt.numbers),
            frames,
            self.natural_ending,
            self.label,
            self.prompt,
            self.sampling,
        )
        if not has_courses:
            return list(
                map(SampledCodes, sample_codes(prior, wanted, random, processors, attempt.progress))
            )
        motions, bends = context.motions, not self.is_tuned
        return sample_along_courses(
            prior, wanted, random, processors, motions, bends, attempt.progress
        )


def in_tune(request: GenerationRequest) -> RejectionCriterion:
    """Reject sounds that are not at their note; generation stops with an error if the whole first batch is rejected."""
    other = (
        "give a length: what goes on may be short"
        if len(request.prompt)
        else "choose another label"
    )
    none_left = (
        f"note: expected a sound at its note within {100 * IN_TUNE:.0f} cents, found none among {{}} that were drawn; "
        f"leave the note out, or {other}"
    )
    return replace(MISTUNED, none_left=none_left)


@dataclass(frozen=True)
class Seeds:
    """Seeds of a request: each sound and each take has its own, independent of the number of sounds."""

    seed: int

    def of_sound(self, number: int, attempt: int) -> int:
        """Seed of a sound's sampled codes."""
        return derive_seed(self.seed, Stream.SOUNDS, number, attempt)

    def of_take(self, number: int, attempt: int) -> int:
        """Seed of the choice of codes that a take keeps."""
        return derive_seed(self.seed, Stream.VARIED_FRAMES, number, attempt)

    def of_choice(self, number: int) -> int:
        """Seed of the choice among the drafts of a sound."""
        return derive_seed(self.seed, Stream.CHOICES, number)


def generate_sounds(
    context: GenerationContext,
    request: GenerationRequest,
    seeds: Seeds,
    criteria: Sequence[RejectionCriterion] = (),
    report: Progress = silent,
    emit: Emit = kept,
    first_alone: bool = False,
) -> Drafts:
    """Generate sounds, each from its own seed, in batches of at most BATCH; rejected drafts are generated again.

    At strength 0 each take equals the recording; at strength 1 nothing of it is kept. `report` gets the progress of
    sampling, in frames of all sounds. `emit` gets each sound as soon as its batch is ready. With `first_alone` the
    first sound is a batch of its own, so that it is ready early. Raises ArtifactError if a network gives NaN or
    infinite values, or if a criterion with a remedy rejects the whole first batch.
    """
    sounds, choice = Drafts(), context.choice(request.drafts, seeds.of_choice, request.label)
    needs_audio = (
        request.is_tuned
        or choice.drafts > 1
        or any(criterion.needs_audio for criterion in criteria)
    )
    drafting = _Drafting(context, request, seeds, report, needs_audio)
    alone = int(first_alone)
    starts = [*range(alone), *range(alone, request.count, BATCH // choice.drafts)]
    for batch in itertools.starmap(range, itertools.pairwise([*starts, request.count])):
        made = generate_until_accepted(
            batch, partial(drafting.sample, batch), drafting.score, criteria, choice
        )
        if batch.start == alone or request.count == 1:  # the first whole batch
            _check_some_accepted(criteria, [*sounds.left.values(), *made.left.values()], batch.stop)
        if not needs_audio:
            made.drawn = dict(zip(batch, drafting.decode(batch, made.sounds), strict=True))
        for number in batch:
            made.deliver(number, made.drawn[number], emit)
        sounds.add(made)
    return sounds


def _check_some_accepted(
    criteria: Sequence[RejectionCriterion], reasons: Sequence[str], count: int
) -> None:
    """Raise ArtifactError if one criterion with an error rejected all of the first `count` sounds."""
    for criterion in criteria:
        if criterion.none_left and reasons == [criterion.name] * count:
            raise ArtifactError(criterion.none_left.format(MAX_DRAFTS * count))


@dataclass(frozen=True, eq=False)
class _Drafting:
    """Drafts of a request's sounds; with `needs_audio` they are decoded before they are accepted."""

    context: GenerationContext
    request: GenerationRequest
    seeds: Seeds
    report: Progress
    needs_audio: bool

    def sample(self, batch: range, drafts: Sequence[DraftKey]) -> list[GeneratedSound]:
        """Sample drafts of a batch, and decode them if needed."""
        request, numbers = self.request, [draft.number for draft in drafts]
        drawn_now, name = len(set(numbers)), ""
        accepted = len(batch) - drawn_now
        if request.count > BATCH:
            name = f"sounds {batch.start + 1} to {batch.stop} of {request.count}: "

        def progress(done: int, of: int, text: str) -> None:
            done_of_all = (batch.start + accepted) * of + done * drawn_now
            self.report(done_of_all, request.count * of, name + text)

        seeds = [self.seeds.of_sound(*draft) for draft in drafts]
        take_seeds = [self.seeds.of_take(*draft) for draft in drafts]
        sampled = request.draw(self.context, Attempt(numbers, seeds, take_seeds, progress))
        sounds = [*map(self._with_prompt, sampled)]
        return self.decode(numbers, sounds) if self.needs_audio else sounds

    def _with_prompt(self, sampled: SampledCodes) -> GeneratedSound:
        """Sound of the prompt and sampled codes, with its side information.

        Side information is the requested one, else from the recording that the sound follows, else from the nearest.
        """
        prompt = self.request.prompt.reshape(-1, sampled.codes.shape[1])
        sound = GeneratedSound(np.concatenate([prompt, sampled.codes]), None, None, NO_SAMPLES)
        if self.request.side_info is not None:
            return replace(sound, side_info=self.request.side_info)
        if sampled.followed is None:
            sound = self.score(sound)
        side_info = self.context.side_info_like(sampled.followed, sound.novelty)
        return replace(sound, side_info=side_info)

    def score(self, sound: GeneratedSound) -> GeneratedSound:
        """Score the novelty of a sound after its prompt, if the model has a reference."""
        novelty = (
            sound.novelty or self.context.novelty([sound.codes[len(self.request.prompt) :]])[0]
        )
        return replace(sound, novelty=novelty)

    def decode(
        self, numbers: Sequence[int], sounds: Sequence[GeneratedSound]
    ) -> list[GeneratedSound]:
        """Decode sounds: add samples, likeness, side information cut to their length, and faults and pitch if requested."""
        context, request, spectrogram = self.context, self.request, self.context.codec.spectrogram
        rate, length = spectrogram.sample_rate, None
        if not request.natural_ending:
            length = request.prompt_samples(context) + max(1, round(request.max_seconds * rate))
        codes = [sound.codes for sound in sounds]
        side_info = [
            sound.side_info.cut(0.0, (length or len(own) * spectrogram.samples_per_frame) / rate)
            for sound, own in zip(sounds, codes, strict=True)
        ]
        decoded = list(decoded_sounds(context.codec, codes, length, side_info, request.width))
        mono, unknown = [in_mono for _, in_mono in decoded], [None] * len(sounds)
        faults = context.faults(codes, mono, request.kinds) if request.finds_faults else unknown
        start, channels = request.prompt_samples(context), request.channels(context)
        pitches = (
            [context.tuner.measure(samples[start:]) for samples in mono]
            if request.is_tuned
            else unknown
        )
        columns = zip(faults, pitches, side_info, context.likeness(mono), strict=True)
        return [
            replace(
                sound,
                samples=in_channels(samples, channels),
                seconds=len(samples) / rate,
                note=request.note_of(number),
                faults=faulty,
                pitch=pitch,
                side_info=about,
                likeness=alike,
            )
            for number, sound, (samples, _), (faulty, pitch, about, alike) in zip(
                numbers, sounds, decoded, columns, strict=True
            )
        ]


def by_label(count: int, labels: int) -> list[tuple[int, int]]:
    """Divide `count` sounds among labels: (label from 1 on, number of its sounds); without labels, all have label 0."""
    numbers = range(1, 1 + labels) if labels else range(1)
    return [
        (label, len(range(place, count, len(numbers))))
        for place, label in enumerate(numbers[:count])
    ]


def frames_for_seconds(codec: VQVAE, seconds: float) -> int:
    """Number of frames that cover `seconds`, at least one."""
    return max(1, math.ceil(seconds * codec.spectrogram.frame_rate))


def generated(
    context: GenerationContext,
    request: GenerationRequest,
    seed: int,
    criteria: Sequence[RejectionCriterion],
    output: Output,
    delivery: Delivery,
    made_at: int | None = None,
) -> Drafts:
    """Generate the sounds of a request at `made_at` Hz, by default the codec's sample rate, and deliver them as `output`."""
    emit = emitted(output, made_at or context.codec.spectrogram.sample_rate, delivery.on_sound)
    return request.make(
        context, Seeds(seed), criteria, delivery.progress, emit, delivery.first_alone
    )


def seed_or_any(seed: int | None) -> int:
    """Return the seed, or a random one."""
    return secrets.randbelow(2**31) if seed is None else seed


def emitted(output: Output, sample_rate: int, on_sound: OnSound | None) -> Emit:
    """Convert sounds from a sample rate to an output. With `on_sound` it receives the samples, and none are kept."""

    def emit(number: int, sound: GeneratedSound) -> GeneratedSound:
        samples, under_db = output.of(sound.samples, sample_rate)
        made = replace(
            sound, samples=samples, seconds=len(samples) / output.sample_rate, under_db=under_db
        )
        if on_sound is None:
            return made
        on_sound(number, samples)
        return replace(made, samples=NO_SAMPLES)

    return emit
