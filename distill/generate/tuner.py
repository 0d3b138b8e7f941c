"""Sounds at given notes: which notes a prior knows, and weights of codes with which sounds are drawn at one.

The prior draws a frame's note, tuning and atom in turn. A set of partials is heard at an interval to the pitch that is
coded, so a note can be coded in several ways. A code is weighted by how near to its note the sound would be heard, over
the sets that recordings have with each code of the note.

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
from distill.codec.tones.layer import FLOORS, START, ToneLayer, steps_of
from distill.codec.tones.meter import LEAST_SHARE, PitchMeter
from distill.codes.store import Codes
from distill.errors import ArtifactError, ParamsError
from distill.generate.policies import Draw, first_possible
from distill.notes import CONCERT, CONCERT_PITCH, Tuning, note_name
from distill.prior.base import Prior
from distill.text import several

SPREAD = 0.15  # semitones from the note, at which a code keeps 0.6 of its probability
LEAST_TONAL = 1 / 3  # share of recordings with a pitch: of hats, hisses and scratches none or a quarter have one
RARE = 0.01  # share of these beyond each end of the notes that are known
BEYOND = 12  # semitones beyond these, where notes can still be asked for

LEAST_AGREEING = 4  # recordings with a tuning: fewer may agree by chance
AGREEING, AGREEMENT = 3 / 4, 0.05  # share of them that is within so many semitones of their median
LEAST_STEADY = 0.8  # length of the mean of a recording's deviations from keys as points of a circle: 11 cents around it

Coded = NDArray[np.integer]  # [F, Q]


class Tuner:
    """What brings sounds of a codec and a prior to notes.

    What recordings have is known from the prior's counts. Of a prior that has none all notes and sets are alike.
    Which have a pitch is known from the codes `[F, Q]` of `recordings`, by path, and without these from counts of frames.
    """

    def __init__(self, codec: VQVAE, prior: Prior, recordings: Mapping[str, Coded] = MappingProxyType({})) -> None:
        self.layer, self.layout, self.measure = codec.tone, codec.layout, PitchMeter(codec.spectrogram)
        self.labels, self.recordings = prior.shape.labels, recordings
        intervals, counted = heard_intervals(codec.tone, self.measure), prior.counted_tones()
        self.notes = counted.notes.double().softmax(dim=1)  # [L + 1, NOTES], entry 0 of any label
        atoms = counted.atoms.double().softmax(dim=1)[:, 1:]
        sets = atoms.unflatten(1, (-1, len(FLOORS))).sum(dim=2)
        self.sets = torch.where(intervals.isnan(), 0.0, sets)  # [NOTES, S]
        self.intervals = intervals.nan_to_num(1e3)  # sets which have no pitch are near no note
        self.intervals_heard = intervals.nan_to_num(0.0)  # they are heard as they are coded

    @cached_property
    def corpus_tuning(self) -> Tuning:
        """What the recordings are tuned to, where they agree, in whole Hz; 440 Hz where they do not, or nearly are."""
        found = [deviation for codes in self.recordings.values() if (deviation := self._deviation(codes)) is not None]
        if len(found) < LEAST_AGREEING:
            return CONCERT
        from_first = np.sort(_wrapped(np.array(found) - found[0]))
        median = float(from_first[len(found) // 2])
        agreeing = float((np.abs(_wrapped(from_first - median)) <= AGREEMENT).mean())
        deviation = float(_wrapped(np.array(found[0] + median)))
        if agreeing < AGREEING or abs(deviation) <= AGREEMENT:
            return CONCERT
        return Tuning(float(round(CONCERT_PITCH * 2 ** (deviation / 12))), is_of_recordings=True)

    def tuning(self, asked: str | float) -> Tuning:
        """What notes are tuned to, of A4 in Hz or "corpus"."""
        return self.corpus_tuning if asked == "corpus" else Tuning(float(asked))

    def check(self, notes: Sequence[float], label: int = 0) -> None:
        """Check that recordings with a label, 0 for any, have a pitch, and notes not far from these.

        Raises ArtifactError and ParamsError.
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
        """The lowest and the highest note of recordings with a label, 0 for any; None where few of them have a pitch."""
        by_note = self._by_note(label)
        return _range(by_note) if by_note.sum() >= LEAST_TONAL else None

    def _by_note(self, label: int) -> Tensor:
        """Shares `[NOTES]` of what recordings with a label, 0 for any, sound at each note."""
        shares = [
            self._notes_of(codes)
            for path, codes in self.recordings.items()
            if not label or dirname(path) == self.labels[label - 1]
        ]
        return torch.stack(shares).mean(dim=0) if shares else self._counted_notes(label)

    def weights(self, notes: Sequence[float | None]) -> "NoteWeights":
        """Weights for B sounds at notes, in semitones (MIDI), None for any."""
        targets = torch.tensor([math.nan if note is None else note for note in notes])
        return NoteWeights(targets[:, None], self.intervals, self.sets)

    def following(self, recording: Codes, count: int) -> "NoteWeights":
        """Weights for sounds that follow the tones of a recording's codes `[F, Q]`."""
        return NoteWeights(self.heard(torch.from_numpy(recording)).expand(count, -1), self.intervals, self.sets)

    def along(self, pitches: Tensor, spread: float) -> "NoteWeights":
        """Weights for sounds that have pitches `[count, F]`, NaN for any, with a deviation in semitones."""
        return NoteWeights(pitches, self.intervals, self.sets, (spread, spread), always=True)

    def heard(self, codes: Tensor) -> Tensor:
        """Pitches `[F]` at which codes `[F, Q]` are heard, in semitones (MIDI); NaN for none."""
        _, tones = self.layout.split(codes)
        heard = self.layer.pitches(tones) + self.intervals[self.layer.sets(tones)]
        return torch.where(heard < NOTES, heard, torch.nan)

    def _notes_of(self, recording: Coded) -> Tensor:
        """Shares `[NOTES]` of its tones, by amplitude, at which codes `[F, Q]` are heard at each note.

        All are 0 where less than half of the amplitude has a pitch: noise has one in soft frames.
        """
        codes = torch.from_numpy(recording.astype(np.int64))
        loud, heard = 10 ** (LOUDNESS_STEP * codes[:, 0].double()), self.heard(codes)
        has_pitch = heard.isfinite()
        notes = heard[has_pitch].round().long().clamp(0, NOTES - 1)
        by_note = torch.zeros(NOTES).double().index_add(0, notes, loud[has_pitch])
        is_tonal = by_note.sum() >= LEAST_SHARE * loud.sum()
        return is_tonal * by_note / by_note.sum().clamp_min(1e-300)

    def _deviation(self, recording: Coded) -> float | None:
        """By how much codes `[F, Q]` are heard beside keys, from -0.5 to 0.5 semitones; None where that is not clear."""
        codes = torch.from_numpy(recording.astype(np.int64))
        loud, heard = 10 ** (LOUDNESS_STEP * codes[:, 0].double()), self.heard(codes)
        there = heard.isfinite()
        mean = (loud[there] * torch.polar(torch.ones_like(heard[there]), 2 * math.pi * heard[there])).sum()
        is_clear = mean.abs() >= LEAST_STEADY * loud[there].sum() and loud[there].sum() >= LEAST_SHARE * loud.sum()
        return float(mean.angle()) / (2 * math.pi) if is_clear else None

    def _counted_notes(self, label: int) -> Tensor:
        """Shares `[NOTES]` of the frames of recordings with a label, 0 for any, that are counted at each note."""
        shares = (self.notes[label, :, None] * self.sets)[1:]  # [NOTES - 1, S]
        heard = (torch.arange(1, NOTES)[:, None] + self.intervals).round().long().clamp(0, NOTES - 1)
        return torch.zeros(NOTES).double().index_add(0, heard.flatten(), shares.flatten())


