"""Making of a kit: draw sounds for each label or cluster, finish them, lay them out on keys, write the folder."""

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from distill.audio.write import write_audio
from distill.codec.model import VQVAE
from distill.errors import ArtifactError, ParamsError
from distill.generate.constants import MOST_DRAWS
from distill.generate.sampling import Sampling
from distill.generate.sounds import Checks, GenerationRequest, Sound, generate_batches
from distill.kit.formats import WRITERS, Samples, Thumbnail, file_word, thumbnail, write_picture
from distill.kit.keys import KEYS, Key, assign_keys
from distill.kit.kit import (
    FADE_SECONDS,
    FORMAT,
    INDEX,
    MOST_CLUSTERS,
    PEAK_DB,
    TRIM_DB,
    Kit,
    KitFormat,
    KitGroup,
    KitSettings,
    KitSound,
    Refused,
    velocity_layers,
)
from distill.novelty.report import Comparison
from distill.novelty.spectra import CodeSpectra, Spectra
from distill.prior.base import Prior
from distill.seeds import Stream, derive_seed
from distill.status import Progress
from distill.storage.files import atomic_folder, write_bytes, write_json
from distill.text import one_line

POOL = 2  # sounds that clusters are made of, for each that they can hold
SAMPLES = "samples"  # folder of the sounds within a kit
SILENT_DB = -60.0  # dBFS: a sound whose peak is lower is silent
LEAD_SECONDS = 0.001  # kept before the first sample above the threshold, faded in
LEVEL_SECONDS = 0.05  # window of the level
LEAST_BAND_DB = -200.0  # of a cluster's spectrum
MOST_BYTES = 64 << 20  # of a kit.json that is read
NAMES = re.compile(r"kit\.(json|txt|png|sfz|dspreset)|samples/\d{3}_[a-z0-9-]+_\d{2}\.wav")  # of a kit's files

Report = Callable[[int, str], None]
"""Shows how many sounds of a group there are, and a text."""


@dataclass(frozen=True)
class Draws:
    """Sounds in the order of drawing, how many draws were refused, and how many are missing after MOST_DRAWS draws."""

    sounds: list[Sound]
    refused: Refused
    missing: int


@dataclass(frozen=True)
class KitSource:
    """What a kit is made from: codec, prior, comparison (None without a reference), name of the model and its hash."""

    codec: VQVAE
    prior: Prior | None
    comparison: Comparison | None
    model: str
    model_sha256: str


def check_labels(count: int) -> None:
    """Refuse more labels than there are keys. Raises ParamsError."""
    if count > len(KEYS):
        raise ParamsError(
            f"kit: expected at most {len(KEYS)} labels, one for each MIDI key, found {count}; choose some with --label"
        )


def make_kit(
    out: Path,
    source: KitSource,
    settings: KitSettings,
    labels: Sequence[tuple[int, str]],
    formats: Sequence[KitFormat],
    replace_kit: bool = False,
    progress: Progress | None = None,
) -> Kit:
    """Make a kit of `labels` with their numbers (none: clusters) in the folder `out`, which appears whole or not at all.

    The same source and settings give the same bytes. `progress` is called with (done, of, text). Raises ParamsError for
    a folder that cannot be used or too many labels, ArtifactError when the model cannot generate or gives no sound to
    use.
    """
    check_labels(len(labels))
    folder = kit_folder(out, replace_kit)
    rate = source.codec.spectrogram.sample_rate
    with atomic_folder(folder) as temporary:
        groups: list[KitGroup] = []
        rows: dict[int, list[Thumbnail]] = {}
        pool = None if labels else _pool(source, settings, progress)
        drawn = _labelled(source, settings, labels, progress) if pool is None else _clusters(source, settings, pool)
        for label, key, draws in drawn:
            group, rows[key.number] = _write_group(temporary, label, key, draws, settings, rate)
            groups.append(group)
        groups.sort(key=lambda group: group.key.number)
        refused = sum((group.refused for group in groups), Refused()) if pool is None else pool.refused
        names = [f"kit.{kind}" for kind in formats]
        files = (INDEX, "kit.png", *names, "kit.txt", *(sound.file for group in groups for sound in group.sounds))
        kit = Kit(
            folder=out,
            files=tuple(sorted(files)),
            model=source.model,
            model_sha256=source.model_sha256,
            sample_rate=rate,
            settings=settings,
            groups=tuple(groups),
            refused=refused,
        )
        if not kit.sounds:
            raise ArtifactError(
                f"expected sounds for the kit, found none in {MOST_DRAWS} draws for each place ({refused.words}); "
                "allow copies with --allow-copies, or use another --seed or --temperature"
            )
        for kind in formats:
            write_bytes(temporary / f"kit.{kind}", WRITERS[kind](kit.sounding))
        titles = [(f"{one.key.name} {one.key.number}  {one.label}", rows[one.key.number]) for one in kit.sounding]
        write_picture(temporary / "kit.png", titles)
        write_bytes(temporary / "kit.txt", kit.text().encode("utf-8", "replace"))
        write_json(temporary / INDEX, kit.json())
        kit_folder(out, replace_kit)  # it may have changed while sounds were drawn
    if progress is not None:
        progress(len(kit.sounds), len(kit.sounds), "sounds written")
    return kit


