"""Generation of sounds and of takes: sample codes, judge them, draw again what is refused, decode, fade.

A take keeps a part of a recording's codes, and the prior draws the rest given these. The coarser levels of
a frame are kept first, and tones with the coarsest. With strength finer levels go before coarser ones, in runs of
frames, and of equal seeds the codes that a greater strength keeps are among those that a smaller one keeps.
"""

import itertools
import math
import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import numpy as np
import torch

from distill.audio.image import fold
from distill.audio.output import Output
from distill.audio.side_info import UNKNOWN, SideInfo
from distill.audio.upmix import upmixed
from distill.codec.layout import NOTE, SHAPE
from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each
from distill.codes.store import Codes
from distill.errors import ArtifactError
from distill.generate.faults import AT_NOTES, FAULTS, WITH_LENGTH, WITH_PROMPT, Fault, Samples
from distill.generate.policies import Policy, Sampling, keep, pull_to
from distill.generate.refusals import (
    IN_TUNE,
    MISTUNED,
    MOST_DRAWS,
    Draft,
    Draws,
    Emit,
    Refusal,
    Sound,
    draw_again,
    kept,
)
from distill.generate.sampling import NO_CODES, Drawn, Sequences, generators, sample_along_courses, sample_codes
from distill.generate.settings import Delivery, OnSound
from distill.generate.source import Source
from distill.progress import Progress, silent
from distill.seeds import Stream, derive_seed

BATCH = 64
NEAREST_SECONDS = 8.0  # of a nearest recording that are played beside a sound
FADE_IN_SECONDS, FADE_OUT_SECONDS = 0.0005, 0.005  # at the ends of a sound: a longer start softens attacks
PEAK = 0.98  # largest amplitude
MOST_SOFTER = 1.06  # factor by which peaks may be over it for the sound to be made softer, half a decibel
MOST_CUT = 2.0  # factor by which peaks are cut at most, 6 dB
RUN_FRAMES = 8  # frames over which the choice of what a take keeps is smoothed
COARSE_FROM = 0.5  # strength from which tones and the coarsest level are drawn again; the finest is in all frames

NO_SAMPLES: Samples = np.empty(0, np.float32)


@dataclass(frozen=True)
class Attempt:
    """A draw of some sounds of a batch: their numbers, their seeds, and those of what each keeps if it is a take."""

    numbers: Sequence[int]
    seeds: Sequence[int]
    take_seeds: Sequence[int]
    progress: Progress


