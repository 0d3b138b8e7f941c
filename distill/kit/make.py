"""Making of a kit: draw sounds for each label, cluster or note, finish them, lay them out on keys, write the folder."""

import itertools
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
import torch

from distill.audio.measure import window_energies
from distill.audio.output import Output, resampled
from distill.audio.write import audio_file, with_sampler_chunk
from distill.drums import drum_keys
from distill.errors import ArtifactError, ParamsError
from distill.generate.faults import Samples
from distill.generate.policies import Sampling
from distill.generate.refusals import COPY, MISTUNED, MOST_DRAWS, Refusal, Sound, equal_to
from distill.generate.requests import FORMATS, KitSettings, default_guidance
from distill.generate.sounds import (
    GenerationRequest,
    Seeds,
    TakeRequest,
    decoded_sounds,
    folded,
    frames_for_seconds,
    generate_sounds,
    in_channels,
)
from distill.generate.source import Recorded, Source
from distill.kit.kit import (
    FORMAT,
    INDEX,
    MOST_CLUSTERS,
    MOST_VELOCITY,
    ONE_SHOT,
    WRITERS,
    Kit,
    KitGroup,
    KitSound,
    Place,
    Play,
    assign_keys,
    file_word,
    held,
    held_by,
    in_words,
    key_ranges,
    read_keys,
)
from distill.kit.loops import Doubles, looped
from distill.notes import CONCERT
from distill.novelty.spectra import BANDS, CodeSpectra, Spectra
from distill.progress import silent
from distill.seeds import Stream, derive_seed
from distill.storage.files import MARK, atomic_folder, made_by_distill, write_bytes, write_json
from distill.text import one_line

POOL = 2  # sounds that clusters and instruments are made of, for each that they can hold
TRIM_DB = -60.0  # relative to a sound's peak: what is lower at both ends is cut off
PEAK_DB = -1.0  # dBFS of every sound
FADE_SECONDS = 0.02  # at the end of a sound
LEAD_SECONDS = 0.001  # kept before the first sample above the threshold, faded in
OF_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what file managers leave in a folder that they showed


class Drawn(NamedTuple):
    """The sounds of a group, how many are missing, and the draws that were refused for it, by reason."""

    sounds: list[Sound]
    missing: int
    refused: Counter[str]


def make_kit(source: Source, settings: KitSettings) -> Kit:
    """Make a kit in the folder `settings.out`, which appears whole or not at all; `settings` have a seed.

    The same source and settings give the same bytes on as many threads. Raises ParamsError for a folder that cannot be used, or for labels,
    keys or notes that cannot be, ArtifactError when the model cannot generate or gives no sound to use.
    """
    out, settings = Path(settings.out), with_own_note(source, settings)
    drawing, output = _Drawing(source, settings), Output(settings.sample_rate or source.sample_rate, settings.loudness)
    with atomic_folder(kit_folder(out, settings.replace)) as folder:
        groups = []
        for label, place, drawn in drawing.groups():
            at_rate = [
                replace(sound, samples=resampled(sound.samples, drawing.rate, output.sample_rate))
                for sound in drawn.sounds
            ]
            sounds = _write_sounds(folder, label, place.key, at_rate, settings.velocity_layers, output)
            heard = () if place.is_drum or not source.labels else different_notes(source, drawn.sounds)
            groups.append(KitGroup(label, *place, sounds, drawn.missing, drawn.refused, heard=heard))
        kit = Kit(
            folder=out,
            model=source.path.name,
            model_sha256=source.sha256,
            sample_rate=output.sample_rate,
            settings=settings,
            by_label=bool(source.labels),
            groups=_with_ranges(groups) if settings.notes else tuple(sorted(groups, key=lambda group: group.key)),
            refused=drawing.refused,
            untrained=source.untrained,
            tuning=drawing.tuning,
        )
        if not kit.sounds:
            raise ArtifactError(
                f"{source.path.name}: expected sounds for the kit, found none in {MOST_DRAWS} draws for each place "
                f"({in_words(kit.refused)}); allow copies, or use another seed or temperature"
            )
        _write_files(folder, kit)
        kit_folder(out, settings.replace)  # it may have changed while sounds were drawn
    drawing.report(len(kit.sounds), len(kit.sounds), "sounds written")
    return kit


