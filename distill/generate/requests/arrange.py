"""Scores played by a model: each note is generated as a sound, and sounds are mixed with sample accuracy.

Repeated notes play a few variations in turn. A bent note is its key's sound, resampled. Sounds that ring beyond the end
of a loop wrap around to its beginning.

Shapes: N samples.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from distill.audio.measure import level_db
from distill.codec.streaming import encode_each, within_full_scale
from distill.generate.context import GenerationContext
from distill.generate.decoding import PEAK, folded
from distill.generate.requests.generation import GenerationRequest, Seeds, generate_sounds, in_tune
from distill.generate.sampling.tuner import Tuner, moves_in_words, octaves_back, octaves_into
from distill.generate.scores.score import Contour, Note, Score
from distill.generate.selection.faults import Samples
from distill.generate.selection.rejection import (
    FAULTY,
    Drafts,
    Emit,
    GeneratedSound,
    RejectionCriterion,
)
from distill.generate.settings import LONGEST_SECONDS
from distill.novelty.verdict import least_new
from distill.progress import Progress
from distill.seeds import Stream, derive_seed

VARIATIONS = 4  # maximum variations of a note
RELEASE_SECONDS = 0.15  # fade after the end of a note
ONSET = 0.01  # level at which a sound begins, relative to its peak: -40 dB
SMOOTHED = 0.01  # seconds over which changes of level and bend are smoothed

Which = tuple[str, int | None, int]  # label, key and index of a variation


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreRequest(GenerationRequest):
    """Request for `count` renditions of a score, whose labels have the indices `numbers`.

    `tuning` is the offset in semitones from a key to its note. With `stems` there is a sound per label and no mix.
    """

    score: Score
    numbers: Mapping[str, int]
    tuning: float = 0.0
    stems: bool = False
    is_compared = False

    def make(
        self,
        context: GenerationContext,
        seeds: Seeds,
        criteria: Sequence[RejectionCriterion],
        report: Progress,
        emit: Emit,
        first_alone: bool,  # noqa: ARG002 - each rendition is made alone
    ) -> Drafts:
        """Generate the sounds of each rendition and mix them; see `generate_sounds`."""
        made = Drafts()
        for number in range(self.count):
            sounds: dict[Which, GeneratedSound] = {}
            for place, label in enumerate(self.score.labels):
                seed = Seeds(derive_seed(seeds.of_sound(number, 0), Stream.SCORE_SOUNDS, place))
                which, draws = self._drawn(context, label, seed, criteria, report)
                sounds |= equally_loud(
                    dict(zip(which, draws.sounds, strict=True)),
                    context.codec.spectrogram.sample_rate,
                )
                made.redrawn.update(draws.redrawn)
            for sound in self._mixed(context, sounds):
                made.deliver(len(made.drawn), sound, emit)
        return made

    def _drawn(
        self,
        context: GenerationContext,
        label: str,
        seeds: Seeds,
        criteria: Sequence[RejectionCriterion],
        report: Progress,
    ) -> tuple[list[Which], Drafts]:
        """Generate sounds for a label's notes: for each key a variation a note, at most VARIATIONS."""
        notes = [note for note in self.score.notes if note.label == label]
        counts = Counter(note.key for note in notes)
        which = [
            (label, key, number)
            for key, count in counts.items()
            for number in range(min(count, VARIATIONS))
        ]
        keys = [key + self.tuning for _, key, _ in which if key is not None]
        longest = max(map(_seconds_played, notes))
        request = GenerationRequest(
            count=len(which),
            max_seconds=min(LONGEST_SECONDS, longest),
            sampling=self.sampling,
            label=self.numbers[label],
            notes=keys,
            width=self.width,
            drafts=self.drafts,
            finds_faults=FAULTY in criteria,
        )
        own = [in_tune(request)] * bool(keys)
        return which, generate_sounds(context, request, seeds, [*own, *criteria], report)

    def _mixed(
        self, context: GenerationContext, sounds: Mapping[Which, GeneratedSound]
    ) -> list[GeneratedSound]:
        """Mix a rendition, or its stems; a mix has the novelty of its least novel sound."""
        rate, played = context.codec.spectrogram.sample_rate, Counter[tuple[str, int | None]]()
        chosen: list[tuple[Note, Samples]] = []
        for note in self.score.notes:
            key = (note.label, note.key)
            chosen.append((note, sounds[*key, played[key] % VARIATIONS].samples))
            played[key] += 1
        loop = None if self.score.loop_seconds is None else round(self.score.loop_seconds * rate)
        whole = mixed(chosen, rate, loop)
        gain = np.float32(
            min(1.0, PEAK / max(float(np.abs(whole).max()), PEAK))
        )  # the same for all stems
        if not self.stems:
            return [self._sound(context, "", gain * whole, sounds)]
        stems = []
        for label in self.score.labels:
            own = mixed([pair for pair in chosen if pair[0].label == label], rate, loop)
            longer = [(0, max(0, len(whole) - len(own))), (0, 0)][: own.ndim]
            stems.append(self._sound(context, label, gain * np.pad(own, longer), sounds))
        return stems

    def _sound(
        self,
        context: GenerationContext,
        label: str,
        samples: Samples,
        sounds: Mapping[Which, GeneratedSound],
    ) -> GeneratedSound:
        """Sound from mixed `samples` of a label, or of all labels if it is "", with re-encoded codes."""
        rate = context.codec.spectrogram.sample_rate
        in_mono = within_full_scale(context.codec, folded(samples, rate), "the mix")
        codes = next(encode_each(context.codec, [torch.from_numpy(in_mono)])).cpu().numpy()
        of_it = [sound.novelty for which, sound in sounds.items() if label in ("", which[0])]
        return GeneratedSound(
            codes, least_new(of_it), None, samples, len(samples) / rate, label=label
        )