@dataclass(frozen=True, eq=False)
class GenerationRequest:
    """A request for `count` sounds that end at EOS within `max_seconds`, or last exactly as long.

    They continue the codes `prompt` `[P, Q]`, empty for none. `label` counts from 1, 0 is none. With `notes`, in semitones
    (MIDI), sounds are at these in turn. With `finds_faults` sounds are searched for faults. `side_info` is that of what they
    continue or vary; without one a sound has that of the recording that it is like. Both are `width` wide.
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
    drafts: int = 1  # of which the critic of the model takes one, if it has one
    is_compared: ClassVar[bool] = True  # all of them together with recordings

    @property
    def kinds(self) -> tuple[Fault, ...]:
        """The faults that such sounds can have: whoever asks for a length, a beginning or notes gets them."""
        asked = [WITH_LENGTH] * (not self.natural_ending) + [WITH_PROMPT] * bool(len(self.prompt))
        asked += [AT_NOTES] * bool(self.notes)
        return tuple(kind for kind in FAULTS if all(kind in kinds for kinds in asked))

    @property
    def is_tuned(self) -> bool:
        """Whether pitches of sounds are measured."""
        return bool(self.notes)

    def make(
        self,
        source: Source,
        seeds: "Seeds",
        refusals: Sequence[Refusal],
        report: Progress,
        emit: Emit,
        first_alone: bool,
    ) -> Draws:
        """Make the sounds; see `generate_sounds`."""
        return generate_sounds(source, self, seeds, refusals, report, emit, first_alone)

    def channels(self, source: Source) -> int:
        """The number of channels of all of them: 2 where one of them may be stereo."""
        may_be = source.is_stereo if self.side_info is None else self.side_info.is_stereo
        return 2 if may_be and self.width else 1

    def prompt_samples(self, source: Source) -> int:
        """Number of samples of the prompt."""
        return len(self.prompt) * source.codec.spectrogram.samples_per_frame

    def note_of(self, number: int) -> float | None:
        """The note that a sound of this number should be at, if any."""
        return self.notes[number % len(self.notes)] if self.notes else None

    def draw(self, source: Source, attempt: Attempt) -> list[Drawn]:
        """Draw some sounds, without the codes of the prompt."""
        notes = [source.tuner.weights(list(map(self.note_of, attempt.numbers)))] if self.notes else []
        return self._sampled(source, attempt, frames_for_seconds(source.codec, self.max_seconds), notes)

    def _sampled(
        self, source: Source, attempt: Attempt, frames: int, policies: Sequence[Policy], has_courses: bool = True
    ) -> list[Drawn]:
        """Sample codes by policies; unless these say how loud each frame is, it follows courses of recordings."""
        prior, random = source.prior, generators(attempt.seeds)
        wanted = Sequences(len(attempt.numbers), frames, self.natural_ending, self.label, self.prompt, self.sampling)
        if not has_courses:
            return list(map(Drawn, sample_codes(prior, wanted, random, policies, attempt.progress)))
        motions, bends = source.motions, not self.is_tuned
        return sample_along_courses(prior, wanted, random, policies, motions, bends, attempt.progress)


@dataclass(frozen=True, eq=False, kw_only=True)
class TakeRequest(GenerationRequest):
    """A request for takes of the codes `recording` `[F, Q]`, `max_seconds` long.

    `strength`, in [0, 1], says how much of it is drawn again. With `follow_tones` what is drawn has the tones of the
    recording, else any.
    """

    recording: Codes
    strength: float
    natural_ending: bool = False
    follow_tones: bool = False

    @property
    def is_tuned(self) -> bool:
        """Whether pitches of takes are measured."""
        return bool(self.notes) or self.follow_tones

    def draw(self, source: Source, attempt: Attempt) -> list[Drawn]:
        """Draw some takes."""
        recording, strength, codec, count = self.recording, self.strength, source.codec, len(attempt.numbers)
        if not strength:
            return [Drawn(recording.copy()) for _ in attempt.numbers]
        policies: list[Policy] = [source.tuner.following(recording, count)] if self.is_tuned else []
        if strength < 1:
            kept = [kept_codes(recording, strength, own) for own in attempt.take_seeds]
            policies += [
                pull_to(codec.code_vectors(), torch.from_numpy(recording), strength),
                keep(torch.from_numpy(np.stack(kept))),
            ]
        return self._sampled(source, attempt, len(recording), policies, has_courses=strength == 1)


def in_tune(request: GenerationRequest) -> Refusal:
    """Refuse sounds that are not at their note; where none of a batch is, generation ends."""
    other = "give a length: what goes on may be short" if len(request.prompt) else "choose another label"
    return replace(MISTUNED, remedy=other)


@dataclass(frozen=True)
class Seeds:
    """Seeds of a request: each sound has its own, whatever the number of sounds, and each take."""

    seed: int

    def of_sound(self, number: int, attempt: int) -> int:
        """The seed of the codes that are drawn for a sound."""
        return derive_seed(self.seed, Stream.SOUNDS, number, attempt)

    def of_take(self, number: int, attempt: int) -> int:
        """The seed of what a take keeps."""
        return derive_seed(self.seed, Stream.VARIED_FRAMES, number, attempt)

    def of_choice(self, number: int) -> int:
        """The seed of the choice among the drafts of a sound."""
        return derive_seed(self.seed, Stream.CHOICES, number)


def generate_sounds(
    source: Source,
    request: GenerationRequest,
    seeds: Seeds,
    refusals: Sequence[Refusal] = (),
    report: Progress = silent,
    emit: Emit = kept,
    first_alone: bool = False,
) -> Draws:
    """Generate sounds, each from its own seed, in batches of at most BATCH; those that are refused are drawn again.

    At strength 0 all takes are the recording, at strength 1 they are as without it. `report` is called while codes are
    drawn, with frames of all sounds. `emit` gets every sound as soon as its batch is ready. With `first_alone` the first
    sound is a batch, so that it is there soon. Raises ArtifactError when a network gives NaN or infinite values, or when a
    refusal with a remedy applies to all sounds of the first BATCH.
    """
    draws, choice = Draws(), source.choice(request.drafts, seeds.of_choice, request.label)
    is_heard = request.is_tuned or choice.drafts > 1 or any(refusal.hears for refusal in refusals)
    alone = int(first_alone)
    starts = [*range(alone), *range(alone, request.count, BATCH // choice.drafts)]
    for batch in itertools.starmap(range, itertools.pairwise([*starts, request.count])):
        is_whole = batch.start == alone or request.count == 1  # the first batch, with the sound before it
        draw = partial(_drawn, source, request, seeds, batch, report, is_heard)
        made = draw_again(batch, draw, partial(_judged, source, request), refusals, choice)
        for refusal in refusals:
            left = [*draws.left.values(), *made.left.values()]
            if refusal.remedy and is_whole and left == [refusal.name] * batch.stop:
                raise ArtifactError(
                    f"note: expected a sound at its note within {100 * IN_TUNE:.0f} cents, found none among "
                    f"{MOST_DRAWS * batch.stop} that were drawn; leave the note out, or {refusal.remedy}"
                )
        if not is_heard:
            made.drawn = dict(zip(batch, _decoded(source, request, batch, made.sounds), strict=True))
        for number in batch:
            made.hand_over(number, made.drawn[number], emit)
        draws.add(made)
    return draws


def _drawn(
    source: Source,
    request: GenerationRequest,
    seeds: Seeds,
    batch: range,
    report: Progress,
    is_heard: bool,
    drafts: Sequence[Draft],
) -> list[Sound]:
    """Draw drafts of sounds of a batch, and decode them if they are heard before they are refused."""
    numbers = [draft.number for draft in drafts]
    drawn_now, name = len(set(numbers)), ""
    accepted = len(batch) - drawn_now
    if request.count > BATCH:
        name = f"sounds {batch.start + 1} to {batch.stop} of {request.count}: "

    def progress(done: int, of: int, text: str) -> None:
        report((batch.start + accepted) * of + done * drawn_now, request.count * of, name + text)

    own, of_takes = ([seed(*draft) for draft in drafts] for seed in (seeds.of_sound, seeds.of_take))
    drawn = request.draw(source, Attempt(numbers, own, of_takes, progress))
    sounds = [
        Sound(np.concatenate([request.prompt.reshape(-1, sound.codes.shape[1]), sound.codes]), None, None, NO_SAMPLES)
        for sound in drawn
    ]
    sounds = [_with_side_info(source, request, *pair) for pair in zip(sounds, drawn, strict=True)]
    return _decoded(source, request, numbers, sounds) if is_heard else sounds


def _with_side_info(source: Source, request: GenerationRequest, sound: Sound, drawn: Drawn) -> Sound:
    """A sound with what is asked for, else with that of the recording that it follows, else of the nearest."""
    if request.side_info is not None:
        return replace(sound, side_info=request.side_info)
    if drawn.followed is None:
        sound = _judged(source, request, sound)
    return replace(sound, side_info=source.side_info_like(drawn.followed, sound.novelty))


def _judged(source: Source, request: GenerationRequest, sound: Sound) -> Sound:
    """A sound with the novelty of what comes after the prompt, where there is a judge."""
    if source.judge is None or sound.novelty is not None:
        return sound
    return replace(sound, novelty=source.judge([sound.codes[len(request.prompt) :]])[0])


def _decoded(
    source: Source, request: GenerationRequest, numbers: Sequence[int], sounds: Sequence[Sound]
) -> list[Sound]:
    """Sounds of some numbers with samples, the part of their side information that these have, faults, and pitches if asked for."""
    rate, length = source.codec.spectrogram.sample_rate, None
    if not request.natural_ending:
        length = request.prompt_samples(source) + max(1, round(request.max_seconds * rate))
    codes = [sound.codes for sound in sounds]
    step = source.codec.spectrogram.samples_per_frame
    side_info = [sound.side_info.cut(0.0, (length or len(sound.codes) * step) / rate) for sound in sounds]
    decoded = list(decoded_sounds(source.codec, codes, length, side_info, request.width))
    faults: Sequence[tuple[Fault, ...] | None] = [None] * len(sounds)
    if request.finds_faults and source.finder is not None:
        faults = source.finder(codes, [in_mono for _, in_mono in decoded], request.kinds)
    channels, likeness = request.channels(source), source.likeness([in_mono for _, in_mono in decoded])
    made = [
        replace(
            sound,
            samples=in_channels(samples, channels),
            seconds=len(samples) / rate,
            faults=faulty,
            side_info=about,
            likeness=alike,
        )
        for sound, (samples, _), faulty, about, alike in zip(sounds, decoded, faults, side_info, likeness, strict=True)
    ]
    if not request.is_tuned:
        return made
    pitches = [source.tuner.measure(in_mono[request.prompt_samples(source) :]) for _, in_mono in decoded]
    notes = map(request.note_of, numbers)
    return [replace(sound, note=note, pitch=pitch) for sound, note, pitch in zip(made, notes, pitches, strict=True)]


def by_label(count: int, labels: int) -> list[tuple[int, int]]:
    """Numbers of so many labels, from 1 on, and how many of `count` sounds each has; without labels all have 0, which is none."""
    numbers = range(1, 1 + labels) if labels else range(1)
    return [(label, len(range(place, count, len(numbers)))) for place, label in enumerate(numbers[:count])]


def frames_for_seconds(codec: VQVAE, seconds: float) -> int:
    """Number of frames that cover `seconds`, at least one."""
    return max(1, math.ceil(seconds * codec.spectrogram.frame_rate))


def kept_codes(codes: Codes, strength: float, seed: int) -> Codes:
    """The codes that a take keeps of codes `[F, Q]`, -1 where to draw: fewer with strength, and coarser levels longer.

    Note, tuning and atom are kept as long as the level before them, the loudness. All are kept at strength 0, none at
    strength 1. Above strength 0 at least one code is drawn.
    """
    frames, levels = codes.shape
    noise = np.random.default_rng(seed).standard_normal(frames + RUN_FRAMES - 1)
    ranks = np.convolve(noise, np.ones(RUN_FRAMES), mode="valid").argsort().argsort() / frames  # [F], in [0, 1)
    # The proportion of frames in which each level is drawn: it rises from its strength on.
    steps = (np.arange(levels) - (SHAPE - NOTE)).clip(0)  # from the coarsest level
    drawn = ((strength - COARSE_FROM * (1 - steps / steps[-1])) / (1 - COARSE_FROM)).clip(0.0, 1.0)
    kept = (ranks[:, None] >= drawn).sum(axis=1)  # [F], levels
    return np.where(np.arange(levels) < kept[:, None], codes, -1)


def decode_sounds(
    codec: VQVAE,
    sounds: Iterable[Codes],
    length: int | None = None,
    side_info: Iterable[SideInfo] = itertools.repeat(UNKNOWN),
    width: float = 1.0,
) -> list[Samples]:
    """Decode codes `[F, Q]` of each sound to samples, faded at both ends and `limited`.

    They are `[N, 2]` for a stereo sound, as wide as `width` says, and `[N]` for one without, or of no width. With
    `length` only the first samples are kept. Raises ArtifactError when the codec gives NaN or infinite values.
    """
    return [samples for samples, _ in decoded_sounds(codec, sounds, length, side_info, width)]


def decoded_sounds(
    codec: VQVAE,
    sounds: Iterable[Codes],
    length: int | None = None,
    side_info: Iterable[SideInfo] = itertools.repeat(UNKNOWN),
    width: float = 1.0,
) -> Iterator[tuple[Samples, Samples]]:
    """Samples of each sound as `decode_sounds` gives them, and those `[N]` of the sound in mono, which may be the same."""
    rate = codec.spectrogram.sample_rate
    own, of_draws = itertools.tee(side_info if width else (about.in_mono for about in side_info))

    def finished(audio: torch.Tensor, about: SideInfo) -> tuple[Samples, Samples]:
        first, *other = np.atleast_2d(audio[..., :length].cpu().numpy().copy())
        if not np.isfinite(first).all():
            raise ArtifactError("expected finite samples of the codec, found NaN or infinite values; train it again")
        stereo = [upmixed(first, other[0], about.image, rate, width)] if other else []
        in_mono, *others = [limited(faded(samples, rate)) for samples in (first, *stereo)]
        return (*others, in_mono)[0], in_mono

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # of several sounds at once
        decoded = [*decode_each(codec, map(torch.from_numpy, sounds), of_draws)]
        yield from threads.map(finished, decoded, own)


def in_channels(samples: Samples, channels: int) -> Samples:
    """Samples `[N]` or `[N, 2]` in two channels, if that many are wanted."""
    return np.repeat(samples[:, None], 2, axis=1) if samples.ndim < channels else samples


def generated(
    source: Source,
    request: GenerationRequest,
    seed: int,
    criteria: Sequence[Refusal],
    output: Output,
    delivery: Delivery,
    made_at: int | None = None,
) -> Draws:
    """Generate the sounds of a request at `made_at` Hz, by default the codec's sample rate, and deliver them as `output`."""
    emit = emitted(output, made_at or source.codec.spectrogram.sample_rate, delivery.on_sound)
    return request.make(source, Seeds(seed), criteria, delivery.progress, emit, delivery.first_alone)


