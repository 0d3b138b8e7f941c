"""What sounds follow of a recording: its loudness, its pitch and where it begins, frame by frame, as policies of a draw.

Nothing of its timbre is kept: atoms and shapes are the prior's own. A recording is cut into notes where it begins again or
steps to another pitch. Each note is drawn as a sound of its own, so that it begins as sounds of the corpus do, and their
codes follow one another.

Shapes: F frames of a recording, B sounds that go on, V codes of a level, E values of the envelope of a frame.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codec.layout import LOUDNESS_RANGE, LOUDNESS_SIZE, LOUDNESS_STEP, NOTE
from distill.codec.model import VQVAE
from distill.codec.streaming import CHUNK_FRAMES, decode_each, runs
from distill.codec.tones.meter import PitchMeter
from distill.codes.sequences import eos_token
from distill.codes.store import Codes
from distill.drums import drum_keys
from distill.errors import ParamsError
from distill.generate.faults import FOLLOWING, Fault
from distill.generate.policies import Draw, Policy, first_possible, near_to
from distill.generate.sampling import Drawn, Sequences, generators, sample_codes
from distill.generate.sounds import BATCH, Attempt, GenerationRequest
from distill.generate.source import Recorded, Source
from distill.generate.tuner import moves_in_words, octaves_back, octaves_into
from distill.prior.courses import LOUD
from distill.progress import Progress
from distill.seeds import Stream, derive_seed
from distill.text import several

SOFTEST_DB = 50.0  # below the loudest frame: what is softer has no pitch and no beginning
SHORTEST_TONE = 3  # frames with a pitch in a row: fewer are chance
RISE_DB, RISE_FRAMES = 9.0, 3  # of loudness above the softest of so many frames before, where a note begins
STEP = 0.8  # semitones between the medians of frames before and after, where another note begins
STEP_FRAMES = 8  # of these medians
SUDDEN = 0.5  # of that step within two frames: what takes longer is a glide
SHORTEST_NOTE = 4  # frames
UNEVEN_DB = 7.0  # of the envelope beside the loudness, from which it says where a sound begins or ends
SMOOTHED = 3  # steps of the envelope
CANDIDATES = 8  # drafts of a note, of which the one is taken that is in tune and like the others
MOST_DRAFTS, FEWEST = 1024, 2  # of a phrase, so that long ones take less long, and of a note
MOSTLY = 0.5  # share of labels that name drums, above which it is a rhythm; of what is heard with a pitch, below which
BANDS = 10  # of the spectra that tell which label a hit is like
IN_TUNE, OFF_STEP = 0.5, 0.05  # semitones that a frame may be off, and by how large a share of frames notes differ
SILENT = 1e-4  # peak of what is no sound, -80 dB
LOOSE_STEPS, LOOSE_SEMITONES = 5.0, 3.0  # deviations of loudness, 10 dB, and of pitch, where sounds follow most loosely

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Followed:
    """What sounds follow of a recording.

    `loudness` `[F]`, by the spectrum, and `levels` `[F]`, by the envelope, are log10 of amplitudes, `envelopes` `[F, E]`
    those within frames beside the loudness, as `beside_loudness` has them. `pitches` `[F]` are in semitones (MIDI), NaN for
    none.
    """

    loudness: Tensor
    levels: Tensor
    pitches: Tensor
    envelopes: Tensor

    @cached_property
    def is_heard(self) -> Tensor:
        """Whether frames `[F]` are not much softer than the loudest."""
        return 20 * (self.loudness - self.loudness.max()) > -SOFTEST_DB

    @cached_property
    def starts(self) -> list[int]:
        """The frames where notes begin, of which the first is 0."""
        decibels, pitches, starts = (20 * self.levels).numpy(), self.pitches.numpy(), [0]
        for frame, is_heard in enumerate(self.is_heard.tolist()):
            if frame - starts[-1] < SHORTEST_NOTE:
                continue
            before = decibels[max(0, frame - RISE_FRAMES) : frame]
            rises = is_heard and decibels[frame] > max(before.min() + RISE_DB, before[-1])
            if rises or _steps_at(pitches, frame):
                starts.append(frame)
        return starts

    @cached_property
    def ends(self) -> list[int]:
        """The frames before which notes end."""
        return [*self.starts[1:], len(self.loudness)]

    def frames(self, note: int) -> int:
        """Number of frames of a note."""
        return self.ends[note] - self.starts[note]

    def by_note(self, values: Tensor, notes: Sequence[int]) -> Tensor:
        """Values `[F, ...]` of frames as `[notes, most frames, ...]` of some notes, NaN after the end of one."""
        pieces = [values[self.starts[note] : self.ends[note]] for note in notes]
        return nn.utils.rnn.pad_sequence(pieces, batch_first=True, padding_value=math.nan)

    @cached_property
    def codes_of_loudness(self) -> Tensor:
        """Codes of the loudness, `[F]`."""
        return ((self.loudness - LOUDNESS_RANGE[0]) / LOUDNESS_STEP).round().clamp(0, LOUDNESS_SIZE - 1)


def followed(codec: VQVAE, meter: PitchMeter, samples: NDArray[np.float32]) -> Followed:
    """What sounds follow of samples `[N]`. Memory grows with what it gives alone."""
    from scipy.ndimage import binary_opening  # it takes a while to load

    pieces = list(zip(*_analysed(codec, meter, torch.from_numpy(samples)), strict=True))
    loudness, pitches, envelopes = map(torch.cat, pieces)
    course = Followed(loudness, envelopes.mean(dim=1), pitches, beside_loudness(envelopes, loudness))
    is_tone = torch.from_numpy(binary_opening(pitches.isfinite().numpy(), np.ones(SHORTEST_TONE)))
    return replace(
        course,
        pitches=torch.where(course.is_heard & is_tone, pitches, math.nan),
        envelopes=torch.where(course.is_heard[:, None], course.envelopes, math.nan),
    )


@torch.no_grad()
def _analysed(codec: VQVAE, meter: PitchMeter, samples: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Loudness `[F]`, pitches `[F]` and envelopes `[F, E]` of samples `[N]`, of one chunk after another."""
    config, margin, step = codec.spectrogram, codec.margin, codec.spectrogram.samples_per_frame
    frames = config.frames_for(len(samples))
    for start in range(0, frames, CHUNK_FRAMES):
        stop = min(frames, start + CHUNK_FRAMES)
        first, last = max(0, start - codec.context), min(frames, stop + codec.context)
        begin, end = first * step - margin, last * step + margin
        piece = samples[max(0, begin) : end]
        piece = nn.functional.pad(piece, (max(0, -begin), end - max(0, begin) - len(piece)))[None].to(codec.device)
        own = slice(start - first, stop - first)
        features = codec.features(piece)[0, own]
        loudness, envelopes = codec.frame_features.loudness(features)[:, 0], features[:, -config.feature_sizes[-1] :]
        yield loudness.cpu(), meter.course(piece.cpu())[own], envelopes.cpu()


