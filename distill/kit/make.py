"""Make a kit: generate its sounds, finish them, and write the folder."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import soundfile

from distill.audio.output import Output
from distill.audio.write import audio_file, with_sampler_chunk
from distill.errors import ArtifactError
from distill.generate.context import GenerationContext
from distill.kit.finish import Finished, finish_instrument
from distill.kit.folder import kit_folder
from distill.kit.generate import Group, KitGenerator
from distill.kit.instrument import different_notes, kit_generator, with_own_note
from distill.kit.kit import INDEX, MAX_VELOCITY, ONE_SHOT, Kit, KitGroup, KitSound, in_words
from distill.kit.presets import WRITERS, file_word
from distill.kit.settings import KitSettings
from distill.storage.files import MARK, atomic_folder, write_bytes, write_json


def make_kit(context: GenerationContext, settings: KitSettings) -> Kit:
    """Make a kit in the folder `settings.out`, atomically; `settings` must have a seed.

    Context, settings and number of threads decide every byte. Raises ParamsError for an unusable folder or invalid
    labels, keys or notes, and ArtifactError if the model cannot generate or gives no usable sound.
    """
    out, settings = Path(settings.out), with_own_note(context, settings)
    generator = kit_generator(context, settings)
    output = Output(settings.sample_rate or context.sample_rate, settings.loudness)
    with atomic_folder(kit_folder(out, settings.replace)) as folder:
        groups = [
            group
            for instrument in generator.instruments()
            for group in _write_instrument(folder, instrument, generator, output)
        ]
        if not any(group.sounds for group in groups):
            drafts = sum(generator.refused.values())
            raise ArtifactError(
                f"{context.path.name}: expected sounds for the kit, found none among {drafts} drafts "
                f"({in_words(generator.refused)}); {generator.remedy}"
            )
        kit = Kit(
            folder=out,
            model=context.path.name,
            model_sha256=context.sha256,
            sample_rate=output.sample_rate,
            settings=settings,
            by_label=bool(context.labels),
            groups=tuple(sorted(groups, key=lambda group: group.key)),
            refused=generator.refused,
            one_shot_remark=context.one_shot_remark,
            tuning=generator.tuning,
        )
        _write_files(folder, kit)
        kit_folder(out, settings.replace)  # check again: it may have changed meanwhile
    settings.progress(len(kit.sounds), len(kit.sounds), "sounds written")
    return kit


def _write_instrument(
    folder: Path, instrument: Sequence[Group], generator: KitGenerator, output: Output
) -> list[KitGroup]:
    """Write the sounds of an instrument."""
    sounds = [sound for group in instrument for sound in group.generated.sounds]
    finished = iter(finish_instrument(sounds, generator.rate, output))
    layers, rate = generator.settings.velocity_layers, output.sample_rate
    groups = []
    for label, place, generated, keys in instrument:
        own = list(islice(finished, len(generated.sounds)))
        prefix = f"samples/{place.key:03d}_{file_word(label)}"
        written = _write_sounds(folder, prefix, place.key, own, layers, rate)
        is_one_note = place.is_drum or not generator.context.labels
        heard = () if is_one_note else different_notes(generator.context, generated.sounds)
        groups.append(
            KitGroup(label, *place, written, generated.missing, generated.refused, keys, heard)
        )
    return groups


def _write_sounds(
    folder: Path, prefix: str, key: int, finished: Sequence[Finished], max_layers: int, rate: int
) -> tuple[KitSound, ...]:
    """Write the sounds of a group, from soft to loud if it has layers; the names of their files begin with `prefix`."""
    layers = min(max_layers, len(finished))
    if layers > 1:
        finished = sorted(finished, key=lambda own: own.level_db)
    sounds: list[KitSound] = []
    for layer in range(layers):
        first, last = (len(finished) * edge // layers for edge in (layer, layer + 1))
        softest, loudest = (MAX_VELOCITY * edge // layers for edge in (layer, layer + 1))
        for position, own in enumerate(finished[first:last], start=1):
            file = f"{prefix}_{len(sounds) + 1:02d}.wav"
            _write_sound(folder / file, own, key, rate)
            sounds.append(
                KitSound(
                    file=file,
                    low_velocity=1 + softest,
                    high_velocity=loudest,
                    position=position,
                    round_robins=last - first,
                    seconds=len(own.samples) / rate,
                    level_db=own.level_db,
                    novelty=own.novelty,
                    play=own.play,
                    under_db=own.under_db,
                )
            )
    return tuple(sounds)


def _write_sound(path: Path, own: Finished, key: int, rate: int) -> None:
    wav = audio_file(path, own.samples, rate, "wav", MARK)
    if own.play != ONE_SHOT:
        wav = with_sampler_chunk(wav, rate, key, own.play.loop)
    write_bytes(path, wav)


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
