"""Making of a kit: draw sounds for each label or cluster, lay them out on keys, write the folder."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.audio.write import write_audio
from distill.errors import ArtifactError, ParamsError
from distill.generate.sampling import Sampling
from distill.generate.sounds import MOST_DRAWS, Wanted
from distill.kit.clusters import MOST_CLUSTERS, spectral_clusters
from distill.kit.draws import Draws, Refused, Source, Take
from distill.kit.formats import WRITERS
from distill.kit.keys import KEYS, Key, assign_keys
from distill.kit.names import file_word
from distill.kit.picture import Thumbnail, thumbnail, write_picture
from distill.kit.place import kit_folder
from distill.kit.report import kit_text
from distill.kit.result import INDEX, Kit, KitGroup, KitSound, sounding, velocity_layers
from distill.kit.settings import KitFormat, KitSettings
from distill.novelty.spectral_space import CodeSpectra
from distill.seeds import Stream, derive_seed
from distill.status import Progress
from distill.storage.files import atomic_folder, write_bytes, write_json
from distill.text import one_line

POOL = 2  # sounds that clusters are made of, for each that they can hold
SAMPLES = "samples"  # folder of the sounds within a kit


@dataclass(frozen=True)
class KitRequest:
    """What to make: settings, the labels with their numbers (none: clusters), formats, and the model's identity."""

    settings: KitSettings
    labels: Sequence[tuple[int, str]]
    formats: Sequence[KitFormat]
    model: str
    model_sha256: str


def check_labels(count: int) -> None:
    """Refuse more labels than there are keys. Raises ParamsError."""
    if count > len(KEYS):
        raise ParamsError(
            f"kit: expected at most {len(KEYS)} labels, one for each MIDI key, found {count}; choose some with --label"
        )


def make_kit(
    out: Path, source: Source, request: KitRequest, replace_kit: bool = False, progress: Progress | None = None
) -> Kit:
    """Make a kit in the folder `out`, which appears as a whole or not at all.

    The same request gives the same bytes. `progress` is called with (done, of, text). Raises ParamsError for a folder
    that cannot be used or too many labels, ArtifactError when the model cannot generate or gives no sound to use.
    """
    check_labels(len(request.labels))
    folder = kit_folder(out, replace_kit)
    rate = source.codec.spectrogram.sample_rate
    with atomic_folder(folder) as temporary:
        groups: list[KitGroup] = []
        rows: dict[int, list[Thumbnail]] = {}
        pool = None if request.labels else _pool(source, request, progress)
        drawn = _labelled(source, request, progress) if pool is None else _clusters(source, request, pool)
        for label, key, draws in drawn:
            group, rows[key.number] = _write_group(temporary, label, key, draws, request.settings, rate)
            groups.append(group)
        groups.sort(key=lambda group: group.key.number)
        audible = sounding(groups)
        refused = sum((group.refused for group in groups), Refused()) if pool is None else pool.refused
        if not audible:
            raise ArtifactError(
                f"expected sounds for the kit, found none in {MOST_DRAWS} draws for each place ({refused.words}); "
                "allow copies with --allow-copies, or use another --seed or --temperature"
            )
        names = [f"kit.{kind}" for kind in request.formats]
        files = (INDEX, "kit.png", *names, "kit.txt", *(sound.file for group in groups for sound in group.sounds))
        kit = Kit(
            folder=out,
            files=tuple(sorted(files)),
            model=request.model,
            model_sha256=request.model_sha256,
            sample_rate=rate,
            settings=request.settings,
            groups=tuple(groups),
            refused=refused,
        )
        for kind in request.formats:
            write_bytes(temporary / f"kit.{kind}", WRITERS[kind](audible))
        titles = [(f"{group.key.name} {group.key.number}  {group.label}", rows[group.key.number]) for group in audible]
        write_picture(temporary / "kit.png", titles)
        write_bytes(temporary / "kit.txt", kit_text(kit).encode("utf-8", "replace"))
        write_json(temporary / INDEX, kit.json())
        kit_folder(out, replace_kit)  # it may have changed while sounds were drawn
    if progress is not None:
        progress(len(kit.sounds), len(kit.sounds), "sounds written")
    return kit