def with_own_note(source: Source, settings: KitSettings) -> KitSettings:
    """Settings with the note of a single recording that has a pitch, and not the name of a drum: a kit at that note."""
    if source.single is None or settings.notes is not None or any(drum_keys([source.path.stem])):
        return settings
    pitch, tuning = pitch_of(source, source.single), source.tuner.tuning(settings.tuning)
    if pitch is None:
        return settings
    return settings.model_copy(update={"notes": str(round(pitch - tuning.offset))})


def pitch_of(source: Source, sound: Recorded | Sound) -> float | None:
    """The pitch of a sound, in semitones (MIDI), of whose codes some have tones, where it is clear; else None."""
    has_tones = source.codec.pitches(torch.from_numpy(sound.codes)).isfinite().any()
    return source.tuner.measure(folded(sound.samples, source.codec.spectrogram.sample_rate)) if has_tones else None


def different_notes(source: Source, sounds: Sequence[Sound]) -> tuple[int, ...]:
    """The nearest notes of sounds on one key, upwards, where half of them or more have a clear pitch; () for one note."""
    pitches = [pitch_of(source, sound) for sound in sounds if sound.note is None]
    notes = [round(pitch) for pitch in pitches if pitch is not None]
    are_tonal = 2 * len(notes) >= len(pitches)
    return tuple(sorted(set(notes))) if are_tonal and len(set(notes)) > 1 else ()


def check_notes(source: Source, settings: KitSettings, labels: dict[int, str]) -> None:
    """Refuse notes that no instrument of these labels can have. Raises ArtifactError and ParamsError."""
    if settings.notes is None:
        return
    if len(labels) > 1:
        known = one_line(", ".join(labels.values()), 1000)
        raise ParamsError(f"labels: expected one for an instrument at notes, found {known}; choose one of them")
    if settings.keys:
        raise ParamsError(
            f"keys {one_line(', '.join(settings.keys), 60)}: expected none for an instrument at notes, which has all keys; "
            "leave keys or notes out"
        )
    source.tuner.check(settings.sampled, *labels)


