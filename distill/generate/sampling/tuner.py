"""Generation at given notes: the range of notes that a prior knows, and weights that steer codes to a note.

The prior samples a frame's note, fine pitch and partial-set code in turn. The perceived pitch of a partial set can
differ from the coded pitch, so a note can be coded in several ways. A code's weight is high if its perceived pitch is
near the target, summed over partial sets by their probability at the coded note.

Shapes: B sounds, L labels, S partial sets.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from posixpath import dirname
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codec.layout import ATOM, LOUDNESS_STEP, NOTE, NOTES, TUNING, TUNINGS
from distill.codec.model import VQVAE
from distill.codec.scales import semitones
from distill.codec.tones.codes import FLOORS, steps_of
from distill.codec.tones.contour import START
from distill.codec.tones.layer import ToneLayer
from distill.codec.tones.meter import LEAST_SHARE, PitchMeter
from distill.codes.store import Codes
from distill.errors import ArtifactError, ParamsError
from distill.generate.sampling.processors import SamplingStep, first_possible
from distill.notes import CONCERT, CONCERT_PITCH, Tuning, note_name
from distill.prior.base import Prior
from distill.text import several

# Standard deviation in semitones: at this distance a code keeps 0.6 of its probability
SPREAD = 0.15
LEAST_TONAL = (
    1 / 3
)  # minimum proportion of recordings with a pitch: hats, hisses and scratches have 0 to 1/4
BEYOND = 12  # semitones outside the known notes that can still be requested

# Minimum proportion of them that lies within this distance (semitones) of the median
AGREEING, AGREEMENT = 3 / 4, 0.05

Coded = NDArray[np.integer]  # [F, Q]


class Tuner:
    """Note range, corpus tuning and note weights of a codec and a prior.

    Partial sets are counted by the prior; without counts all notes and sets are equally likely. Notes come from the
    codes `[F, Q]` of `recordings`, by path, or from the prior's counts of frames where there are no recordings.
    """

    def __init__(
        self, codec: VQVAE, prior: Prior, recordings: Mapping[str, Coded] = MappingProxyType({})
    ) -> None:
        self.layer, self.layout, self.measure = (
            codec.tone,
            codec.layout,
            PitchMeter(codec.spectrogram),
        )
        self.labels, self.recordings = prior.shape.labels, recordings
        intervals, counted = heard_intervals(codec.tone, self.measure), prior.counted_tones()
        self.notes = counted.notes.double().softmax(dim=1)  # [L + 1, NOTES], entry 0 for any label
        atoms = counted.atoms.double().softmax(dim=1)[:, 1:]
        sets = atoms.unflatten(1, (-1, len(FLOORS))).sum(dim=2)
        self.sets = torch.where(intervals.isnan(), 0.0, sets)  # [NOTES, S]
        self.intervals = intervals.nan_to_num(1e3)  # sets without a pitch are far from every note
        self.intervals_heard = intervals.nan_to_num(
            0.0
        )  # sets without a pitch keep the coded pitch

    @cached_property
    def corpus_tuning(self) -> Tuning:
        """Tuning of the recordings in whole Hz; 440 Hz if they disagree or are within `AGREEMENT` of it."""
        # Minimum number of recordings with a clear tuning: fewer may agree by chance
        least_agreeing = 4
        found = [
            deviation
            for codes in self.recordings.values()
            if (deviation := self._deviation(codes)) is not None
        ]
        if len(found) < least_agreeing:
            return CONCERT
        from_first = np.sort(_wrapped(np.array(found) - found[0]))
        median = float(from_first[len(found) // 2])
        agreeing = float((np.abs(_wrapped(from_first - median)) <= AGREEMENT).mean())
        deviation = float(_wrapped(np.array(found[0] + median)))
        if agreeing < AGREEING or abs(deviation) <= AGREEMENT:
            return CONCERT
        return Tuning(float(round(CONCERT_PITCH * 2 ** (deviation / 12))), is_of_recordings=True)

    def tuning(self, asked: str | float) -> Tuning:
        """Tuning for a requested A4 in Hz, or for "corpus"."""
        return self.corpus_tuning if asked == "corpus" else Tuning(float(asked))

    def check(self, notes: Sequence[float], label: int = 0) -> None:
        """Check `notes` against the recordings with a label, 0 for any.

        Raises ArtifactError if few of the recordings have a pitch, and ParamsError if a note is more than `BEYOND` from
        the range that they cover.
        """
        name = f" with the label {self.labels[label - 1]}" if label else ""
        by_note = self._by_note(label)
        tonal = float(by_note.sum())
        if tonal < LEAST_TONAL:
            raise ArtifactError(
                f"note: expected recordings{name} with a pitch, found that {tonal:.0%} of them have one; "
                "leave the note out"
            )
        low, high = _range(by_note)
        for note in notes:
            if not low - BEYOND <= note <= high + BEYOND:
                first, last = max(0, low - BEYOND), min(NOTES - 1, high + BEYOND)
                raise ParamsError(
                    f"note {note_name(round(note))}: expected one from {note_name(first)} to {note_name(last)}, at most an "
                    f"octave from those of the recordings{name}, {note_name(low)} to {note_name(high)}; choose another note"
                )

    def known(self, label: int = 0) -> tuple[int, int] | None:
        """Lowest and highest note of recordings with a label, 0 for any; None if few of them have a pitch."""
        by_note = self._by_note(label)
        return _range(by_note) if by_note.sum() >= LEAST_TONAL else None

    def _by_note(self, label: int) -> Tensor:
        """Proportion `[NOTES]` of each note in recordings with a label, 0 for any; the sum is the tonal proportion."""
        shares = [
            self._notes_of(codes)
            for path, codes in self.recordings.items()
            if not label or dirname(path) == self.labels[label - 1]
        ]
        return torch.stack(shares).mean(dim=0) if shares else self._counted_notes(label)

    def weights(self, notes: Sequence[float | None]) -> "NoteWeights":
        """Weights for B sounds at `notes` in semitones (MIDI), None for any note."""
        targets = torch.tensor([math.nan if note is None else note for note in notes])
        return NoteWeights(targets[:, None], self.intervals, self.sets)

    def following(self, recording: Codes, count: int) -> "NoteWeights":
        """Weights for `count` sounds that follow the pitches of a recording's codes `[F, Q]`."""
        return NoteWeights(
            self.heard(torch.from_numpy(recording)).expand(count, -1), self.intervals, self.sets
        )

    def along(self, pitches: Tensor, spread: float) -> "NoteWeights":
        """Weights for sounds with pitches `[count, F]`, NaN for any; `spread` is a standard deviation in semitones."""
        return NoteWeights(pitches, self.intervals, self.sets, (spread, spread), always=True)

    def heard(self, codes: Tensor) -> Tensor:
        """Perceived pitches `[F]` of codes `[F, Q]` in semitones (MIDI); NaN without a pitch."""
        _, tones = self.layout.split(codes)
        heard = self.layer.pitches(tones) + self.intervals[self.layer.sets(tones)]
        return torch.where(heard < NOTES, heard, torch.nan)

    def _notes_of(self, recording: Coded) -> Tensor:
        """Proportion `[NOTES]` of a recording's tonal amplitude at each perceived note, from codes `[F, Q]`.

        All 0 if frames with a pitch hold less than `LEAST_SHARE` of the amplitude: soft frames of noise have one too.
        """
        codes = torch.from_numpy(recording.astype(np.int64))
        loud, heard = 10 ** (LOUDNESS_STEP * codes[:, 0].double()), self.heard(codes)
        has_pitch = heard.isfinite()
        notes = heard[has_pitch].round().long().clamp(0, NOTES - 1)
        by_note = torch.zeros(NOTES).double().index_add(0, notes, loud[has_pitch])
        is_tonal = by_note.sum() >= LEAST_SHARE * loud.sum()
        return is_tonal * by_note / by_note.sum().clamp_min(1e-300)

    def _deviation(self, recording: Coded) -> float | None:
        """Mean deviation of codes `[F, Q]` from keys on a circle, -0.5 to 0.5 semitones; None if it is unclear."""
        # Minimum mean resultant length of a recording's deviations from keys: a spread of 11 cents
        least_steady = 0.8
        codes = torch.from_numpy(recording.astype(np.int64))
        loud, heard = 10 ** (LOUDNESS_STEP * codes[:, 0].double()), self.heard(codes)
        there = heard.isfinite()
        mean = (
            loud[there] * torch.polar(torch.ones_like(heard[there]), 2 * math.pi * heard[there])
        ).sum()
        is_clear = (
            mean.abs() >= least_steady * loud[there].sum()
            and loud[there].sum() >= LEAST_SHARE * loud.sum()
        )
        return float(mean.angle()) / (2 * math.pi) if is_clear else None

    def _counted_notes(self, label: int) -> Tensor:
        """Proportion `[NOTES]` of frames at each perceived note by the prior's counts, for a label, 0 for any."""
        shares = (self.notes[label, :, None] * self.sets)[1:]  # [NOTES - 1, S]
        heard = (
            (torch.arange(1, NOTES)[:, None] + self.intervals).round().long().clamp(0, NOTES - 1)
        )
        return torch.zeros(NOTES).double().index_add(0, heard.flatten(), shares.flatten())


