"""Instruments at notes, over all keys, and the pitches of their sounds.

A sound and its takes are transposed to each note where their pitch stays clear. The other notes get the most similar
new drafts.
"""

import itertools
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import soxr
import torch

from distill.drums import drum_keys
from distill.errors import ArtifactError, AudioWarning, ParamsError
from distill.generate.context import GenerationContext, Recorded
from distill.generate.decoding import decoded_sounds, folded
from distill.generate.requests.generation import frames_for_seconds
from distill.generate.selection.rejection import MISTUNED, GeneratedSound
from distill.kit.generate import (
    POOL,
    ClusterKit,
    Group,
    KeySounds,
    KitGenerator,
    LabelKit,
    OneKeyKit,
    OneShotKit,
    Step,
)
from distill.kit.keys import Place, key_ranges
from distill.kit.settings import KitSettings
from distill.notes import note_name
from distill.text import one_line

Voice = dict[int, GeneratedSound]
"""A sound at each note where its pitch stays clear."""


class NoteInstrument(KitGenerator):
    """Instrument at notes: a group for each note, with the requested number of sounds or fewer."""

    remedy = "choose other notes, or leave notes out"

    def __init__(
        self, context: GenerationContext, settings: KitSettings, labels: Mapping[int, str]
    ) -> None:
        """Raises ParamsError for several labels, keys or distant notes, ArtifactError without pitched recordings."""
        super().__init__(context, settings, labels)
        self.check_one_label("at notes")
        if settings.keys:
            raise ParamsError(
                f"keys {one_line(', '.join(settings.keys), 60)}: expected none for an instrument at notes, which has all "
                "keys; leave keys or notes out"
            )
        ((self.label, self.name),) = labels.items()
        self.notes = settings.sampled
        context.tuner.check(self.notes, self.label)
        self.tuning = context.tuner.tuning(settings.tuning)
        self._made: dict[int, list[GeneratedSound]] = {}
        self._refused = {note: Counter[str]() for note in self.notes}

    def instruments(self) -> Iterator[list[Group]]:
        """The instrument. Raises ArtifactError if no note can be played."""
        self.cover_notes()
        ranges = key_ranges([note for note in self.notes if note in self._made])
        groups = []
        for note in self.notes:
            self.refused.update(self._refused[note])
            sounds = self._made.get(note, [])
            key = KeySounds(sounds, self.settings.each - len(sounds), self._refused[note])
            place = Place(note, False, False)
            groups.append(Group(self.name, place, key, ranges.get(note, ())))
        yield groups

    def cover_notes(self) -> None:
        """Cover all notes by as few sounds as possible, so that all keys play one instrument.

        The longest run of remaining notes gets drafts at its middle, and the draft nearest to the first sound is used.
        Three middles without a draft in tune end the search.
        """
        tried, misses = set[int](), 0
        first: list[GeneratedSound] = []
        while (rest := longest_run(self.notes, tried)) and misses < 3:
            middle = rest[len(rest) // 2]
            left = [note for note in self.notes if note not in self._made]
            title = f"sounds, {one_line(self.name, 40)}"
            at_middle = [middle + self.tuning.offset]
            drafts = self.drafts(self.label, POOL, Step(0, POOL, title), at_middle)
            self._refused[middle] += drafts.refused
            voices = [voice for sound in drafts.sounds if (voice := self.voice(sound, left))]
            if not voices:
                misses += 1
                tried.add(middle)
                continue
            anchor = self._nearest(first, voices)
            first = first or [*anchor.values()][:1]
            self.add(anchor, [anchor], left)
            tried |= {middle, *range(min(self._made), max(self._made) + 1)}

    def _nearest(self, first: Sequence[GeneratedSound], voices: Sequence[Voice]) -> Voice:
        """Voice nearest to the instrument's first sound; without one, the most complete voice."""
        if not first:
            return max(voices, key=len)
        unlike = self.distances([*first, *(next(iter(voice.values())) for voice in voices)])
        return voices[int(unlike[0, 1:].argmin())]

    def voice(self, sound: GeneratedSound, notes: Sequence[int]) -> Voice:
        """A sound at each of `notes` where its pitch stays clear."""
        return at_notes(self.context, sound, notes, self.tuning.offset, self.settings.width)

    def add(self, anchor: Voice, own: Sequence[Voice], notes: Sequence[int]) -> None:
        """Add `own` voices and takes of an anchor at its notes, and count the other `notes` as mistuned.

        Takes are generated at the middle; the most complete stay.
        """
        each, middle = self.settings.each, sorted(anchor)[len(anchor) // 2]
        count = POOL * (each - len(own))
        step = Step(0, count, f"takes, {one_line(self.name, 40)}")
        at_middle = [middle + self.tuning.offset]
        takes = self.takes(anchor[middle], self.label, count, step, 1, notes=at_middle)
        self._refused[middle] += takes.refused
        others = [self.voice(sound, list(anchor)) for sound in takes.sounds]
        voices = [*own, *sorted(others, key=len, reverse=True)][:each]
        for note in anchor:
            sounds = [voice[note] for voice in voices if note in voice]
            self._refused[note][MISTUNED.name] += len(voices) - len(sounds)
            if sounds:
                self._made[note] = sounds
        for note in notes:
            self._refused[note][MISTUNED.name] += note not in anchor


class OneShotInstrument(NoteInstrument):
    """Instrument of takes of one recording; it has no notes that the recording lacks."""

    def __init__(
        self,
        context: GenerationContext,
        settings: KitSettings,
        labels: Mapping[int, str],
        recording: Recorded,
    ) -> None:
        super().__init__(context, settings, labels)
        self._recording = recording

    def cover_notes(self) -> None:
        """Add takes of the recording at the notes where its pitch stays clear, with an AudioWarning for the others."""
        voice = self.voice(
            sound_of(self.context, self._recording, self.settings.seconds), self.notes
        )
        lost = in_runs([key for key in self.notes if key not in voice])
        expected = f"{one_line(self.name, 60)}: expected notes at which it keeps a clear pitch when it is coded"
        if not voice:
            raise ArtifactError(
                f"{expected}, found none among {lost}; choose other notes, or leave notes out"
            )
        if lost:
            warnings.warn(
                f"{expected}, found that {lost} are none; these keys play other notes",
                AudioWarning,
                2,
            )
        self.add(voice, [], self.notes)


def kit_generator(context: GenerationContext, settings: KitSettings) -> KitGenerator:
    """Generator of a kit: at notes, on one key, of labels or of clusters. Raises ParamsError and ArtifactError."""
    numbers = [context.label_number(label) for label in settings.labels]
    known = dict(enumerate(context.labels, start=1))
    labels = {number: known[number] for number in numbers or known}
    whole = labels or {0: context.path.stem}
    if context.single:
        one_shot = OneShotInstrument if settings.notes else OneShotKit
        return one_shot(context, settings, whole, context.single)
    if settings.notes:
        return NoteInstrument(context, settings, whole)
    if settings.one_key:
        return OneKeyKit(context, settings, whole)
    return LabelKit(context, settings, labels) if labels else ClusterKit(context, settings, {})


def with_own_note(context: GenerationContext, settings: KitSettings) -> KitSettings:
    """Set `notes` to a one-shot recording's own note, unless it is named after a drum or its pitch is unclear."""
    is_set = settings.notes or settings.one_key or any(drum_keys([context.path.stem]))
    if not context.single or is_set:
        return settings
    sound = sound_of(context, context.single, settings.seconds)
    offset = context.tuner.tuning(settings.tuning).offset
    if sound.pitch is None:
        return settings
    note = round(sound.pitch - offset)
    voice = at_notes(context, sound, [note], offset)
    return settings.model_copy(update={"notes": str(note)}) if voice else settings


def pitch_of(context: GenerationContext, sound: Recorded | GeneratedSound) -> float | None:
    """Pitch of a sound in semitones (MIDI), or None if its codes have no tones or its pitch is unclear."""
    has_tones = context.codec.pitches(torch.from_numpy(sound.codes)).isfinite().any()
    rate = context.codec.spectrogram.sample_rate
    return context.tuner.measure(folded(sound.samples, rate)) if has_tones else None


def sound_of(context: GenerationContext, recorded: Recorded, seconds: float) -> GeneratedSound:
    """Turn a recording into a sound of at most `seconds`, with its measured pitch."""
    rate = context.codec.spectrogram.sample_rate
    codes = recorded.codes[: frames_for_seconds(context.codec, seconds)]
    samples = recorded.samples[: round(seconds * rate)]
    return GeneratedSound(
        codes,
        None,
        None,
        samples,
        len(samples) / rate,
        pitch=pitch_of(context, recorded),
        side_info=recorded.side_info,
    )


def different_notes(
    context: GenerationContext, sounds: Sequence[GeneratedSound]
) -> tuple[int, ...]:
    """Sorted notes of sounds on one key; () for a single note, or if fewer than half have a clear pitch."""
    pitches = [pitch_of(context, sound) for sound in sounds if sound.note is None]
    notes = [round(pitch) for pitch in pitches if pitch is not None]
    are_tonal = 2 * len(notes) >= len(pitches)
    return tuple(sorted(set(notes))) if are_tonal and len(set(notes)) > 1 else ()


def longest_run(notes: Sequence[int], tried: set[int]) -> list[int]:
    """Longest run of notes that were not tried; empty if all were tried."""
    runs = [list(run) for was_tried, run in groupby(notes, key=tried.__contains__) if not was_tried]
    return max(runs, key=len, default=[])


def in_runs(notes: Sequence[int]) -> str:
    """Names of notes, as ranges: `C1 to E1, G1`."""
    runs = (
        list(run)
        for _, run in groupby(enumerate(sorted(notes)), key=lambda pair: pair[1] - pair[0])
    )
    ends = [(note_name(run[0][1]), note_name(run[-1][1])) for run in runs]
    return ", ".join(low if low == high else f"{low} to {high}" for low, high in ends)


def at_notes(
    context: GenerationContext,
    sound: GeneratedSound,
    keys: Sequence[int],
    offset: float = 0.0,
    width: float = 1.0,
) -> Voice:
    """Transpose a sound to `keys`, tuned `offset` semitones above 440 Hz; omit keys where its pitch is unclear.

    Transposing the codes keeps length and formants. Resampling corrects the remaining deviation, so that the sound is
    also in tune in samplers that ignore `tune`.
    """
    if sound.pitch is None:
        return {}
    measure, codes, voice = context.tuner.measure, torch.from_numpy(sound.codes), {}
    moved = [context.codec.transposed(codes, key + offset - sound.pitch).numpy() for key in keys]
    decoded = decoded_sounds(context.codec, moved, None, itertools.repeat(sound.side_info), width)
    for key, own, whole in zip(keys, moved, decoded, strict=True):
        note = key + offset
        samples, in_mono = (each[: len(sound.samples)] for each in whole)
        pitch = measure(in_mono)
        if pitch is not None and replace(sound, note=note, pitch=pitch).is_at_note:
            tuned, heard = (
                soxr.resample(each, 1, 2 ** ((pitch - note) / 12), "VHQ")
                for each in (samples, in_mono)
            )
            voice[key] = replace(sound, codes=own, samples=tuned, note=note, pitch=measure(heard))
    return {key: moved_sound for key, moved_sound in voice.items() if moved_sound.is_at_note}