def octaves_into(pitches: Tensor, known: tuple[int, int]) -> int:
    """By how many octaves to move pitches `[n]`, NaN for none, to be nearest to notes that are `known`, the lowest and highest.

    By none where half of them are among these: others are played higher or lower than recordings, as far as can be.
    """
    low, high = known
    there = pitches[pitches.isfinite()].round()
    if 2 * int(((there >= low) & (there <= high)).sum()) >= len(there):
        return 0

    def beyond(octaves: int) -> tuple[float, int]:
        moved = pitches + 12 * octaves
        return float(((low - moved).clamp_min(0) + (moved - high).clamp_min(0)).nansum()), abs(octaves)

    return min(range(-10, 11), key=beyond)


def octaves_back(pitch: float, known: tuple[int, int]) -> int:
    """By how many octaves to move a pitch that is further than BEYOND from notes that are `known`; 0 for another."""
    below, above = known[0] - BEYOND - pitch, pitch - known[1] - BEYOND
    return max(0, math.ceil(below / 12)) - max(0, math.ceil(above / 12)) if math.isfinite(pitch) else 0


def moves_in_words(octaves: int, others: int, known: tuple[int, int]) -> list[str]:
    """What was moved by octaves: all, and so many notes alone."""
    low, high = map(note_name, known)
    way = f"moved {'up' if octaves > 0 else 'down'} {several(abs(octaves), 'octave')}, to the notes of the recordings, {low} to {high}"
    return [way] * (octaves != 0) + [
        f"{several(others, 'note')} more than an octave beyond these, moved by octaves"
    ] * (others > 0)


def _range(by_note: Tensor) -> tuple[int, int]:
    """The lowest and the highest note of shares `[NOTES]`, without rare ones."""
    low, high = (int((by_note.cumsum(dim=0) < share * by_note.sum()).sum()) for share in (RARE, 1 - RARE))
    return low, high