def octaves_into(pitches: Tensor, known: tuple[int, int]) -> int:
    """Octaves to add to pitches `[n]`, NaN for none, so that they lie nearest to the `known` (lowest, highest) notes.

    0 if at least half of the pitches are inside already: the others are then played outside the recordings' range.
    """
    low, high = known
    there = pitches[pitches.isfinite()].round()
    if 2 * int(((there >= low) & (there <= high)).sum()) >= len(there):
        return 0

    def beyond(octaves: int) -> tuple[float, int]:
        moved = pitches + 12 * octaves
        return float(((low - moved).clamp_min(0) + (moved - high).clamp_min(0)).nansum()), abs(
            octaves
        )

    return min(range(-10, 11), key=beyond)


def octaves_back(pitch: float, known: tuple[int, int]) -> int:
    """Octaves that bring a pitch to within `BEYOND` of the `known` (lowest, highest) notes; 0 if it is there."""
    below, above = known[0] - BEYOND - pitch, pitch - known[1] - BEYOND
    return (
        max(0, math.ceil(below / 12)) - max(0, math.ceil(above / 12)) if math.isfinite(pitch) else 0
    )


def moves_in_words(octaves: int, others: int, known: tuple[int, int]) -> list[str]:
    """Remarks on notes moved by octaves: `octaves` for all of them, and `others` that were also moved on their own."""
    low, high = map(note_name, known)
    way = f"moved {'up' if octaves > 0 else 'down'} {several(abs(octaves), 'octave')}, to the notes of the recordings, {low} to {high}"
    return [way] * (octaves != 0) + [
        f"{several(others, 'note')} more than an octave beyond these, moved by octaves"
    ] * (others > 0)