def draw_sounds(
    source: KitSource,
    request: GenerationRequest,
    seed_of: Callable[[int], int],
    allow_copies: bool = False,
    report: Report | None = None,
) -> Draws:
    """Draw `request.count` sounds; silent ones, copies and repeats are drawn again.

    Attempt `n` draws those that are still missing, from the seed `seed_of(n)`. Raises as `generate_batches`.
    """
    codec = source.codec
    rate = codec.spectrogram.sample_rate
    longest = max(1, round(request.max_seconds * rate))
    sounds: list[Sound] = []
    seen: set[bytes] = set()
    refused = Refused()
    for attempt in range(MOST_DRAWS):
        missing = request.count - len(sounds)
        if not missing:
            break
        rest, checks = replace(request, count=missing), Checks(source.comparison)
        frames = None if report is None else _frames(report, len(sounds))
        for batch in generate_batches(codec, source.prior, rest, seed_of(attempt), checks, frames):
            for drawn in batch.sounds:
                sound = replace(drawn, samples=drawn.samples[:longest])
                if is_silent(sound.samples):
                    refused += Refused(silent=1)
                elif not allow_copies and sound.novelty is not None and sound.novelty.verdict == "copy":
                    refused += Refused(copies=1)
                elif sound.codes.tobytes() in seen:
                    refused += Refused(repeats=1)
                else:
                    seen.add(sound.codes.tobytes())
                    sounds.append(sound)
    return Draws(sounds, refused, request.count - len(sounds))


def is_silent(samples: Samples) -> bool:
    """Whether the peak of samples `[N]` is below SILENT_DB."""
    return float(np.abs(samples).max(initial=0.0)) < _gain(SILENT_DB)


