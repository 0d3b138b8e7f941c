"""How drawn sounds move: treble dies first, pitches bend and loops keep time as in recordings.

A prior predicts the next frame and sees no drift, so what it draws stands still. A sound follows the loudness of a
recording (`prior/courses.py`). Here its spectrum and its pitch follow one, too: from where they began they go on as those
of a recording that begins and swells alike. What they are at first, and all that four wide bands do not say, is the
prior's own. A sound whose recording repeats has the bands of that recording, so that each beat is where it was.

Shapes: F frames, D numbers of a latent, V codewords of a level, K recordings.
"""

import math
from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codec.layout import LOUDNESS_STEP, NOTE, NOTES, SHAPE, TUNING, TUNINGS
from distill.codec.model import VQVAE
from distill.codec.tones.layer import note_and_tuning
from distill.generate.policies import Draw, Policy, first_possible, only
from distill.prior.courses import Course, between

BANDS = 4  # of spectra, as wide as damping: more bands follow a timbre
NEAR_DB = 2.0  # deviation of spectra from those that are followed
BEGINNING = 2  # frames after which sounds go on as others
NEAREST, CANDIDATES, POINTS = 3, 256, 32  # recordings of which one is followed; of how many; places that are compared
ONSET_BANDS = 20  # in which onsets are looked for
REPEATING = 0.6  # autocorrelation of the onsets of recordings that repeat
SHORTEST_BEAT, LONGEST_BEAT, LEAST_SECONDS = 0.2, 1.2, 1.5  # of a recording that repeats
OTHER_LABEL = 1e9  # is farther than any of the same
RANGE_DB = 60.0  # below the loudest level, in which there are onsets
OCTAVE = 12  # semitones
JUMP, MOST_JUMPS = 1.0, 0.1  # semitones a frame from which a pitch jumps; share of jumps up to which it can bend
LEAST_TONAL, STRAIGHT = 0.7, 0.3  # of what bends: share of frames with a tone; semitones of its range, 10 to 90 %