def _range(by_note: Tensor) -> tuple[int, int]:
    """Lowest and highest note of proportions `[NOTES]`, without rare notes at each end."""
    rare = 0.01  # proportion of tones below the lowest known note, and above the highest
    low, high = (
        int((by_note.cumsum(dim=0) < share * by_note.sum()).sum()) for share in (rare, 1 - rare)
    )
    return low, high


def _wrapped(semitones: NDArray[np.float64]) -> NDArray[np.float64]:
    """Deviations wrapped to -0.5 to 0.5 semitones from the nearest key."""
    nearest: NDArray[np.float64] = semitones - np.round(semitones)
    return nearest


def heard_intervals(
    layer: ToneLayer, measure: PitchMeter, loudest_hertz: float = 300.0, seconds: float = 0.3
) -> Tensor:
    """Interval `[S]` in semitones from the coded to the perceived pitch of each partial set; NaN without a pitch.

    The pitch meter measures a sound of `seconds` with its loudest partial at `loudest_hertz`. Amplitudes of the set are
    divided by the square root of their ratio to the pitch.
    """
    rate = measure.config.sample_rate
    intervals = torch.full((len(layer.ratios),), torch.nan, dtype=torch.float64)
    time = torch.arange(round(seconds * rate)).double() / rate
    for row, loud in enumerate(layer.amplitudes.cpu().double()):
        if not loud.any():
            continue
        ratios = layer.ratios[row].cpu().double()
        base = loudest_hertz / float(ratios[loud.argmax()])
        there = (ratios > 0) & (ratios * base < rate / 2)
        falling = loud[there] / ratios[there] ** 0.5
        cycles = (
            START * torch.arange(int(there.sum())).square()[:, None]
            + base * ratios[there, None] * time
        )
        sound = (falling[:, None] * torch.cos(2 * math.pi * cycles)).sum(dim=0)
        pitch = measure((sound / sound.abs().max()).float().numpy())
        if pitch is not None:
            intervals[row] = pitch - semitones(math.log2(base))
    return intervals


