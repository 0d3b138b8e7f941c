"""Make a kit: finish the generated sounds, match their levels, map them to keys, write the folder."""

import json
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from distill.audio.measure import level_db
from distill.audio.output import Output, resampled
from distill.audio.write import audio_file, with_sampler_chunk
from distill.errors import ArtifactError, ParamsError
from distill.generate.context import GenerationContext
from distill.generate.decoding import in_channels
from distill.generate.selection.faults import Samples
from distill.generate.selection.rejection import GeneratedSound
from distill.kit.draw import Group, KitGenerator, different_notes, with_own_note
from distill.kit.kit import (
    FORMAT,
    INDEX,
    MOST_VELOCITY,
    ONE_SHOT,
    WRITERS,
    Kit,
    KitGroup,
    KitSound,
    Play,
    file_word,
    held,
    held_by,
    in_words,
    key_ranges,
)
from distill.kit.loops import Loop, looped_alike
from distill.kit.settings import FORMATS, KitSettings
from distill.storage.files import MARK, atomic_folder, made_by_distill, write_bytes, write_json

TRIM_DB = -60.0  # relative to the peak; both ends are trimmed at this threshold
PEAK_DB = -1.0  # dBFS, highest peak of an instrument
FADE_SECONDS = 0.02  # fade-out
LEAD_SECONDS = 0.001  # fade-in before the first sample above the threshold
REMEDIES = (  # if no sound is usable, for kits without and with notes
    "allow copies, or use another seed or temperature",
    "choose other notes, or leave notes out",
)
OF_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # left by file managers


def make_kit(context: GenerationContext, settings: KitSettings) -> Kit:
    """Make a kit in the folder `settings.out`, atomically; `settings` must have a seed.

    Context, settings and number of threads decide every byte. Raises ParamsError for an unusable folder or invalid
    labels, keys or notes, and ArtifactError if the model cannot generate or gives no usable sound.
    """
    out, settings = Path(settings.out), with_own_note(context, settings)
    drawing, groups = KitGenerator(context, settings), list[KitGroup]()
    output = Output(settings.sample_rate or context.sample_rate, settings.loudness)
    with atomic_folder(kit_folder(out, settings.replace)) as folder:
        for instrument in drawing.instruments():
            written = _write_instrument(
                folder, instrument, settings.velocity_layers, drawing.rate, output
            )
            for (label, place, drawn), sounds in zip(instrument, written, strict=True):
                heard = (
                    ()
                    if place.is_drum or not context.labels
                    else different_notes(context, drawn.sounds)
                )
                groups.append(
                    KitGroup(label, *place, sounds, drawn.missing, drawn.refused, heard=heard)
                )
        if not any(group.sounds for group in groups):
            drafts = sum(drawing.refused.values())
            raise ArtifactError(
                f"{context.path.name}: expected sounds for the kit, found none among {drafts} drafts "
                f"({in_words(drawing.refused)}); {REMEDIES[settings.notes is not None]}"
            )
        kit = Kit(
            folder=out,
            model=context.path.name,
            model_sha256=context.sha256,
            sample_rate=output.sample_rate,
            settings=settings,
            by_label=bool(context.labels),
            groups=_with_ranges(groups)
            if settings.notes
            else tuple(sorted(groups, key=lambda group: group.key)),
            refused=drawing.refused,
            untrained=context.untrained,
            tuning=drawing.tuning,
        )
        _write_files(folder, kit)
        kit_folder(out, settings.replace)  # check again: it may have changed meanwhile
    drawing.report(len(kit.sounds), len(kit.sounds), "sounds written")
    return kit