class _Drawing:
    """Draws the sounds of a kit, counts the draws that are refused, and reports how many sounds there are."""

    def __init__(self, source: Source, settings: KitSettings) -> None:
        self.source, self.settings, self.refused = source, settings, Counter[str]()
        self.rate, self.report = source.codec.spectrogram.sample_rate, settings.progress or silent
        self.tuning = CONCERT if settings.notes is None else source.tuner.tuning(settings.tuning)
        numbers = list(map(source.label_number, settings.labels)) or range(1, len(source.labels) + 1)
        self.labels = {number: source.labels[number - 1] for number in numbers}
        if source.single is not None:
            self.labels = {0: source.path.stem}
        named = {source.labels[source.label_number(label) - 1]: key for label, key in settings.keys.items()}
        self.keys = read_keys(named)
        check_notes(source, settings, self.labels)

    def groups(self) -> Iterator[tuple[str, Place, Drawn]]:
        """The label, the place and the sounds of each group. Raises ParamsError for too many labels."""
        if self.settings.notes is not None:
            yield from self._at_notes()
            return
        names = list(self.labels.values()) or [f"group {number}" for number in range(1, MOST_CLUSTERS + 1)]
        places = assign_keys(names, self.source.labels or names, self.keys)
        drawn = self._of_labels() if self.labels else self._of_clusters()
        yield from zip(names, places, drawn, strict=False)

    def _of_labels(self) -> Iterator[Drawn]:
        each = self.settings.per_label
        for position, (number, name) in enumerate(self.labels.items()):
            before, total = position * each, len(self.labels) * each
            drawn = self.draw(number, each, before, total, f"sounds, {one_line(name, 40)}")
            self.refused.update(drawn.refused)
            yield drawn

    def _of_clusters(self) -> Iterator[Drawn]:
        most, spectra = self.settings.per_label, CodeSpectra(self.source.codec)
        total = most * POOL * MOST_CLUSTERS
        pool = self.draw(0, total, 0, total, "sounds to choose from")
        self.refused.update(pool.refused)
        for members in spectral_clusters([spectra(sound.codes) for sound in pool.sounds], most):
            yield Drawn([pool.sounds[member] for member in members], 0, Counter())

    def _at_notes(self) -> Iterator[tuple[str, Place, Drawn]]:
        """Sounds at each note, as many as the settings say or fewer.

        The same sounds, drawn at the middle note, are at all notes where they have a clear pitch, so that all keys play one
        instrument. Notes beyond these have others, drawn at the middle of what is left.
        """
        each, notes, offset = self.settings.per_label, self.settings.sampled, self.tuning.offset
        number, name = next(iter(self.labels.items()), (0, self.source.path.stem))
        made: dict[int, list[Sound]] = {}
        refused, done = {note: Counter[str]() for note in notes}, set[int]()
        while beyond := [note for note in notes if note not in done]:
            middle = beyond[len(beyond) // 2]
            drawn = self.draw(number, POOL * each, 0, POOL * each, f"sounds, {one_line(name, 40)}", [middle + offset])
            refused[middle].update(drawn.refused)
            left = [note for note in notes if note not in made]
            voices = sorted(
                (at_notes(self.source, sound, left, offset, self.settings.width) for sound in drawn.sounds),
                key=len,
                reverse=True,
            )
            for note in left:
                there = [voice[note] for voice in voices[:each] if note in voice]
                refused[note][MISTUNED.name] += min(each, len(voices)) - len(there)
                if there:
                    made[note] = there
            done |= {middle, *range(min(made, default=0), max(made, default=-1) + 1)}
        for note in notes:
            self.refused.update(refused[note])
            sounds = made.get(note, [])
            yield name, Place(note, False, False), Drawn(sounds, each - len(sounds), refused[note])

    def draw(self, label: int, count: int, before: int, of: int, title: str, notes: Sequence[float] = ()) -> Drawn:
        """Draw `count` sounds of a label, fewer if there are not more, at pitches if any; `before` were drawn `of` all.

        Raises as `generate_sounds`.
        """

        def report(done: int, frames: int, text: str) -> None:
            self.report(before + count * done // frames, of, f"{title}: {text}")

        request = request_of(self.source, self.settings, label, count, notes)
        silence = Refusal("silent", partial(is_silent, self.source), hears=True)
        known = {request.recording.tobytes()} if isinstance(request, TakeRequest) else set[bytes]()
        refusals = [silence, *[COPY] * (not self.settings.allow_copies), MISTUNED, equal_to(known)]
        seeds = Seeds(derive_seed(self.settings.seed or 0, Stream.KIT_SOUNDS, label))
        draws = generate_sounds(self.source, request, seeds, refusals, report)
        longest = max(1, round(self.settings.seconds * self.rate))
        sounds = [replace(sound, samples=sound.samples[:longest]) for sound in draws.accepted]
        return Drawn(sounds, count - len(sounds), draws.refused)


def request_of(
    source: Source, settings: KitSettings, label: int, count: int, notes: Sequence[float]
) -> GenerationRequest:
    """The request for sounds of a label, or for takes of a single recording, at `notes`, in semitones, if any."""
    shared: dict[str, Any] = {"count": count, "notes": notes, "label": label, "width": settings.width}
    shared["sampling"] = Sampling(settings.temperature, guidance=default_guidance(label))
    if source.single is None:
        return GenerationRequest(max_seconds=settings.seconds, **shared)
    codes = source.transposed(source.single, 0.0, notes[0])[0] if notes else source.single.codes
    recording = codes[: frames_for_seconds(source.codec, settings.seconds)]
    seconds = len(recording) / source.codec.spectrogram.frame_rate
    return TakeRequest(
        max_seconds=seconds,
        recording=recording,
        strength=source.strength,
        image=source.single.image,
        **shared,
    )


def at_notes(
    source: Source, voice: Sound, keys: Sequence[int], offset: float = 0.0, width: float = 1.0
) -> dict[int, Sound]:
    """A sound with a pitch at each of some keys, `offset` semitones beside 440 Hz, where it has a clear pitch there.

    Its codes are transposed, so that length and formants stay. What the codes cannot say is tuned by resampling, so that
    it is in tune in samplers that know no `tune`, too.
    """
    assert voice.pitch is not None
    measure, codes, sounds = source.tuner.measure, torch.from_numpy(voice.codes), {}
    moved = [source.codec.transposed(codes, key + offset - voice.pitch).numpy() for key in keys]
    decoded = decoded_sounds(source.codec, moved, None, itertools.repeat(voice.image), width)
    for key, own, whole in zip(keys, moved, decoded, strict=True):
        note = key + offset
        samples, in_mono = (one[: len(voice.samples)] for one in whole)
        samples = in_channels(samples, voice.samples.ndim)
        sound = replace(voice, codes=own, samples=samples, note=note, pitch=measure(in_mono))
        if sound.pitch is not None and sound.is_at_note:
            tuned, heard = (
                soxr.resample(one, 1, 2 ** ((sound.pitch - note) / 12), "VHQ") for one in (samples, in_mono)
            )
            sounds[key] = replace(sound, samples=tuned, pitch=measure(heard))
    return {key: sound for key, sound in sounds.items() if sound.is_at_note}


def is_silent(source: Source, sound: Sound) -> bool:
    """Whether a sound is much softer than any recording."""
    if source.finder is not None:
        return source.finder.is_silent(sound.codes)
    peak = float(np.abs(sound.samples).max(initial=0.0)) * source.codec.architecture.input_gain
    return peak < _gain(-60.0)  # of the peak of the loudest recording


def finish(samples: Samples, sample_rate: int) -> Samples:
    """Trim samples `[N]` or `[N, 2]` of silence, fade the end, normalise the peak; not of a silent sound."""
    magnitude = np.abs(samples).reshape(len(samples), -1).max(axis=1)
    first, last = np.flatnonzero(magnitude >= float(magnitude.max()) * _gain(TRIM_DB))[[0, -1]].tolist()
    lead = min(first, int(LEAD_SECONDS * sample_rate))
    kept = samples[first - lead : last + 1].astype(np.float64)
    kept[:lead].T[...] *= np.linspace(0.0, 1.0, lead, endpoint=False)
    fade = min(int(FADE_SECONDS * sample_rate), len(kept) // 2)
    kept[len(kept) - fade :].T[...] *= np.linspace(1.0, 0.0, fade)
    return normalised(kept)


def normalised(samples: Samples | Doubles) -> Samples:
    """Samples `[N]` or `[N, 2]`, not all of them 0, with a peak of PEAK_DB."""
    made: Samples = (samples * (_gain(PEAK_DB) / np.abs(samples).max())).astype(np.float32)
    return made


def level_db(samples: Samples, sample_rate: int) -> float:
    """Level of samples `[N]` or `[N, 2]` in dBFS: the RMS of the loudest 50 ms, of both channels together."""
    window = max(1, min(len(samples), round(0.05 * sample_rate)))
    channels = np.atleast_2d(samples.T)
    energies = sum(window_energies(channel, window) for channel in channels)
    return float(10 * np.log10(np.max(energies) / (window * len(channels))))


def _gain(decibels: float) -> float:
    return float(10 ** (decibels / 20))


def _write_sounds(
    folder: Path, label: str, key: int, drawn: Sequence[Sound], most_layers: int, output: Output
) -> tuple[KitSound, ...]:
    """Write the sounds of a group, soft ones first where there are layers."""
    layers, rate = min(most_layers, len(drawn)), output.sample_rate
    if layers > 1:
        drawn = sorted(drawn, key=lambda sound: level_db(sound.samples, rate))
    bounds = [len(drawn) * layer // max(1, layers) for layer in range(layers + 1)]
    sounds: list[KitSound] = []
    for layer, (first, last) in enumerate(pairwise(bounds)):
        velocities = (1 + MOST_VELOCITY * layer // layers, MOST_VELOCITY * (layer + 1) // layers)
        for position, sound in enumerate(drawn[first:last], start=1):
            file = f"samples/{key:03d}_{file_word(label)}_{len(sounds) + 1:02d}.wav"
            samples, under_db, play = _write_sound(folder / file, sound, key, output)
            seconds, level = len(samples) / rate, level_db(sound.samples, rate)
            placed = (file, *velocities, position, last - first)
            sounds.append(KitSound(*placed, seconds, level, sound.novelty, play, under_db))
    return tuple(sounds)


def _write_sound(path: Path, sound: Sound, key: int, output: Output) -> tuple[Samples, float, Play]:
    """Write a sound; gives its samples as they are there, how far they stay under the loudness, and how samplers play it."""
    rate = output.sample_rate
    samples = finish(sound.samples, rate)
    if sound.note is None or sound.pitch is None:
        samples, under_db = output.of(samples, rate)
        write_bytes(path, audio_file(path, samples, rate, "wav", MARK))
        return samples, under_db, ONE_SHOT
    samples, loop = looped(samples, folded(samples, rate), rate, len(samples) - int(FADE_SECONDS * rate))
    samples, under_db = output.of(normalised(samples), rate)  # a loop that is levelled can be louder
    wav, tune = audio_file(path, samples, rate, "wav", MARK), round(100 * (sound.note - sound.pitch))
    write_bytes(path, with_sampler_chunk(wav, rate, key, loop and loop[:2]))
    return samples, under_db, held_by(loop, tune, rate) if loop else held(tune)


def _with_ranges(groups: Sequence[KitGroup]) -> tuple[KitGroup, ...]:
    """Groups at notes, upwards, with the keys that play each that has a sound."""
    ranges = key_ranges([group.key for group in groups if group.sounds])
    return tuple(replace(group, keys=ranges.get(group.key, ())) for group in groups)


def _write_files(folder: Path, kit: Kit) -> None:
    """Write what a kit has beside its sounds."""
    sounding = [group for group in kit.groups if group.sounds]
    for kind in kit.settings.formats:
        write_bytes(folder / f"kit.{kind}", WRITERS[kind](sounding))
    write_picture(folder / "kit.png", sounding)
    write_bytes(folder / "kit.txt", kit.text().encode("utf-8", "replace"))
    write_json(folder / INDEX, kit.json())


def spectral_clusters(sounds: Sequence[Spectra], most: int) -> list[list[int]]:
    """Positions of sounds in at most MOST_CLUSTERS clusters, from dark to bright, given spectra `[F, bands]` in dB each.

    Ward's method on the shape of the long-term spectrum; deterministic. Of each cluster the `most` sounds nearest to its
    mean, in their order. Raises ArtifactError for NaN and infinite values.
    """
    if not all(np.isfinite(spectra).all() for spectra in sounds):
        raise ArtifactError("expected finite spectra of the codec, found NaN or infinite values; train it again")
    shapes = np.empty((len(sounds), BANDS))  # mean power of each band in dB, relative to that of all
    for shape, spectra in zip(shapes, sounds, strict=True):
        power = (10 ** ((spectra.astype(np.float64) - spectra.max()) / 10)).mean(axis=0)
        shape[:] = 10 * np.log10(np.maximum(power / power.sum(), 1e-20))
    from scipy.cluster.hierarchy import fcluster, linkage  # it and Matplotlib take a second to load

    numbers = np.arange(len(sounds))
    if len(sounds) > 1:
        numbers = fcluster(linkage(shapes, method="ward"), MOST_CLUSTERS, criterion="maxclust")
    clusters: list[tuple[float, list[int]]] = []  # brightness, the spectral centroid, and members
    for number in np.unique(numbers):
        members = np.flatnonzero(numbers == number)
        mean = shapes[members].mean(axis=0)
        nearest = np.argsort(((shapes[members] - mean) ** 2).sum(axis=1), kind="stable")[:most]
        power = 10 ** (mean / 10)
        centroid = float((power * np.arange(len(power))).sum() / power.sum())
        clusters.append((centroid, sorted(members[nearest].tolist())))
    return [members for _, members in sorted(clusters)]


def write_picture(path: Path, groups: Sequence[KitGroup]) -> None:
    """Draw spectrograms beside `path`, as PNG: the beginning of the first sound on each of the first keys."""
    from distill.audio.plots import write_spectrograms

    sounds = []
    for group in groups[:16]:
        samples, rate = soundfile.read(path.parent / group.sounds[0].file, dtype="float32")
        title = f"{group.note} {group.key}  {group.label}{group.sounds[0].play.in_words}"
        sounds.append((title, samples[: 4 * rate]))
    write_spectrograms(path, sounds, rate)


def kit_folder(out: Path, replace: bool) -> Path:
    """The resolved path of a folder that a kit may be written to as a whole. Raises ParamsError for any other."""
    try:
        folder = out.resolve()
        wrong = _wrong_folder(folder, replace)
    except OSError as error:
        wrong = f"a folder to write to, found {error.strerror or error}; name another folder"
    if wrong:
        raise ParamsError(f"out {out}: expected {wrong}")
    return folder


def _wrong_folder(folder: Path, replace: bool) -> str:
    """What is expected in place of a folder that no kit may be written to; "" for another one."""
    if Path.cwd().is_relative_to(folder):
        return "a folder of its own, found the current folder or one above it; name a folder in it"
    with suppress(FileNotFoundError):
        folder.stat()  # from Python 3.14 on exists() takes a name that cannot be for one that is free
    if not folder.exists() or all(path.name in OF_SYSTEMS for path in folder.iterdir()):
        tempfile.TemporaryFile(dir=next(path for path in (folder, *folder.parents) if path.exists())).close()
        return ""
    if not replace:
        return "a new or an empty folder, found one with files in it; name another, or replace a kit with --replace (replace=True)"
    if strange := _strange_file(folder):
        return (
            f"a folder with a kit that Distill made and nothing else, to replace it, found {strange}; move your own files "
            "away or name another folder"
        )
    return ""


def _strange_file(folder: Path) -> str:
    """What shows that a folder is more or other than a kit; "" for a kit alone."""
    of_kits = re.compile(rf"kit\.(json|txt|png|{'|'.join(FORMATS)})|samples/\d{{3}}_[a-z0-9-]+_\d{{2}}\.wav")
    try:
        if (folder / INDEX).stat().st_size > 64 << 20 or (folder / INDEX).is_symlink():
            raise ValueError
        kit = json.loads((folder / INDEX).read_bytes())
        known = {name for name in kit["files"] if of_kits.fullmatch(name)} if kit["format"] == FORMAT else set()
    except (OSError, LookupError, TypeError, ValueError, RecursionError):
        known = set()
    if INDEX not in known:
        return f"no {INDEX} of Distill"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_changed = path.suffix in (".wav", ".png") and not made_by_distill(path)
        if path.is_symlink() or is_changed or not (path.is_dir() or name in known or path.name in OF_SYSTEMS):
            return name
    return ""