class NoteWeights:
    """Logits processor for sounds at `targets` `[count, F]` in semitones (MIDI), NaN for any; the last frame's repeats.

    `intervals` `[S]` lead from the coded to the perceived pitch of each partial set; `sets` `[NOTES, S]` are the
    probabilities of sets at a note. A sound gets its first tone at once; after that the prior decides between tone and
    no tone, unless `always` demands a tone in each frame with a target. `spreads` are the standard deviations, in
    semitones, of the first tone and of later tones from the target.
    """

    def __init__(
        self,
        targets: Tensor,
        intervals: Tensor,
        sets: Tensor,
        spreads: tuple[float, float] = (0.0, SPREAD),
        always: bool = False,
    ) -> None:
        self._targets, self._sets = (targets * TUNINGS).round(), sets[:, None]
        self._spreads, self._always = spreads, always
        moved = (intervals * TUNINGS).round()
        self._atoms = nn.functional.pad(
            moved.repeat_interleave(len(FLOORS)), (1, 0)
        )  # steps from the coded pitch
        coded = steps_of(torch.arange(NOTES)[:, None], torch.arange(TUNINGS))
        self._heard = coded[..., None] + moved  # [NOTES, TUNINGS, S]
        self._levels = {
            NOTE: self._weigh_notes,
            TUNING: self._weigh_tunings,
            ATOM: self._weigh_atoms,
        }
        self._table = cache(self._new_table)

    def __call__(self, shares: Tensor, step: SamplingStep) -> Tensor:
        if step.level not in self._levels:
            return shares
        targets = self._targets[step.rows, min(step.frame, self._targets.shape[1] - 1)]
        begun = (step.codes[step.rows, : step.frame, NOTE] > 0).any(dim=1)
        weighted = self._levels[step.level](shares, step.coarser, targets.nan_to_num(), begun)
        return torch.where(
            targets.isnan()[:, None], shares, first_possible(weighted.to(shares), shares)
        )

    def _weigh_notes(self, shares: Tensor, _: Tensor, targets: Tensor, begun: Tensor) -> Tensor:
        """Weigh notes by their perceived pitch; no tone keeps its probability once a tone has begun."""
        weights = self._coded(targets, begun)[:, 1:].sum(dim=2)
        may_be_silent = begun & (not self._always)
        silent = torch.where(may_be_silent, shares[:, 0] / shares.sum(dim=1), 0.0)[:, None]
        return torch.cat([silent, (1 - silent) * _weighted(shares[:, 1:], weights)], dim=1)

    def _weigh_tunings(
        self, shares: Tensor, coarser: Tensor, targets: Tensor, begun: Tensor
    ) -> Tensor:
        """Weigh fine pitches of the frame's note by their perceived pitch."""
        note = coarser[:, NOTE]
        weights = self._coded(targets, begun)[torch.arange(len(note)), note]
        return torch.where((note == 0)[:, None], shares, _weighted(shares, weights))

    def _weigh_atoms(
        self, shares: Tensor, coarser: Tensor, targets: Tensor, begun: Tensor
    ) -> Tensor:
        """Weigh partial-set codes by their perceived pitch at the frame's note and fine pitch."""
        note = coarser[:, NOTE]
        distance = (steps_of(note, coarser[:, TUNING]) - targets)[:, None] + self._atoms
        first, later = (_nearness(distance, spread) for spread in self._spreads)
        weights = torch.where(begun[:, None], later, first)
        weights[:, 0] = 0.0
        return torch.where((note == 0)[:, None], shares, _weighted(shares, weights))

    def _coded(self, targets: Tensor, begun: Tensor) -> Tensor:
        """Weights `[B, NOTES, TUNINGS]` of coded pitches for targets `[B]` in steps of fine pitch."""
        spreads = [self._spreads[has_begun] for has_begun in begun.tolist()]
        return torch.stack(list(map(self._table, targets.tolist(), spreads)))

    def _new_table(self, target: float, spread: float) -> Tensor:
        """Weights `[NOTES, TUNINGS]` of coded pitches for a target in steps of fine pitch."""
        return (_nearness(self._heard - target, spread) * self._sets).sum(dim=2)


def _nearness(distance: Tensor, spread: float) -> Tensor:
    """Gaussian weights of a `distance` in steps of fine pitch; `spread` in semitones, 0 for the exact step alone."""
    return (
        (-0.5 * (distance / (spread * TUNINGS)).square()).exp()
        if spread
        else (distance == 0).double()
    )


def _weighted(shares: Tensor, weights: Tensor) -> Tensor:
    """Probabilities `[B, V]` times weights, normalised; falls back on the weights, then on `shares`, where all are 0.

    A coarser code that is fixed may be far from the target, so that no finer code is near it.
    """
    chosen = first_possible(shares * weights, weights, shares.to(weights))
    return chosen / chosen.sum(dim=1, keepdim=True).clamp_min(1e-300)