def _wrapped(semitones: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same deviations from keys, each from the nearest one: from -0.5 to 0.5."""
    nearest: NDArray[np.float64] = semitones - np.round(semitones)
    return nearest


def heard_intervals(
    layer: ToneLayer, measure: PitchMeter, loudest_hertz: float = 300.0, seconds: float = 0.3
) -> Tensor:
    """Intervals `[S]` in semitones from the pitch that is coded to the one that is heard of each set; NaN for none.

    A set is heard by a sound of some seconds whose loudest partial is at `loudest_hertz`. Its partials are softer than in
    the frame that the set was found in, by the root of the ratio.
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
        cycles = START * torch.arange(int(there.sum())).square()[:, None] + base * ratios[there, None] * time
        sound = (falling[:, None] * torch.cos(2 * math.pi * cycles)).sum(dim=0)
        pitch = measure((sound / sound.abs().max()).float().numpy())
        if pitch is not None:
            intervals[row] = pitch - semitones(math.log2(base))
    return intervals


class NoteWeights:
    """Policy of sounds at `targets` `[count, F]` in semitones (MIDI), NaN for any; later frames are as the last one.

    `intervals` `[S]` are those at which sets are heard, `sets` `[NOTES, S]` how often recordings have each at a note. A
    sound gets its first tone at once, and then one or none, as the prior has it; `spreads` are the deviations, in
    semitones, of the first tone from its note and of later ones. With `always` each frame with a target has a tone.
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
        self._atoms = nn.functional.pad(moved.repeat_interleave(len(FLOORS)), (1, 0))  # steps from the code
        coded = steps_of(torch.arange(NOTES)[:, None], torch.arange(TUNINGS))
        self._heard = coded[..., None] + moved  # [NOTES, TUNINGS, S]
        self._levels = {NOTE: self._weigh_notes, TUNING: self._weigh_tunings, ATOM: self._weigh_atoms}
        self._table = cache(self._new_table)

    def __call__(self, shares: Tensor, step: Draw) -> Tensor:
        if step.level not in self._levels:
            return shares
        targets = self._targets[step.rows, min(step.frame, self._targets.shape[1] - 1)]
        begun = (step.codes[step.rows, : step.frame, NOTE] > 0).any(dim=1)
        weighted = self._levels[step.level](shares, step.coarser, targets.nan_to_num(), begun)
        return torch.where(targets.isnan()[:, None], shares, first_possible(weighted.to(shares), shares))

    def _weigh_notes(self, shares: Tensor, _: Tensor, targets: Tensor, begun: Tensor) -> Tensor:
        """Notes by what is heard near the target; no tone as before, but where none has begun."""
        weights = self._coded(targets, begun)[:, 1:].sum(dim=2)
        may_be_silent = begun & (not self._always)
        silent = torch.where(may_be_silent, shares[:, 0] / shares.sum(dim=1), 0.0)[:, None]
        return torch.cat([silent, (1 - silent) * _weighted(shares[:, 1:], weights)], dim=1)

    def _weigh_tunings(self, shares: Tensor, coarser: Tensor, targets: Tensor, begun: Tensor) -> Tensor:
        """Tunings of the frame's note by what is heard near the target."""
        note = coarser[:, NOTE]
        weights = self._coded(targets, begun)[torch.arange(len(note)), note]
        return torch.where((note == 0)[:, None], shares, _weighted(shares, weights))

    def _weigh_atoms(self, shares: Tensor, coarser: Tensor, targets: Tensor, begun: Tensor) -> Tensor:
        """Atoms whose set is heard near the target at the frame's note and tuning."""
        note = coarser[:, NOTE]
        distance = (steps_of(note, coarser[:, TUNING]) - targets)[:, None] + self._atoms
        first, later = (_nearness(distance, spread) for spread in self._spreads)
        weights = torch.where(begun[:, None], later, first)
        weights[:, 0] = 0.0
        return torch.where((note == 0)[:, None], shares, _weighted(shares, weights))

    def _coded(self, targets: Tensor, begun: Tensor) -> Tensor:
        """Weights `[B, NOTES, TUNINGS]` of coded pitches for targets `[B]` in steps of tuning."""
        spreads = [self._spreads[has_begun] for has_begun in begun.tolist()]
        return torch.stack(list(map(self._table, targets.tolist(), spreads)))

    def _new_table(self, target: float, spread: float) -> Tensor:
        """Weights `[NOTES, TUNINGS]` for a target."""
        return (_nearness(self._heard - target, spread) * self._sets).sum(dim=2)


def _nearness(distance: Tensor, spread: float) -> Tensor:
    """Weights of what is heard so many steps of tuning from a note, with a deviation in semitones; of 0 the note alone."""
    return (-0.5 * (distance / (spread * TUNINGS)).square()).exp() if spread else (distance == 0).double()


def _weighted(shares: Tensor, weights: Tensor) -> Tensor:
    """Probabilities `[B, V]` times weights, with the sum 1; where nothing is left the weights, else the former.

    A code that is kept may be far from the target, so that nothing that follows it is near.
    """
    chosen = first_possible(shares * weights, weights, shares.to(weights))
    return chosen / chosen.sum(dim=1, keepdim=True).clamp_min(1e-300)