def finish(samples: Samples, sample_rate: int) -> Samples:
    """Trim silence at both ends of samples `[N]` or `[N, 2]`, which are not all silent, and fade the end."""
    magnitude = np.abs(samples).reshape(len(samples), -1).max(axis=1)
    first, last = np.flatnonzero(magnitude >= float(magnitude.max()) * _gain(TRIM_DB))[
        [0, -1]
    ].tolist()
    lead = min(first, int(LEAD_SECONDS * sample_rate))
    kept = samples[first - lead : last + 1].astype(np.float64)
    kept[:lead].T[...] *= np.linspace(0.0, 1.0, lead, endpoint=False)
    fade = min(int(FADE_SECONDS * sample_rate), len(kept) // 2)
    kept[len(kept) - fade :].T[...] *= np.linspace(1.0, 0.0, fade)
    trimmed: Samples = kept.astype(np.float32)
    return trimmed


def _gain(decibels: float) -> float:
    return float(10 ** (decibels / 20))


class _Finished(NamedTuple):
    """Sound of a group, its samples to write, its loop if any, and dB below the requested loudness."""

    sound: GeneratedSound
    samples: Samples
    loop: Loop | None
    under_db: float


def _finished(sounds: Sequence[GeneratedSound], output: Output) -> list[_Finished]:
    """Finish the sounds of an instrument: trim, loop all or none, and match level or loudness."""
    rate = output.sample_rate
    trimmed = [finish(sound.samples, rate) for sound in sounds]
    held = [
        number
        for number, sound in enumerate(sounds)
        if sound.note is not None and sound.pitch is not None
    ]
    found = looped_alike([trimmed[number] for number in held], rate, int(FADE_SECONDS * rate))
    loops = dict(zip(held, found, strict=True))
    made = [loops.get(number, (samples, None)) for number, samples in enumerate(trimmed)]
    even = [
        output.of(samples, rate) for samples in at_one_level([samples for samples, _ in made], rate)
    ]
    return [
        _Finished(sound, level.samples, loop, level.under_db)
        for sound, level, (_, loop) in zip(sounds, even, made, strict=True)
    ]


def at_one_level(sounds: Sequence[Samples], sample_rate: int) -> list[Samples]:
    """Scale sounds `[N]` or `[N, 2]`, none silent, to the highest common `level_db` with peaks up to PEAK_DB."""
    over = [
        level_db(samples, sample_rate) - 20 * np.log10(np.abs(samples).max()) for samples in sounds
    ]
    level = min(over, default=0.0) + PEAK_DB
    return [
        (samples * _gain(level - level_db(samples, sample_rate))).astype(np.float32)
        for samples in sounds
    ]


def _write_instrument(
    folder: Path, instrument: Sequence[Group], layers: int, made_at: int, output: Output
) -> list[tuple[KitSound, ...]]:
    """Write the sounds of each group of an instrument, resampled from `made_at` Hz, all mono or all stereo."""
    drawn_sounds = [sound for group in instrument for sound in group.drawn.sounds]
    channels = max((sound.samples.ndim for sound in drawn_sounds), default=1)
    sounds = [
        replace(
            sound,
            samples=resampled(in_channels(sound.samples, channels), made_at, output.sample_rate),
        )
        for sound in drawn_sounds
    ]
    left = iter(_finished(sounds, output))
    return [
        _write_sounds(
            folder,
            label,
            place.key,
            list(islice(left, len(drawn.sounds))),
            layers,
            output.sample_rate,
        )
        for label, place, drawn in instrument
    ]


def _write_sounds(
    folder: Path, label: str, key: int, finished: Sequence[_Finished], most_layers: int, rate: int
) -> tuple[KitSound, ...]:
    """Write the sounds of a group, from soft to loud if it has layers."""
    layers = min(most_layers, len(finished))
    if layers > 1:
        finished = sorted(finished, key=lambda own: level_db(own.sound.samples, rate))
    bounds = [len(finished) * layer // max(1, layers) for layer in range(layers + 1)]
    sounds: list[KitSound] = []
    for layer, (first, last) in enumerate(pairwise(bounds)):
        velocities = (1 + MOST_VELOCITY * layer // layers, MOST_VELOCITY * (layer + 1) // layers)
        for position, own in enumerate(finished[first:last], start=1):
            file = f"samples/{key:03d}_{file_word(label)}_{len(sounds) + 1:02d}.wav"
            play = _write_sound(folder / file, own, key, rate)
            seconds, level = len(own.samples) / rate, level_db(own.sound.samples, rate)
            placed = (file, *velocities, position, last - first)
            sounds.append(KitSound(*placed, seconds, level, own.sound.novelty, play, own.under_db))
    return tuple(sounds)


def _write_sound(path: Path, own: _Finished, key: int, rate: int) -> Play:
    """Write a sound and return its playback in samplers."""
    sound, loop, wav = own.sound, own.loop, audio_file(path, own.samples, rate, "wav", MARK)
    if sound.note is None or sound.pitch is None:
        write_bytes(path, wav)
        return ONE_SHOT
    tune = round(100 * (sound.note - sound.pitch))
    write_bytes(path, with_sampler_chunk(wav, rate, key, loop and loop[:2]))
    return held_by(loop, tune, rate) if loop else held(tune)


def _with_ranges(groups: Sequence[KitGroup]) -> tuple[KitGroup, ...]:
    """Add key ranges to the sorted groups of an instrument at notes; groups without sounds get none."""
    ranges = key_ranges([group.key for group in groups if group.sounds])
    return tuple(replace(group, keys=ranges.get(group.key, ())) for group in groups)


def _write_files(folder: Path, kit: Kit) -> None:
    """Write all files of a kit except its sounds."""
    sounding = [group for group in kit.groups if group.sounds]
    for kind in kit.settings.formats:
        write_bytes(folder / f"kit.{kind}", WRITERS[kind](sounding))
    write_picture(folder / "kit.png", sounding)
    write_bytes(folder / "kit.txt", kit.text().encode("utf-8", "replace"))
    write_json(folder / INDEX, kit.json())


def write_picture(path: Path, groups: Sequence[KitGroup]) -> None:
    """Draw spectrograms to the PNG `path`: 4 s of the first sound of each of the first 16 groups, next to `path`."""
    from distill.audio.plots import write_spectrograms

    sounds = []
    for group in groups[:16]:
        samples, rate = soundfile.read(path.parent / group.sounds[0].file, dtype="float32")
        title = f"{group.note} {group.key}  {group.label}{group.sounds[0].play.in_words}"
        sounds.append((title, samples[: 4 * rate]))
    write_spectrograms(path, sounds, rate)


def kit_folder(out: Path, replace: bool) -> Path:
    """Resolved path of a folder that can be replaced by a kit. Raises ParamsError if it cannot."""
    try:
        folder = out.resolve()
        wrong = _wrong_folder(folder, replace)
    except OSError as error:
        wrong = f"a folder to write to, found {error.strerror or error}; name another folder"
    if wrong:
        raise ParamsError(f"out {out}: expected {wrong}")
    return folder


def _wrong_folder(folder: Path, replace: bool) -> str:
    """Why a kit cannot be written to a folder: expected, found, and what to do; "" if it can."""
    if Path.cwd().is_relative_to(folder):
        return "a folder of its own, found the current folder or one above it; name a folder in it"
    with suppress(FileNotFoundError):
        folder.stat()  # raises for an impossible name; from Python 3.14 on, exists() returns False
    if not folder.exists() or all(path.name in OF_SYSTEMS for path in folder.iterdir()):
        tempfile.TemporaryFile(
            dir=next(path for path in (folder, *folder.parents) if path.exists())
        ).close()
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
    """First file that does not belong to a kit, or a missing index; "" for a kit and nothing else."""
    of_kits = re.compile(
        rf"kit\.(json|txt|png|{'|'.join(FORMATS)})|samples/\d{{3}}_[a-z0-9-]+_\d{{2}}\.wav"
    )
    try:
        if (folder / INDEX).stat().st_size > 64 << 20 or (folder / INDEX).is_symlink():
            raise ValueError
        kit = json.loads((folder / INDEX).read_bytes())
        known = (
            {name for name in kit["files"] if of_kits.fullmatch(name)}
            if kit["format"] == FORMAT
            else set()
        )
    except (OSError, LookupError, TypeError, ValueError, RecursionError):
        known = set()
    if INDEX not in known:
        return f"no {INDEX} of Distill"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_changed = path.suffix in (".wav", ".png") and not made_by_distill(path)
        if (
            path.is_symlink()
            or is_changed
            or not (path.is_dir() or name in known or path.name in OF_SYSTEMS)
        ):
            return name
    return ""