def beside_loudness(envelopes: Tensor, loudness: Tensor) -> Tensor:
    """Envelopes `[F, E]` beside the loudness `[F]`, less what that usually is, NaN in frames where it is the usual.

    A window of a spectrum hears what comes next, so before an attack it is louder than the envelope.
    """
    beside = envelopes - loudness[:, None]
    beside = beside - beside.median()
    smooth = nn.functional.avg_pool1d(beside, SMOOTHED, 1)  # periods of low voices are no beginnings
    is_unusual = 20 * smooth.abs().amax(dim=1) > UNEVEN_DB
    return torch.where(is_unusual[:, None], beside, math.nan)


def _steps_at(pitches: NDArray[np.float64], frame: int) -> bool:
    """Whether the pitch steps to another note at a frame."""
    before, after = pitches[max(0, frame - STEP_FRAMES) : frame], pitches[frame : frame + STEP_FRAMES]
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    if min(len(before), len(after)) < SHORTEST_TONE:
        return False
    step = float(np.median(after) - np.median(before))
    near = pitches[frame] - pitches[max(0, frame - 2)]
    return bool(abs(step) > STEP and np.isfinite(near) and near / step > SUDDEN)


@dataclass(frozen=True, eq=False, kw_only=True)
class FollowRequest(GenerationRequest):
    """A request for sounds that follow a course, in pitch where it `has_pitch`.

    `loose`, from 0 to 1, says how far the prior may depart from it.
    """

    course: Followed
    has_pitch: bool
    labels: Sequence[int]  # of notes
    loose: float = 0.0
    natural_ending: bool = False
    is_compared = False

    @property
    def kinds(self) -> tuple[Fault, ...]:
        """The faults that such sounds can have: their course is what was asked for."""
        return FOLLOWING

    def draw(self, source: Source, attempt: Attempt) -> list[Drawn]:
        """Draw some sounds."""
        return [Drawn(self._phrase(source, seed, attempt.progress)) for seed in attempt.seeds]

    def _phrase(self, source: Source, seed: int, progress: Progress) -> Codes:
        """Codes `[F, Q]` of a sound: of each note the candidate that is in tune and sounds most like the others.

        Of notes of a label those of the longest decide what the others should sound like.
        """
        course, notes = self.course, range(len(self.course.starts))
        each = max(FEWEST, min(CANDIDATES, MOST_DRAFTS // len(notes)))
        # Few frames are drawn for nothing where notes of a batch are equally long.
        rows = sorted(
            itertools.product(notes, range(each)), key=lambda row: (self.labels[row[0]], course.frames(row[0]))
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
            for note, candidate in zip(own, self._candidates(source, own, seeds), strict=True):
                candidates[note].append(candidate)
            progress(number, len(batches), f"drafts of {several(len(notes), 'note')}")
        leaders = {}
        for label in {*self.labels}:
            longest = max((note for note in notes if self.labels[note] == label), key=course.frames)
            leaders[label] = min(candidates[longest], key=lambda candidate: candidate.off)
        chosen = [
            min(own, key=leaders[label].preference).codes for own, label in zip(candidates, self.labels, strict=True)
        ]
        every = [course.envelopes[start:end] for start, end in zip(course.starts, course.ends, strict=True)]
        return np.concatenate(
            [sharpened(source.codec, codes, wanted) for codes, wanted in zip(chosen, every, strict=True)]
        )

    def _candidates(self, source: Source, notes: Sequence[int], seeds: Sequence[int]) -> "list[_Candidate]":
        """Candidates for some notes of one label."""
        random = generators(seeds)
        codec, course, made = source.codec, self.course, []
        drawn = self._moved(source, self._drawn(source, notes, random), random, self.labels[notes[0]])
        decoded = decode_each(codec, map(torch.from_numpy, drawn))
        for note, codes, heard in zip(notes, drawn, _courses(source.tuner.measure, decoded), strict=True):
            wanted = course.pitches[course.starts[note] : course.ends[note]]
            away = (heard - wanted)[wanted.isfinite()].abs().nan_to_num(math.inf)
            is_off = away > IN_TUNE + 2 * self.loose * LOOSE_SEMITONES
            off = round(float(is_off.double().mean()) / OFF_STEP) if self.has_pitch and len(away) else 0
            latents = codec.dequantise(torch.from_numpy(codes)[None].to(codec.device))[0, :, 1:]
            made.append(_Candidate(codes, off, latents.mean(dim=0).cpu()))
        return made

    def _drawn(self, source: Source, notes: Sequence[int], random: Sequence[torch.Generator]) -> list[Codes]:
        """Codes `[F, Q]` of some notes."""
        course, codec, prior = self.course, source.codec, source.prior
        most = max(map(course.frames, notes))
        values = course.codes_of_loudness, course.pitches, course.envelopes
        loudness, pitches, envelopes = (course.by_note(value, notes) for value in values)
        policies: list[Policy] = [near_envelopes(codec, envelopes)]
        if self.has_pitch:
            tones = source.tuner.along(pitches, self.loose * LOOSE_SEMITONES)
            policies += [tones, without_tone(pitches.isnan(), self.loose)]
        policies.append(follow_loudness(loudness, eos_token(prior.codebook_size), self.loose))
        label = self.labels[notes[0]]
        wanted = Sequences(len(notes), most, has_given_length=True, label=label, sampling=self.sampling)
        return sample_codes(prior, wanted, random, policies)

    def _moved(
        self, source: Source, drawn: Sequence[Codes], random: Sequence[torch.Generator], label: int
    ) -> list[Codes]:
        """Codes of some notes that move as recordings do, if it is known how these move."""
        motions, courses = source.motions, source.prior.courses
        if motions is None or courses is None:
            return list(drawn)
        every = [
            courses.along(torch.from_numpy(codes[:, 0]).float(), label, own)
            for codes, own in zip(drawn, random, strict=True)
        ]
        return [motions.moved(codes, course, bends=False)[0] for codes, course in zip(drawn, every, strict=True)]


def _batches(rows: Sequence[T]) -> list[Sequence[T]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def _courses(meter: PitchMeter, sounds: Iterable[Tensor]) -> Iterator[Tensor]:
    """Pitches `[F]` of sounds `[F * samples_per_frame]`, of several at once where they are short."""
    step, margin = meter.config.samples_per_frame, meter.analysis.margin
    for run in runs((len(sound) // step, sound.cpu()) for sound in sounds):
        heard = meter.course(meter.config.padded(torch.cat(run), margin))
        yield from heard.split([len(sound) // step for sound in run])


class _Candidate(NamedTuple):
    """Codes `[F, Q]` for a note, how many of their frames are off its pitch, in OFF_STEP, and their mean shape `[D]`."""

    codes: Codes
    off: int
    shape: Tensor

    def preference(self, other: "_Candidate") -> tuple[int, float]:
        """What is least for the one of several that sounds most like this one."""
        return other.off, float((self.shape - other.shape).square().sum())


def follow_request(source: Source, recorded: Recorded, **about: Any) -> tuple[FollowRequest, list[str]]:
    """A request to follow a recording by a source, and remarks on what of it cannot be followed.

    `about` are its other fields. Raises ParamsError for silence.
    """
    samples, codes = recorded.samples, torch.from_numpy(recorded.codes)
    if np.abs(samples).max(initial=0.0) < SILENT:
        raise ParamsError("follow: expected a sound, found silence; choose another recording")
    label, remarks = about.get("label", 0), []
    course = followed(source.codec, source.tuner.measure, samples)
    loud = float(course.loudness[course.is_heard].quantile(LOUD))
    course = replace(course, loudness=course.loudness + _loud(source, label, loud) - loud)
    known = source.tuner.known(label)
    voiced = float(course.pitches[course.is_heard].isfinite().double().mean())
    named = [] if label else [number for number, keys in enumerate(drum_keys(source.labels), 1) if keys]
    drums = list(filter(source.labelled, named))  # a model may hold no recordings
    are_drums = len(drums) > MOSTLY * len(source.labels)
    is_rhythm = bool(drums) and (are_drums or known is None or voiced < MOSTLY)
    has_pitch = known is not None and voiced > 0 and not is_rhythm
    if not has_pitch:
        course = replace(course, pitches=torch.full_like(course.pitches, math.nan))
    labels = _labels_like(source, drums, course, codes) if is_rhythm else [label] * len(course.starts)
    if is_rhythm:
        counts = Counter(source.labels[number - 1] for number in labels)
        remarks.append(f"hits are played by {', '.join(f'{name} ({count})' for name, count in counts.items())}")
    elif known is None:
        remarks.append("few of the recordings have a pitch, so the loudness alone is followed")
    elif has_pitch:
        course, moved = _within(course, known)
        remarks += moved
    if source.judge is not None:
        (novelty,) = source.judge([recorded.codes])
        if novelty.verdict == "copy":
            remarks.append(f"what is followed is among the recordings of the model: {novelty.nearest.nearest}")
    seconds = len(samples) / source.codec.spectrogram.sample_rate
    return FollowRequest(max_seconds=seconds, course=course, has_pitch=has_pitch, labels=labels, **about), remarks


def _labels_like(source: Source, drums: Sequence[int], course: Followed, codes: Tensor) -> list[int]:
    """Of each note the one of the labels `drums` whose recordings are among theirs as its spectrum is among those of notes.

    A beatboxed kick is no kick, but it is the darkest hit of its phrase.
    """
    theirs = [
        torch.stack([_bands(source.codec, torch.from_numpy(own.astype(np.int64))) for own in source.labelled(number)])
        for number in drums
    ]
    pieces = [codes[start:end] for start, end in zip(course.starts, course.ends, strict=True)]
    notes = _standardised(torch.stack([_bands(source.codec, piece) for piece in pieces]))
    labels = _standardised(torch.stack([own.mean(dim=0) for own in theirs]))
    return [drums[place] for place in torch.cdist(notes, labels).argmin(dim=1).tolist()]


def _standardised(values: Tensor) -> Tensor:
    """Values `[n, BANDS]` less their mean, with a mean square of 1."""
    values = values - values.mean(dim=0)
    return values / values.square().mean().sqrt().clamp_min(1e-6)


def _bands(codec: VQVAE, codes: Tensor) -> Tensor:
    """Mean spectrum `[BANDS]` of codes `[F, Q]`, by amplitude, in log10 less its mean."""
    features = codec.unproject(codec.dequantise(codes[None].to(codec.device))[0])
    bands = nn.functional.adaptive_avg_pool1d(codec.spectrogram.mean_log_mel(features)[:, None], BANDS)[:, 0]
    loud = 10.0 ** codec.frame_features.loudness(features)
    return _centred((bands * loud).sum(dim=0) / loud.sum().clamp_min(1e-12)).cpu()


def _loud(source: Source, label: int, otherwise: float) -> float:
    """How loud recordings with a label are at the median, in log10 of an amplitude, where that is known."""
    courses = source.prior.courses
    if courses is None:
        return otherwise
    return LOUDNESS_RANGE[0] + LOUDNESS_STEP * float(np.median(courses.loud(label)))


def _within(course: Followed, known: tuple[int, int]) -> tuple[Followed, list[str]]:
    """What is followed, moved by octaves to notes that are `known`, the lowest and the highest, and what was moved."""
    octaves = octaves_into(course.pitches, known)
    pitches, others = course.pitches + 12 * octaves, 0
    for start, end in zip(course.starts, course.ends, strict=True):
        alone = octaves_back(float(pitches[start:end].nanmedian()), known)
        pitches[start:end] += 12 * alone
        others += alone != 0
    return replace(course, pitches=pitches), moves_in_words(octaves, others, known)


def sharpened(codec: VQVAE, codes: Codes, wanted: Tensor) -> Codes:
    """Codes `[F, Q]`, coded again where envelopes `[F, E]` beside the loudness, NaN for any, say what is within frames."""
    there = wanted.isfinite().all(dim=1)
    if not there.any():
        return codes
    own = torch.from_numpy(codes)[None].to(codec.device)
    latents = codec.dequantise(own)[0]
    features = codec.unproject(latents)
    envelope = features[:, -wanted.shape[1] :]
    usual = codec.frame_features.loudness(features) + codec.mean[-wanted.shape[1] :].mean()
    change = torch.where(there.to(usual.device)[:, None], usual + wanted.to(usual) - envelope, 0.0)
    by_band = [
        nn.functional.adaptive_avg_pool1d(change[:, None], count)[:, 0].repeat_interleave(bands, dim=1)
        for count, bands in (
            (codec.spectrogram.stack, codec.spectrogram.n_mels),
            (2 * codec.spectrogram.stack, codec.spectrogram.n_fine_mels),
        )
    ]
    moved = codec.project(features + torch.cat([*by_band, change], dim=1))
    moved[:, 0] = latents[:, 0]  # the loudness stays
    _, tones = codec.layout.split(own)
    sharpened: Codes = (
        codec.search(torch.where(there[:, None].to(moved.device), moved, latents)[None], tones)[0].cpu().numpy()
    )
    return sharpened


def follow_loudness(codes: Tensor, eos: int, loose: float) -> Policy:
    """Loudness follows codes `[count, F]`, NaN where a sound has ended, more or less, as `loose`, from 0 to 1, says."""
    tokens = codes.nan_to_num(eos).long()

    def near(shares: Tensor, step: Draw) -> Tensor:
        if step.level:
            return shares
        wanted, possible = tokens[step.rows, step.frame, None], torch.arange(shares.shape[1])
        apart = (possible - wanted) / max(loose * LOOSE_STEPS, 1e-3)
        weights = torch.where((possible < eos) & (wanted < eos), (-0.5 * apart.square()).exp(), (apart == 0).float())
        return first_possible(shares * weights, weights)

    return near


def without_tone(where: Tensor, loose: float) -> Policy:
    """Frames `[count, F]` have no tone, as far as the prior can have none; `loose` is the weight of any other."""

    def silenced(shares: Tensor, step: Draw) -> Tensor:
        if step.level != NOTE:
            return shares
        weights = torch.full_like(shares, loose)
        weights[:, 0] = 1.0
        chosen = where[step.rows, step.frame][:, None]
        return torch.where(chosen, first_possible(shares * weights, shares), shares)

    return silenced


def near_envelopes(codec: VQVAE, envelopes: Tensor) -> Policy:
    """Codewords are drawn nearer to envelopes `[count, F, E]` beside the loudness, NaN for any."""
    steps = envelopes.shape[2]
    to_envelope = (codec.components.T / codec.weights)[:, -steps:].cpu()
    # Words that last: what kernels spread over frames adds up.
    words = [20 * (words.cpu() @ to_envelope) for words, _ in codec.quantizer.levels()[1:]]
    return near_to(words, 20 * (envelopes - _centred(codec.mean[-steps:].cpu())))


def _centred(values: Tensor) -> Tensor:
    return values - values.mean(dim=-1, keepdim=True)