def finish(samples: Samples, sample_rate: int) -> Samples:
    """Trim samples `[N]` of silence, fade the end, normalise the peak; not of a silent sound."""
    magnitude = np.abs(samples)
    audible = np.flatnonzero(magnitude >= float(magnitude.max()) * _gain(TRIM_DB))
    start = max(0, int(audible[0]) - int(LEAD_SECONDS * sample_rate))
    kept = samples[start : int(audible[-1]) + 1].astype(np.float64)
    lead = int(audible[0]) - start
    kept[:lead] *= np.linspace(0.0, 1.0, lead, endpoint=False)
    fade = min(int(FADE_SECONDS * sample_rate), len(kept) // 2)
    kept[len(kept) - fade :] *= np.linspace(1.0, 0.0, fade)
    normalised: Samples = (kept * (_gain(PEAK_DB) / np.abs(kept).max())).astype(np.float32)
    return normalised


def level_db(samples: Samples, sample_rate: int) -> float:
    """Level of samples `[N]` in dBFS: the RMS of the loudest 50 ms."""
    window = max(1, min(len(samples), round(LEVEL_SECONDS * sample_rate)))
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    return float(10 * np.log10((energy[window:] - energy[:-window]).max() / window))


def spectral_clusters(sounds: Sequence[Spectra], most: int) -> list[list[int]]:
    """Positions of sounds in at most MOST_CLUSTERS clusters, from dark to bright, given spectra `[F, bands]` in dB each.

    Ward's method on the shape of the long-term spectrum; deterministic. Of each cluster the `most` sounds nearest to its
    mean, in their order. Raises ArtifactError for NaN and infinite values.
    """
    if not sounds:
        return []
    if not all(np.isfinite(spectra).all() for spectra in sounds):
        raise ArtifactError("expected finite spectra of the codec, found NaN or infinite values; train it again")
    shapes = np.stack([_shape(spectra.astype(np.float64)) for spectra in sounds])  # [sounds, bands]
    number: NDArray[np.int32] = np.ones(1, dtype=np.int32)
    if len(sounds) > 1:
        number = fcluster(linkage(shapes, method="ward"), MOST_CLUSTERS, criterion="maxclust")
    clusters = [np.flatnonzero(number == one) for one in np.unique(number)]
    clusters.sort(key=lambda members: (_brightness(shapes[members].mean(axis=0)), int(members[0])))
    return [_nearest(shapes, members, most) for members in clusters]


def _labelled(
    source: KitSource, settings: KitSettings, labels: Sequence[tuple[int, str]], progress: Progress | None
) -> Iterator[tuple[str, Key, Draws]]:
    """The sounds of each label, with its key."""
    each, total = settings.per_label, settings.per_label * len(labels)
    keys = assign_keys([label for _, label in labels])
    for position, ((number, label), key) in enumerate(zip(labels, keys, strict=True)):
        report = _counter(progress, position * each, total, f"sounds, {one_line(label, 40)}")
        yield label, key, _draw(source, settings, number, each, report)


def _pool(source: KitSource, settings: KitSettings, progress: Progress | None) -> Draws:
    """The sounds that clusters are made of."""
    count = POOL * MOST_CLUSTERS * settings.per_label
    return _draw(source, settings, 0, count, _counter(progress, 0, count, "sounds to choose from"))


def _clusters(source: KitSource, settings: KitSettings, pool: Draws) -> Iterator[tuple[str, Key, Draws]]:
    """Clusters of the sounds in a pool, from dark to bright, with their keys."""
    spectra = CodeSpectra(source.codec)
    clusters = spectral_clusters([spectra(sound.codes) for sound in pool.sounds], settings.per_label)
    names = [f"group {number}" for number in range(1, len(clusters) + 1)]
    for name, key, members in zip(names, assign_keys(names), clusters, strict=True):
        yield name, key, Draws([pool.sounds[one] for one in members], Refused(), 0)


def _draw(source: KitSource, settings: KitSettings, label: int, count: int, report: Report | None) -> Draws:
    sampling = Sampling(settings.temperature, guidance=settings.guidance if label else 1.0)
    request = GenerationRequest(count, settings.seconds, sampling=sampling, label=label)

    def seed_of(attempt: int) -> int:
        return derive_seed(settings.seed, Stream.KIT_SOUNDS, label, attempt)

    return draw_sounds(source, request, seed_of, settings.allow_copies, report)


def _write_group(
    folder: Path, label: str, key: Key, draws: Draws, settings: KitSettings, rate: int
) -> tuple[KitGroup, list[Thumbnail]]:
    """Write the sounds of a group, soft ones first where there are layers."""
    drawn = draws.sounds
    layers = velocity_layers(len(drawn), settings.velocity_layers) if drawn else []
    if len(layers) > 1:
        drawn = sorted(drawn, key=lambda one: level_db(one.samples, rate))
    sounds: list[KitSound] = []
    pictures: list[Thumbnail] = []
    for count, velocities in layers:
        for position in range(1, count + 1):
            source = drawn[len(sounds)]
            samples = finish(source.samples, rate)
            sound = KitSound(
                file=f"{SAMPLES}/{key.number:03d}_{file_word(label)}_{len(sounds) + 1:02d}.wav",
                low_velocity=velocities[0],
                high_velocity=velocities[-1],
                position=position,
                round_robins=count,
                seconds=len(samples) / rate,
                level_db=level_db(source.samples, rate),
                novelty=source.novelty,
            )
            write_audio(folder / sound.file, samples, rate)
            pictures.append(thumbnail(samples, rate, sound.verdict))
            sounds.append(sound)
    return KitGroup(label, key, tuple(sounds), draws.missing, draws.refused), pictures


def _counter(progress: Progress | None, before: int, total: int, text: str) -> Report | None:
    """Progress over all sounds, from the number of sounds that one group has."""
    if progress is None:
        return None
    return lambda found, frames: progress(before + found, total, f"{text}: {frames}")


def _frames(report: Report, found: int) -> Progress:
    return lambda done, of, _: report(found, f"frame {done} of {of}")


def _gain(decibels: float) -> float:
    return float(10 ** (decibels / 20))


def _shape(spectra: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean power of each band in dB `[bands]`, relative to that of all bands and at least LEAST_BAND_DB."""
    power = (10 ** ((spectra - spectra.max()) / 10)).mean(axis=0)
    shape: NDArray[np.float64] = 10 * np.log10(np.maximum(power / power.sum(), 10 ** (LEAST_BAND_DB / 10)))
    return shape


def _brightness(shape: NDArray[np.float64]) -> float:
    """Spectral centroid of a shape, in bands."""
    power = 10 ** (shape / 10)
    return float((power * np.arange(len(power))).sum() / power.sum())


def _nearest(shapes: NDArray[np.float64], members: NDArray[np.intp], most: int) -> list[int]:
    distance = ((shapes[members] - shapes[members].mean(axis=0)) ** 2).sum(axis=1)
    return sorted(int(one) for one in members[np.argsort(distance, kind="stable")[:most]])


def kit_folder(out: Path, replace: bool) -> Path:
    """The resolved path of a folder that a kit may be written to as a whole. Raises ParamsError for any other."""
    try:
        folder = out.resolve()
        if Path.cwd().is_relative_to(folder):
            raise _refused(out, "a folder of its own", "the current folder or one above it; name a folder in it")
        if folder.is_dir():
            _check_content(out, folder, replace)
        elif folder.exists():
            raise _refused(out, "a folder", "a file; name another folder")
        above = next(parent for parent in folder.parents if parent.exists())
        if not above.is_dir():
            raise _refused(out, "a folder to make it in", f"a file, {above}; name another folder")
        tempfile.TemporaryFile(dir=above).close()
    except OSError as error:
        raise _refused(out, "a folder to write to", f"{error.strerror or error}; name another folder") from error
    return folder


def _check_content(out: Path, folder: Path, replace: bool) -> None:
    if not any(folder.iterdir()):
        return
    if not replace:
        wanted = "a new or an empty folder"
        raise _refused(out, wanted, "one with files in it; name another folder, or replace a kit with --replace")
    strange = _strange_file(folder)
    if strange is not None:
        wanted = "a folder with a kit that Distill made and nothing else, to replace it"
        raise _refused(out, wanted, f"{strange}; move your own files away or name another folder")


def _strange_file(folder: Path) -> str | None:
    """What shows that a folder is more or other than a kit; None for a kit alone."""
    index = folder / INDEX
    if index.is_symlink() or not index.is_file() or index.stat().st_size > MOST_BYTES:
        return f"no {INDEX}"
    try:
        kit: Any = json.loads(index.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        kit = None
    files = kit.get("files") if isinstance(kit, dict) and kit.get("format") == FORMAT else None
    if not isinstance(files, list):
        return f"another {INDEX}"
    known = {name for name in files if isinstance(name, str) and NAMES.fullmatch(name)}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or name in known):
            return name
    return None


def _refused(out: Path, expected: str, found: str) -> ParamsError:
    return ParamsError(f"--out {out}: expected {expected}, found {found}")
