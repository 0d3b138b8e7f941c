"""Generate the sounds of a kit: a draft for each instrument, and takes of it, which are alike in kind and length.

A label, a cluster or a recording is an instrument on one key. An instrument at notes covers all keys: a sound and its
takes are transposed to each note where their pitch stays clear. The other notes get the most similar new drafts.
"""

import itertools
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from distill.drums import drum_keys
from distill.errors import ArtifactError, AudioWarning, ParamsError
from distill.generate.context import GenerationContext, Recorded
from distill.generate.processors import Sampling
from distill.generate.rejection import COPY, MISTUNED, GeneratedSound, RejectionCriterion, equal_to
from distill.generate.selection.choice import DRAFTS
from distill.generate.settings import default_guidance
from distill.generate.sounds import (
    GenerationRequest,
    Seeds,
    TakeRequest,
    decoded_sounds,
    folded,
    frames_for_seconds,
    generate_sounds,
)
from distill.kit.clusters import MOST_CLUSTERS, distances, spectral_clusters, spectral_shapes
from distill.kit.keys import Place, assign_keys, read_keys
from distill.kit.settings import KitSettings
from distill.notes import CONCERT, note_name
from distill.novelty.spectra import CodeSpectra
from distill.seeds import Stream, derive_seed
from distill.text import one_line

POOL = 2  # drafts to choose from, for each layer or take
CLUSTER_POOL = 4  # the same for clusters
MOST_MISSES = 3  # of an instrument: notes without a draft in tune, before it gives up


class KeySounds(NamedTuple):
    """Sounds of a group, the number of missing sounds, and the numbers of rejected drafts by reason."""

    sounds: list[GeneratedSound]
    missing: int
    refused: Counter[str]


class Group(NamedTuple):
    """Sounds on a key, with their label."""

    label: str
    place: Place
    drawn: KeySounds


def with_own_note(context: GenerationContext, settings: KitSettings) -> KitSettings:
    """Set `notes` to a one-shot recording's own note, unless it is named after a drum or its pitch is unclear."""
    is_on_key = settings.notes is not None or settings.one_key
    if context.single is None or is_on_key or any(drum_keys([context.path.stem])):
        return settings
    pitch, tuning = pitch_of(context, context.single), context.tuner.tuning(settings.tuning)
    if pitch is None:
        return settings
    note = round(pitch - tuning.offset)
    held = at_notes(
        context, sound_of(context, context.single, settings.seconds), [note], tuning.offset
    )
    return settings.model_copy(update={"notes": str(note)}) if held else settings


def pitch_of(context: GenerationContext, sound: Recorded | GeneratedSound) -> float | None:
    """Pitch of a sound in semitones (MIDI), or None if its codes have no tones or its pitch is unclear."""
    has_tones = context.codec.pitches(torch.from_numpy(sound.codes)).isfinite().any()
    return (
        context.tuner.measure(folded(sound.samples, context.codec.spectrogram.sample_rate))
        if has_tones
        else None
    )


def sound_of(context: GenerationContext, recorded: Recorded, seconds: float) -> GeneratedSound:
    """Turn a recording into a sound of at most `seconds`, with its measured pitch."""
    rate, pitch = context.codec.spectrogram.sample_rate, pitch_of(context, recorded)
    codes, samples = (
        recorded.codes[: frames_for_seconds(context.codec, seconds)],
        recorded.samples[: round(seconds * rate)],
    )
    return GeneratedSound(
        codes, None, None, samples, len(samples) / rate, None, pitch, recorded.side_info
    )


def different_notes(
    context: GenerationContext, sounds: Sequence[GeneratedSound]
) -> tuple[int, ...]:
    """Sorted notes of sounds on one key; () for a single note, or if fewer than half have a clear pitch."""
    pitches = [pitch_of(context, sound) for sound in sounds if sound.note is None]
    notes = [round(pitch) for pitch in pitches if pitch is not None]
    are_tonal = 2 * len(notes) >= len(pitches)
    return tuple(sorted(set(notes))) if are_tonal and len(set(notes)) > 1 else ()


def check_instrument(
    context: GenerationContext, settings: KitSettings, labels: dict[int, str]
) -> None:
    """Check the settings of an instrument of these labels. Raises ArtifactError and ParamsError."""
    if settings.notes is None and not settings.one_key:
        return
    place = "on one key" if settings.one_key else "at notes"
    if len(labels) > 1:
        known = one_line(", ".join(labels.values()), 1000)
        raise ParamsError(
            f"labels: expected one for an instrument {place}, found {known}; choose one of them"
        )
    if settings.notes is None:
        return
    if settings.keys:
        raise ParamsError(
            f"keys {one_line(', '.join(settings.keys), 60)}: expected none for an instrument at notes, which has all keys; "
            "leave keys or notes out"
        )
    context.tuner.check(settings.sampled, *labels)