def seed_or_any(seed: int | None) -> int:
    """Return the seed, or a random one."""
    return secrets.randbelow(2**31) if seed is None else seed


def emitted(output: Output, sample_rate: int, on_sound: OnSound | None) -> Emit:
    """Convert sounds from a sample rate to an output. With `on_sound` it receives the samples, and none are kept."""

    def emit(number: int, sound: Sound) -> Sound:
        samples, under_db = output.of(sound.samples, sample_rate)
        made = replace(sound, samples=samples, seconds=len(samples) / output.sample_rate, under_db=under_db)
        if on_sound is None:
            return made
        on_sound(number, samples)
        return replace(made, samples=NO_SAMPLES)

    return emit


def folded(samples: Samples, sample_rate: int) -> Samples:
    """Samples `[N]`: those of a mono sound, of a stereo one as loud as both channels in every band."""
    return samples if samples.ndim == 1 else fold(samples, sample_rate)


def faded(samples: Samples, sample_rate: int) -> Samples:
    """Samples `[N]` or `[N, 2]`, which are changed: faded at both ends."""
    for seconds, part in ((FADE_IN_SECONDS, samples), (FADE_OUT_SECONDS, samples[::-1])):
        fade = min(int(seconds * sample_rate), len(samples) // 2)
        part[:fade].T[...] *= np.linspace(0.0, 1.0, fade, endpoint=False, dtype=np.float32)
    return samples


def limited(samples: Samples) -> Samples:
    """Samples `[N]` or `[N, 2]` with peaks of at most PEAK: by up to half a decibel softer, and what is still higher is cut.

    Codes have no phases, so that partials of a clipped recording come to higher peaks. What cutting takes from the level
    is given back, but for peaks of more than twice PEAK.
    """
    over = float(np.abs(samples).max(initial=0.0)) / PEAK
    if over <= MOST_SOFTER:
        return samples * np.float32(1 / max(1.0, over))
    samples = samples * np.float32(min(1 / MOST_SOFTER, MOST_CUT / over))
    level, rounds = np.linalg.norm(samples), 8
    for _ in range(rounds):
        cut = samples.clip(-PEAK, PEAK)
        samples = cut * (level / np.linalg.norm(cut))
    return samples.clip(-PEAK, PEAK)