def equally_loud(
    sounds: Mapping[Which, GeneratedSound], sample_rate: int
) -> dict[Which, GeneratedSound]:
    """Bring all variations of a key to their median level, so that equal velocities are equally loud."""
    levels = {which: level_db(sound.samples, sample_rate) for which, sound in sounds.items()}
    of_keys: dict[tuple[str, int | None], list[float]] = defaultdict(list)
    for (label, key, _), level in levels.items():
        of_keys[label, key].append(level)
    gains = {
        which: 10 ** ((np.median(of_keys[which[:2]]) - levels[which]) / 20) for which in sounds
    }
    return {
        which: replace(sound, samples=sound.samples * np.float32(gains[which]))
        for which, sound in sounds.items()
    }


def fitted(score: Score, tuner: Tuner, numbers: Mapping[str, int]) -> tuple[Score, list[str]]:
    """Move notes by octaves into the range of their labels, and return remarks on the moves.

    `numbers` are the indices of labels. If a label's recordings have no pitch, its notes lose their keys.
    """
    notes, remarks = list(score.notes), list[str]()
    for label in score.labels:
        own = [
            place
            for place, note in enumerate(notes)
            if note.label == label and note.key is not None
        ]
        known, named = tuner.known(numbers[label]), f"{label}: " if label else ""
        if not own:
            continue
        if known is None:
            remarks.append(f"{named}few of the recordings have a pitch, so notes are at any")
            for place in own:
                notes[place] = notes[place]._replace(key=None)
            continue
        keys = torch.tensor([float(notes[place].key or 0) for place in own])
        octaves = octaves_into(keys, known)
        alone = [octaves_back(key + 12 * octaves, known) for key in keys.tolist()]
        for place, key, more in zip(own, keys.tolist(), alone, strict=True):
            notes[place] = notes[place]._replace(key=int(key) + 12 * (octaves + more))
        remarks += [
            named + moved for moved in moves_in_words(octaves, sum(map(bool, alone)), known)
        ]
    return replace(score, notes=notes), remarks


def _seconds_played(note: Note) -> float:
    """Seconds of a sound that a note may need; a note that is bent upwards plays faster and needs more."""
    if note.seconds is None:
        return LONGEST_SECONDS
    held = note.seconds + RELEASE_SECONDS
    bends = note.bend.between(note.start, note.start + note.seconds)
    return float(held * 2 ** (max(0.0, max(bends.values) - bends.origin) / 12))