def _labelled(source: Source, request: KitRequest, progress: Progress | None) -> Iterator[tuple[str, Key, Draws]]:
    """The sounds of each label, with its key."""
    each, total = request.settings.per_label, request.settings.per_label * len(request.labels)
    keys = assign_keys([label for _, label in request.labels])
    for position, ((number, label), key) in enumerate(zip(request.labels, keys, strict=True)):
        report = _counter(progress, position * each, total, f"sounds, {one_line(label, 40)}")
        yield label, key, _draw(source, request, number, each, report)


def _pool(source: Source, request: KitRequest, progress: Progress | None) -> Draws:
    """The sounds that clusters are made of."""
    count = POOL * MOST_CLUSTERS * request.settings.per_label
    return _draw(source, request, 0, count, _counter(progress, 0, count, "sounds to choose from"))


def _clusters(source: Source, request: KitRequest, pool: Draws) -> Iterator[tuple[str, Key, Draws]]:
    """Clusters of the sounds in a pool, from dark to bright, with their keys."""
    spectra = CodeSpectra(source.codec)
    clusters = spectral_clusters([spectra(take.codes) for take in pool.takes], request.settings.per_label)
    names = [f"group {number}" for number in range(1, len(clusters) + 1)]
    for name, key, members in zip(names, assign_keys(names), clusters, strict=True):
        yield name, key, Draws([pool.takes[one] for one in members], Refused(), 0)


def _draw(
    source: Source, request: KitRequest, label: int, count: int, report: Callable[[int, str], None] | None
) -> Draws:
    settings = request.settings
    sampling = Sampling(settings.temperature, guidance=settings.guidance if label else 1.0)
    wanted = Wanted(count, settings.seconds, sampling=sampling, label=label)

    def seed_of(attempt: int) -> int:
        return derive_seed(request.settings.seed, Stream.KIT_SOUNDS, label, attempt)

    return source.draw(wanted, seed_of, settings.allow_copies, report)


def _write_group(
    folder: Path, label: str, key: Key, draws: Draws, settings: KitSettings, rate: int
) -> tuple[KitGroup, list[Thumbnail]]:
    """Write the sounds of a group, soft ones first where there are layers."""
    takes = draws.takes
    layers = velocity_layers(len(takes), settings.velocity_layers) if takes else []
    if len(layers) > 1:
        takes = sorted(takes, key=lambda take: take.finished.level_db)
    sounds: list[KitSound] = []
    pictures: list[Thumbnail] = []
    for count, velocities in layers:
        for position in range(1, count + 1):
            take = takes[len(sounds)]
            file = f"{SAMPLES}/{key.number:03d}_{file_word(label)}_{len(sounds) + 1:02d}.wav"
            sound = _sound(take, file, velocities, position, count, rate)
            write_audio(folder / file, take.finished.samples, rate)
            pictures.append(thumbnail(take.finished.samples, rate, sound.verdict))
            sounds.append(sound)
    return KitGroup(label, key, tuple(sounds), draws.missing, draws.refused), pictures


def _sound(take: Take, file: str, velocities: range, position: int, count: int, rate: int) -> KitSound:
    return KitSound(
        file=file,
        low_velocity=velocities[0],
        high_velocity=velocities[-1],
        position=position,
        round_robins=count,
        seconds=len(take.finished.samples) / rate,
        level_db=take.finished.level_db,
        novelty=take.novelty,
    )


def _counter(progress: Progress | None, before: int, total: int, text: str) -> Callable[[int, str], None] | None:
    """Progress over all sounds, from the number of sounds that one group has."""
    if progress is None:
        return None
    return lambda found, frames: progress(before + found, total, f"{text}: {frames}")