class Motions:
    """How recordings with codes `[F, Q]` move. Those with a label, above 0, are like others with it alone."""

    def __init__(
        self, codec: VQVAE, recordings: Sequence[NDArray[np.integer]], labels: Sequence[int] | None = None
    ) -> None:
        self._codec, self._labels = codec, labels or [0] * len(recordings)
        self._recordings = [torch.from_numpy(codes.astype(np.int64)) for codes in recordings]
        self._candidates = range(0, len(recordings), -(-len(recordings) // CANDIDATES))
        self.repeats, self.spectra_of = cache(self._repeats), cache(self._spectra_of)
        self._to_bands = cache(self._new_table)

    def policies(
        self, courses: Sequence[Course], generators: Sequence[torch.Generator], bends: bool = True
    ) -> list[Policy]:
        """Policies of sounds that follow courses of these recordings; without `bends` pitches stay as they are drawn."""
        moving = Moving(self, courses, [float(torch.rand(1, generator=own)) for own in generators])
        return [moving.spectra, *[moving.pitches] * bends]

    @cached_property
    def words(self) -> list[Tensor]:
        """What the codewords of each shape level add to the spectrum of their frame, `[V, BANDS]` in dB."""
        to_bands = self._to_bands(BANDS)  # of words that last: what the kernels spread over frames adds up
        return [_centred(words.cpu() @ to_bands) for words, _ in self._codec.quantizer.levels()[1:]]

    def pitches(self, codes: Tensor) -> Tensor:
        """Pitches `[...]` in semitones of codes `[..., Q]`; NaN without a tone."""
        return self._codec.pitches(codes)

    def bend_of(self, recording: int) -> Tensor:
        """How far its pitch is from where it began, `[F]` in semitones; NaN without a tone, all of a straight one."""
        pitches = self._codec.pitches(self._recordings[recording])
        there = pitches.isfinite()
        bend = torch.full_like(pitches, math.nan)
        steps = pitches[there].diff()
        steps = steps - OCTAVE * (steps / OCTAVE).round()  # the same partials are coded in several octaves
        jumps = steps.abs() > JUMP
        if not len(steps) or there.double().mean() < LEAST_TONAL or jumps.double().mean() > MOST_JUMPS:
            return bend
        bend[there] = nn.functional.pad(steps.masked_fill(jumps, 0.0).cumsum(dim=0), (1, 0))
        low, high = bend[there].quantile(torch.tensor([0.1, 0.9]).double())
        return bend if high - low >= STRAIGHT else torch.full_like(pitches, math.nan)

    def like(self, course: Course, beginning: Tensor, chance: float) -> int:
        """One of the recordings that are nearest to a course, and to the spectrum `[BANDS]` that a sound began with."""
        begun, swells, lengths = self._beginnings
        places = torch.linspace(0, len(course.loudness) - 1, POINTS)
        apart = swells - _centred(between(course.loudness, places))
        distances = (begun - beginning).square().mean(dim=1) + 4 * apart.square().mean(dim=1)
        distances += (lengths / len(self._recordings[course.recording])).log2().square() * 20
        labels = torch.tensor(self._labels)
        distances[labels[torch.tensor(self._candidates)] != labels[course.recording]] += OTHER_LABEL
        nearest = distances.topk(min(NEAREST, len(distances)), largest=False).indices
        return self._candidates[int(nearest[int(chance * len(nearest))])]

    @cached_property
    def _beginnings(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the candidates the spectra `[K, BANDS]` of their beginnings, their loudness `[K, POINTS]` and frames `[K]`."""
        chosen = [self._recordings[number] for number in self._candidates]
        begun = torch.stack([self.beginning(codes) for codes in chosen])
        swells = [between(codes[:, 0].float(), torch.linspace(0, len(codes) - 1, POINTS)) for codes in chosen]
        return begun, _centred(torch.stack(swells)), torch.tensor([float(len(codes)) for codes in chosen])

    def beginning(self, codes: Tensor) -> Tensor:
        """The spectrum `[BANDS]` that codes `[F, Q]` begin with, in dB."""
        return self._spectra(codes[:BEGINNING], BANDS).mean(dim=0)

    def _spectra_of(self, recording: int) -> Tensor:
        """Spectra `[F, BANDS]` of a recording in dB, less the mean of each frame."""
        return self._spectra(self._recordings[recording], BANDS)

    def _spectra(self, codes: Tensor, bands: int) -> Tensor:
        latents = self._codec.dequantise(codes[None].to(self._codec.device))[0].cpu()
        return _centred(latents @ self._to_bands(bands))

    def _new_table(self, bands: int) -> Tensor:
        """What the components of a latent but the loudness add to bands, `[D, bands]` in dB."""
        features = (self._codec.components.T / self._codec.weights).cpu()
        mel = self._codec.spectrogram.mean_log_mel(features)
        to_bands = 20 * nn.functional.adaptive_avg_pool1d(mel, bands)
        to_bands[0] = 0.0
        return to_bands

    def _repeats(self, recording: int) -> bool:
        """Whether the onsets of a recording repeat."""
        codes, rate = self._recordings[recording], self._codec.spectrogram.frame_rate
        if len(codes) < LEAST_SECONDS * rate:
            return False
        levels = self._spectra(codes, ONSET_BANDS) + 20 * LOUDNESS_STEP * codes[:, :1]
        onsets = levels.clamp_min(float(levels.max()) - RANGE_DB).diff(dim=0).clamp_min(0).sum(dim=1).numpy()
        onsets = np.convolve(onsets, [0.5, 1.0, 0.5])  # a beat is no whole number of frames
        onsets -= onsets.mean()
        lags = range(*(round(seconds * rate) for seconds in (SHORTEST_BEAT, LONGEST_BEAT)))
        return bool(max(onsets[lag:] @ onsets[:-lag] for lag in lags) > REPEATING * (onsets @ onsets))


def _centred(values: Tensor) -> Tensor:
    """Values `[..., n]` less their mean."""
    return values - values.mean(dim=-1, keepdim=True)


class Moving:
    """Policies of sounds while they are drawn. What a sound goes on as is known when it has begun."""

    def __init__(self, motions: Motions, courses: Sequence[Course], chances: Sequence[float]) -> None:
        self._motions, self._courses, self._chances = motions, courses, chances
        frames = max(len(course.loudness) for course in courses)
        self._spectra = torch.full((len(courses), frames, BANDS), math.nan)
        self._bends = torch.full((len(courses), frames), math.nan, dtype=torch.float64)
        self._pitches = torch.full((len(courses),), math.nan, dtype=torch.float64)  # from which they bend
        self._begun = False
        for sound, course in enumerate(courses):
            if motions.repeats(course.recording):
                spectra = motions.spectra_of(course.recording)
                known = (course.places <= len(spectra) - 1).nonzero()[:, 0]  # the end of it may be held out
                self._spectra[sound, known] = between(spectra, course.places[known])

    def spectra(self, shares: Tensor, step: Draw) -> Tensor:
        """Codewords of the shape by how near the sum of their spectra is to those that are followed."""
        if step.level < SHAPE or step.frame >= self._spectra.shape[1]:
            return shares
        self._begin(step)
        *coarser, words = self._motions.words[: 1 + step.level - SHAPE]
        wanted = self._spectra[step.rows, step.frame]
        for word, codes in zip(coarser, step.coarser[:, SHAPE:].unbind(dim=1), strict=True):
            wanted = wanted - word[codes]
        apart = (words - wanted[:, None]).square().mean(dim=2)  # [B, V]
        weights = (-(apart - apart.amin(dim=1, keepdim=True)) / (2 * NEAR_DB**2)).exp()
        weighted = (shares * weights).nan_to_num()
        return torch.where(wanted[:, :1].isfinite(), first_possible(weighted, shares), shares)

    def pitches(self, shares: Tensor, step: Draw) -> Tensor:
        """Tones are where the pitch that is followed has bent to; whether there is one is the prior's own."""
        if step.level not in (NOTE, TUNING) or not 0 < step.frame < self._bends.shape[1]:
            return shares
        self._begin(step)
        before, bend = self._bends[step.rows, step.frame - 1 : step.frame + 1].unbind(dim=1)
        own, first = self._motions.pitches(step.codes[step.rows, step.frame - 1]), self._pitches[step.rows]
        self._pitches[step.rows] = first = torch.where(first.isnan(), own - before, first)
        notes, tunings = note_and_tuning(((first + bend).nan_to_num() * TUNINGS).round().long())
        follows = (first + bend).isfinite() & (notes > 0) & (notes < NOTES)
        if step.level == TUNING:
            follows, moved = follows & (step.coarser[:, NOTE] > 0), only(tunings, shares)
        else:
            moved = only(notes.clamp(0, NOTES - 1), shares) * shares[:, 1:].sum(dim=1, keepdim=True)
            moved[:, 0] = shares[:, 0]
        return torch.where(follows[:, None], first_possible(moved, shares), shares)

    def _begin(self, step: Draw) -> None:
        """Choose what sounds go on as."""
        if self._begun or step.frame < BEGINNING:
            return
        self._begun = True
        for sound in step.rows.tolist():
            course = self._courses[sound]
            if self._motions.repeats(course.recording):
                continue
            beginning = self._motions.beginning(step.codes[sound])
            recording = self._motions.like(course, beginning, self._chances[sound])
            spectra, bend = self._motions.spectra_of(recording), self._motions.bend_of(recording)
            places = torch.linspace(0, len(spectra) - 1, len(course.loudness))
            self._spectra[sound, : len(places)] = beginning - spectra[:BEGINNING].mean(dim=0) + between(spectra, places)
            self._bends[sound, : len(places)] = bend[places.round().long()]