def sounded(samples: Samples, note: Note, sample_rate: int) -> Samples:
    """Samples `[N]` or `[N, 2]` of a sound, cut at the onset and played with a note's bend, level and length."""
    most_slower = 2  # maximum stretch of a sound that is bent downwards
    most_late = 0.03  # maximum seconds before the onset that are cut off
    loud = np.abs(samples).reshape(len(samples), -1).max(axis=1)
    begins = int((loud >= ONSET * loud.max()).argmax())
    samples = samples[min(begins, round(most_late * sample_rate)) :]
    most, release = most_slower * len(samples), round(RELEASE_SECONDS * sample_rate)
    held = most if note.seconds is None else round(note.seconds * sample_rate)
    samples = bent(samples, _sampled(note.bend, note, min(most, held + release), sample_rate))[
        : held + release
    ]
    gains = note.gain * _sampled(note.level, note, len(samples), sample_rate)
    samples = (samples.T * gains.astype(np.float32)).T
    fade = np.cos(np.linspace(0, np.pi / 2, release, dtype=np.float32)) ** 2
    ending = samples[held:]
    ending.T[...] *= fade[: len(ending)]
    return samples


def bent(samples: Samples, semitones: NDArray[np.float64]) -> Samples:
    """Resample `[N]` or `[N, 2]` so that output sample `i` plays at `semitones[i]`; up to `len(semitones)` samples."""
    spline_reach = 32  # samples; a spline of order 5 is not affected by samples further away
    from scipy.ndimage import map_coordinates  # slow to import

    if not semitones.any():
        return samples
    speeds = 2 ** (semitones / 12)
    places = speeds.cumsum() - speeds[0]
    places = places[places <= len(samples) - 1]
    samples = samples[: int(places[-1]) + spline_reach]
    channels = [
        map_coordinates(channel, [places], order=5)
        for channel in samples.reshape(len(samples), -1).T
    ]
    return np.stack(channels, axis=-1).reshape(len(places), *samples.shape[1:])


def _sampled(contour: Contour, note: Note, count: int, sample_rate: int) -> NDArray[np.float64]:
    """Sample a contour over a note, `[count]`, smoothed over SMOOTHED seconds; constant after the end of the note."""
    from scipy.ndimage import uniform_filter1d  # slow to import

    seconds = count / sample_rate if note.seconds is None else note.seconds
    part = contour.between(note.start, note.start + seconds)
    values = np.array(part.values) - part.origin
    if len(values) == 1:
        return np.broadcast_to(values, count)
    times = note.start + np.arange(count) / sample_rate
    steps = values[np.searchsorted(part.seconds[1:], times, side="right")]
    smooth: NDArray[np.float64] = uniform_filter1d(
        steps, round(SMOOTHED * sample_rate), mode="nearest"
    )
    return smooth


def mixed(
    notes: Sequence[tuple[Note, Samples]], sample_rate: int, loop: int | None = None
) -> Samples:
    """Mix `[N]` or `[N, 2]` of notes with their sounds; with `loop`, N is `loop` and the rest wraps to the beginning.

    Memory grows with the result, not with the number of notes.
    """
    starts = [round(note.start * sample_rate) for note, _ in notes]
    length = max(
        start + len(sounded(sound, note, sample_rate))
        for start, (note, sound) in zip(starts, notes, strict=True)
    )
    is_stereo = any(sound.ndim == 2 for _, sound in notes)
    whole = np.zeros((length, 2) if is_stereo else length, np.float32)
    for start, (note, sound) in zip(starts, notes, strict=True):
        samples = sounded(sound, note, sample_rate)
        whole[start : start + len(samples)] += (
            samples[:, None] if is_stereo and samples.ndim == 1 else samples
        )
    if loop is None:
        return whole
    padded = np.pad(whole, [(0, -length % loop), *[(0, 0)] * (whole.ndim - 1)])
    around: Samples = padded.reshape(-1, loop, *whole.shape[1:]).sum(axis=0)
    return around
