"""Make a kit: finish the generated sounds, match their levels, map them to keys, write the folder."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import soundfile

from distill.audio.measure import level_db
from distill.audio.output import Output, resampled
from distill.audio.write import audio_file, with_sampler_chunk
from distill.errors import ArtifactError
from distill.generate.context import GenerationContext
from distill.generate.sounds import in_channels
from distill.kit.finish import Finished, finish_instrument
from distill.kit.folder import kit_folder
from distill.kit.generate import Group
from distill.kit.instrument import different_notes, kit_generator, with_own_note
from distill.kit.keys import key_ranges
from distill.kit.kit import (
    INDEX,
    MOST_VELOCITY,
    ONE_SHOT,
    Kit,
    KitGroup,
    KitSound,
    Play,
    held,
    held_by,
    in_words,
)
from distill.kit.presets import WRITERS, file_word
from distill.kit.settings import KitSettings
from distill.storage.files import MARK, atomic_folder, write_bytes, write_json

REMEDIES = (  # if no sound is usable, for kits without and with notes
    "allow copies, or use another seed or temperature",
    "choose other notes, or leave notes out",
)


def make_kit(context: GenerationContext, settings: KitSettings) -> Kit:
    """Make a kit in the folder `settings.out`, atomically; `settings` must have a seed.

    Context, settings and number of threads decide every byte. Raises ParamsError for an unusable folder or invalid
    labels, keys or notes, and ArtifactError if the model cannot generate or gives no usable sound.
    """
    out, settings = Path(settings.out), with_own_note(context, settings)
    generator, groups = kit_generator(context, settings), list[KitGroup]()
    output = Output(settings.sample_rate or context.sample_rate, settings.loudness)
    with atomic_folder(kit_folder(out, settings.replace)) as folder:
        for instrument in generator.instruments():
            written = _write_instrument(
                folder, instrument, settings.velocity_layers, generator.rate, output
            )
            for (label, place, generated), sounds in zip(instrument, written, strict=True):
                heard = (
                    ()
                    if place.is_drum or not context.labels
                    else different_notes(context, generated.sounds)
                )
                groups.append(
                    KitGroup(
                        label, *place, sounds, generated.missing, generated.refused, heard=heard
                    )
                )
        if not any(group.sounds for group in groups):
            drafts = sum(generator.refused.values())
            raise ArtifactError(
                f"{context.path.name}: expected sounds for the kit, found none among {drafts} drafts "
                f"({in_words(generator.refused)}); {REMEDIES[settings.notes is not None]}"
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
            refused=generator.refused,
            untrained=context.untrained,
            tuning=generator.tuning,
        )
        _write_files(folder, kit)
        kit_folder(out, settings.replace)  # check again: it may have changed meanwhile
    settings.progress(len(kit.sounds), len(kit.sounds), "sounds written")
    return kit


def _write_instrument(
    folder: Path, instrument: Sequence[Group], layers: int, made_at: int, output: Output
) -> list[tuple[KitSound, ...]]:
    """Write the sounds of each group of an instrument, resampled from `made_at` Hz, all mono or all stereo."""
    drawn_sounds = [sound for group in instrument for sound in group.generated.sounds]
    channels = max((sound.samples.ndim for sound in drawn_sounds), default=1)
    sounds = [
        replace(
            sound,
            samples=resampled(in_channels(sound.samples, channels), made_at, output.sample_rate),
        )
        for sound in drawn_sounds
    ]
    left = iter(finish_instrument(sounds, output))
    return [
        _write_sounds(
            folder,
            label,
            place.key,
            list(islice(left, len(generated.sounds))),
            layers,
            output.sample_rate,
        )
        for label, place, generated in instrument
    ]


def _write_sounds(
    folder: Path, label: str, key: int, finished: Sequence[Finished], most_layers: int, rate: int
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


def _write_sound(path: Path, own: Finished, key: int, rate: int) -> Play:
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