class KitGenerator:
    """Generates the sounds of a kit, counts rejected drafts, and reports progress."""

    def __init__(self, context: GenerationContext, settings: KitSettings) -> None:
        self.context, self.settings, self.refused = context, settings, Counter[str]()
        self.rate, self.report = context.codec.spectrogram.sample_rate, settings.progress
        self.tuning = CONCERT if settings.notes is None else context.tuner.tuning(settings.tuning)
        numbers = list(map(context.label_number, settings.labels)) or range(
            1, len(context.labels) + 1
        )
        self.labels = {number: context.labels[number - 1] for number in numbers}
        if context.single is not None or (settings.one_key and not self.labels):
            self.labels = {0: context.path.stem}
        named = {
            context.labels[context.label_number(label) - 1]: key
            for label, key in settings.keys.items()
        }
        self.keys, self.spectra = read_keys(named), CodeSpectra(context.codec)
        check_instrument(context, settings, self.labels)

    def instruments(self) -> Iterator[list[Group]]:
        """Groups of each instrument. Raises ParamsError for too many labels, ArtifactError if no note can be played."""
        if self.settings.notes is not None:
            yield list(self._at_notes())
            return
        names = list(self.labels.values()) or [
            f"group {number}" for number in range(1, MOST_CLUSTERS + 1)
        ]
        places = assign_keys(names, self.context.labels or names, self.keys)
        drawn = self._of_labels() if self.labels else self._of_clusters()
        for group in map(Group, names, places, drawn):
            self.refused.update(group.drawn.refused)
            yield [group]

    @property
    def layers(self) -> int:
        """Number of velocity layers of a complete key."""
        return min(self.settings.velocity_layers, self.settings.each)

    def _of_labels(self) -> Iterator[KeySounds]:
        pool, each = POOL * self.layers, self.settings.each
        total = len(self.labels) * (pool + each)
        for position, (number, name) in enumerate(self.labels.items()):
            before, title = position * (pool + each), f"sounds, {one_line(name, 40)}"
            if self.context.single is not None:
                yield self.draw(number, each, before, total, title, of_one=self.context.single)
                continue
            drafts = self.draw(number, pool, before, total, title)
            drawn = self.with_takes(
                number, self._most_alike(drafts.sounds), before + pool, total, title
            )
            yield drawn._replace(refused=drafts.refused + drawn.refused)

    def _of_clusters(self) -> Iterator[KeySounds]:
        pool, each = CLUSTER_POOL * self.layers * MOST_CLUSTERS, self.settings.each
        total = pool + MOST_CLUSTERS * each
        drafts = self.draw(0, pool, 0, total, "sounds to choose from")
        self.refused.update(drafts.refused)
        clusters = spectral_clusters(
            [self.spectra(sound.codes) for sound in drafts.sounds], self.layers
        )
        for position, members in enumerate(clusters):
            anchors = [drafts.sounds[member] for member in members]
            yield self.with_takes(
                0, anchors, pool + position * each, total, f"sounds, group {position + 1}"
            )

    def _distances(self, sounds: Sequence[GeneratedSound]) -> NDArray[np.float64]:
        """Distances between sounds, `[n, n]` in dB."""
        shapes = spectral_shapes([self.spectra(sound.codes) for sound in sounds])
        return distances(shapes, [len(sound.codes) for sound in sounds])

    def _most_alike(self, drafts: Sequence[GeneratedSound]) -> list[GeneratedSound]:
        """Medoid of the drafts, and its nearest neighbours: a draft for each layer."""
        if not drafts:
            return []
        unlike = self._distances(drafts)
        nearest = unlike[unlike.sum(axis=0).argmin()].argsort(kind="stable")
        return [drafts[position] for position in nearest[: self.layers]]

    def with_takes(
        self, label: int, anchors: Sequence[GeneratedSound], before: int, of: int, title: str
    ) -> KeySounds:
        """Sounds of a key: an anchor for each layer, from soft to loud, and takes of it."""
        sounds, refused, each = list[GeneratedSound](), Counter[str](), self.settings.each
        by_level = sorted(anchors, key=lambda sound: int(sound.codes[:, 0].max()))
        bounds = (
            [each * layer // len(by_level) for layer in range(len(by_level) + 1)]
            if by_level
            else []
        )
        for layer, (anchor, (first, last)) in enumerate(
            zip(by_level, pairwise(bounds), strict=True), start=1
        ):
            takes = self.draw(
                label, last - first - 1, before + first, of, title, of_one=anchor, layer=layer
            )
            sounds += [anchor, *takes.sounds]
            refused += takes.refused
        return KeySounds(sounds, each - len(sounds), refused)

    def _at_notes(self) -> Iterator[Group]:
        """Group for each note, with the requested number of sounds or fewer.

        A sound and its takes cover all notes where its pitch stays clear, so that all keys play one instrument. The
        longest run of remaining notes gets drafts at its middle, and the draft nearest to the first sound is used.
        """
        each, notes = self.settings.each, self.settings.sampled
        number, name = next(iter(self.labels.items()), (0, self.context.path.stem))
        made: dict[int, list[GeneratedSound]] = {}
        refused, tried, misses = {note: Counter[str]() for note in notes}, set[int](), 0
        first: GeneratedSound | None = None
        while (middle := middle_of_rest(notes, tried)) is not None and misses < MOST_MISSES:
            left = [note for note in notes if note not in made]
            voices, before = self._voices(number, name, middle, left)
            refused[middle] += before
            if not voices:
                misses += 1
                tried.add(middle)
                continue
            anchor = max(voices, key=len)
            if first is not None:
                unlike = self._distances([first, *(next(iter(voice.values())) for voice in voices)])
                anchor = voices[int(unlike[0, 1:].argmin())]
            first = first or next(iter(anchor.values()))
            made |= self._takes_at(number, name, anchor, refused)
            for note in left:
                refused[note][MISTUNED.name] += note not in anchor
            tried |= {middle, *range(min(made, default=0), max(made, default=-1) + 1)}
            if self.context.single is not None:
                break  # takes have no notes that the recording lacks
        for note in notes:
            self.refused.update(refused[note])
            sounds = made.get(note, [])
            yield Group(
                name,
                Place(note, False, False),
                KeySounds(sounds, each - len(sounds), refused[note]),
            )

    def _voices(
        self, label: int, name: str, note: int, notes: Sequence[int]
    ) -> tuple[list[dict[int, GeneratedSound]], Counter[str]]:
        """Drafts at `note`, or the recording, at each of `notes` where their pitch stays clear; and rejected drafts.

        Raises ArtifactError if the recording's pitch stays clear at no note; single unclear notes give an AudioWarning.
        """
        offset, width = self.tuning.offset, self.settings.width
        if self.context.single is None:
            drawn = self.draw(
                label, POOL, 0, POOL, f"sounds, {one_line(name, 40)}", [note + offset]
            )
            voices = [at_notes(self.context, sound, notes, offset, width) for sound in drawn.sounds]
            return [voice for voice in voices if voice], drawn.refused
        voice = at_notes(
            self.context,
            sound_of(self.context, self.context.single, self.settings.seconds),
            notes,
            offset,
            width,
        )
        lost = in_runs([key for key in notes if key not in voice])
        expected = (
            f"{one_line(name, 60)}: expected notes at which it keeps a clear pitch when it is coded"
        )
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
        return [voice], Counter()

    def _takes_at(
        self,
        label: int,
        name: str,
        anchor: dict[int, GeneratedSound],
        refused: dict[int, Counter[str]],
    ) -> dict[int, list[GeneratedSound]]:
        """An anchor and its takes at each of its notes. Takes are generated at the middle; the most complete stay."""
        each, offset, width = self.settings.each, self.tuning.offset, self.settings.width
        own = [anchor] * (self.context.single is None)
        middle = sorted(anchor)[len(anchor) // 2]
        count = POOL * (each - len(own))
        title = f"takes, {one_line(name, 40)}"
        takes = self.draw(label, count, 0, count, title, [middle + offset], anchor[middle], layer=1)
        refused[middle] += takes.refused
        others = [
            at_notes(self.context, sound, list(anchor), offset, width) for sound in takes.sounds
        ]
        voices = [*own, *sorted(others, key=len, reverse=True)][:each]
        made = {note: [voice[note] for voice in voices if note in voice] for note in anchor}
        for note, sounds in made.items():
            refused[note][MISTUNED.name] += len(voices) - len(sounds)
        return {note: sounds for note, sounds in made.items() if sounds}

    def draw(
        self,
        label: int,
        count: int,
        before: int,
        of: int,
        title: str,
        notes: Sequence[float] = (),
        of_one: Recorded | GeneratedSound | None = None,
        layer: int = 0,
    ) -> KeySounds:
        """Generate up to `count` sounds of a label, at pitches `notes` if given, or takes of `of_one` if given.

        Progress counts from `before`, `of` a total. Each layer has its own seeds. Raises as `generate_sounds`.
        """

        def report(done: int, frames: int, text: str) -> None:
            self.report(before + count * done // frames, of, f"{title}: {text}")

        request = request_of(self.context, self.settings, label, count, notes, of_one)
        silence = RejectionCriterion("silent", partial(is_silent, self.context), needs_audio=True)
        known = {request.recording.tobytes()} if isinstance(request, TakeRequest) else set[bytes]()
        criteria = [silence, *[COPY] * (not self.settings.allow_copies), MISTUNED, equal_to(known)]
        seeds = Seeds(
            derive_seed(self.settings.seed or 0, Stream.KIT_SOUNDS, label, *[layer] * bool(layer))
        )
        draws = generate_sounds(self.context, request, seeds, criteria, report)
        longest = max(1, round(self.settings.seconds * self.rate))
        sounds = [replace(sound, samples=sound.samples[:longest]) for sound in draws.accepted]
        return KeySounds(sounds, count - len(sounds), draws.refused)


def request_of(
    context: GenerationContext,
    settings: KitSettings,
    label: int,
    count: int,
    notes: Sequence[float],
    of_one: Recorded | GeneratedSound | None = None,
) -> GenerationRequest:
    """Request for sounds of a label, or takes of `of_one`, at pitches `notes` in semitones (MIDI) if given."""
    shared: dict[str, Any] = {
        "count": count,
        "notes": notes,
        "label": label,
        "width": settings.width,
    }
    shared["sampling"] = Sampling(settings.temperature, guidance=default_guidance(label))
    if of_one is None:
        return GenerationRequest(max_seconds=settings.seconds, drafts=DRAFTS, **shared)
    recording = of_one.codes[: frames_for_seconds(context.codec, settings.seconds)]
    return TakeRequest(
        max_seconds=len(recording) / context.codec.spectrogram.frame_rate,
        recording=recording,
        strength=context.strength,
        side_info=of_one.side_info,
        **shared,
    )


def middle_of_rest(notes: Sequence[int], tried: set[int]) -> int | None:
    """Middle of the longest run of notes that were not tried, or None if all were tried."""
    runs = [list(run) for was_tried, run in groupby(notes, key=tried.__contains__) if not was_tried]
    longest = max(runs, key=len, default=[])
    return longest[len(longest) // 2] if longest else None


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
    voice: GeneratedSound,
    keys: Sequence[int],
    offset: float = 0.0,
    width: float = 1.0,
) -> dict[int, GeneratedSound]:
    """Transpose a sound to `keys`, tuned `offset` semitones above 440 Hz; omit keys where its pitch is unclear.

    Transposing the codes keeps length and formants. Resampling corrects the remaining deviation, so that the sound is
    also in tune in samplers that ignore `tune`.
    """
    if voice.pitch is None:
        return {}
    measure, codes, sounds = context.tuner.measure, torch.from_numpy(voice.codes), {}
    moved = [context.codec.transposed(codes, key + offset - voice.pitch).numpy() for key in keys]
    decoded = decoded_sounds(context.codec, moved, None, itertools.repeat(voice.side_info), width)
    for key, own, whole in zip(keys, moved, decoded, strict=True):
        note = key + offset
        samples, in_mono = (one[: len(voice.samples)] for one in whole)
        sound = replace(voice, codes=own, samples=samples, note=note, pitch=measure(in_mono))
        if sound.pitch is not None and sound.is_at_note:
            tuned, heard = (
                soxr.resample(one, 1, 2 ** ((sound.pitch - note) / 12), "VHQ")
                for one in (samples, in_mono)
            )
            sounds[key] = replace(sound, samples=tuned, pitch=measure(heard))
    return {key: sound for key, sound in sounds.items() if sound.is_at_note}


def is_silent(context: GenerationContext, sound: GeneratedSound) -> bool:
    """Whether a sound is much softer than every recording."""
    if context.finder is not None:
        return context.finder.is_silent(sound.codes)
    peak = float(np.abs(sound.samples).max(initial=0.0)) * context.codec.architecture.input_gain
    return peak < 10 ** (-60.0 / 20)  # relative to the peak of the loudest recording
