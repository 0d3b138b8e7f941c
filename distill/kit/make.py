"""Making of a kit: draw sounds for each label or cluster, finish them, lay them out on keys, write the folder."""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

from distill.audio.write import audio_file, with_sampler_chunk
from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.errors import ArtifactError, ParamsError
from distill.generate.faults import FaultFinder
from distill.generate.sampling import Sampling
from distill.generate.sounds import (
    COARSE_FROM,
    IN_TUNE,
    MISTUNED,
    MOST_DRAWS,
    Checks,
    GenerationRequest,
    Samples,
    Sound,
    decode_sounds,
    draw_again,
    frames_for_seconds,
    generate_sounds,
)
from distill.generate.tuner import Tuner
from distill.kit.kit import (
    FORMAT,
    INDEX,
    MOST_CLUSTERS,
    MOST_VELOCITY,
    WRITERS,
    Kit,
    KitGroup,
    KitSettings,
    KitSound,
    Place,
    assign_keys,
    file_word,
    in_words,
    key_ranges,
)
from distill.kit.loops import Doubles, looped
from distill.novelty.spectra import BANDS, CodeSpectra, Spectra
from distill.novelty.verdict import Judge
from distill.prior.base import Prior
from distill.progress import Progress
from distill.seeds import Stream, derive_seed
from distill.storage.files import MARK, atomic_folder, made_by_distill, write_bytes, write_json
from distill.text import one_line

POOL = 2  # sounds that clusters and instruments are made of, for each that they can hold
SAMPLES = "samples"  # folder of the sounds within a kit
TRIM_DB = -60.0  # relative to a sound's peak: what is lower at both ends is cut off
PEAK_DB = -1.0  # dBFS of every sound
FADE_SECONDS = 0.02  # at the end of a sound
SILENT_DB = -60.0  # of the peak, relative to the loudest recording: what is lower is silent, if recordings are unknown
LEAD_SECONDS = 0.001  # kept before the first sample above the threshold, faded in
LEVEL_SECONDS = 0.05  # window of the level
LEAST_BAND_DB = -200.0  # of a cluster's spectrum
MOST_BYTES = 64 << 20  # of a kit.json that is read
NAMES = re.compile(r"kit\.(json|txt|png|sfz|dspreset)|samples/\d{3}_[a-z0-9-]+_\d{2}\.wav")  # of a kit's files
OF_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what file managers leave in a folder that they showed
MOST_ROWS, MOST_SECONDS = 16, 4  # of the picture: keys, and of a sound

Report = Callable[[int, str], None]


@dataclass(frozen=True)
class KitSource:
    """What a kit is made from: codec, prior, judge and finder (None without a reference), name of the model and its hash.

    `tuner` brings sounds to the notes of an instrument. With `recording_at`, which gives the codes `[F, Q]` of a recording
    at a note, or as it is for None, sounds are takes of it. `untrained` is the sentence of a model for which nothing was
    trained.
    """

    codec: VQVAE
    prior: Prior | None
    judge: Judge | None
    finder: FaultFinder | None
    model: str
    model_sha256: str
    labels: Sequence[str]  # all that the model has
    tuner: Tuner | None = None
    recording_at: Callable[[int | None], Codes] | None = None
    untrained: str = ""


def make_kit(
    out: Path,
    source: KitSource,
    settings: KitSettings,
    labels: Sequence[tuple[int, str]],
    given_keys: Mapping[str, int],
    replace_kit: bool = False,
    progress: Progress | None = None,
) -> Kit:
    """Make a kit of `labels` with their numbers (none: clusters) in the folder `out`, which appears whole or not at all.

    Of a label in `given_keys` its key is that.
    The same source and settings give the same bytes. `progress` is called with (done, of, text). Raises ParamsError for
    a folder that cannot be used or too many labels, ArtifactError when the model cannot generate or gives no sound to
    use.
    """
    each, rate, refused = settings.per_label, source.codec.spectrogram.sample_rate, Counter[str]()
    notes, groups = settings.sampled, list[KitGroup]()
    if notes:
        names = [labels[0][1] if labels else Path(source.model).stem] * len(notes)
        places, total = [Place(note, False, False) for note in notes], POOL * each
    else:
        names = [label for _, label in labels] or [f"group {number}" for number in range(1, MOST_CLUSTERS + 1)]
        places, total = assign_keys(names, source.labels, given_keys), each * (len(labels) or POOL * MOST_CLUSTERS)

    def report(found: int, text: str) -> None:
        if progress is not None:
            what = f"sounds, {one_line(names[len(groups)], 40)}" if labels or notes else "sounds to choose from"
            progress(len(groups) * each + found, total, f"{what}: {text}")

    def drawn() -> Iterator[tuple[list[Sound], int, Counter[str]]]:
        """The sounds of each group, with how many are missing and which draws were refused for it."""
        if notes:
            made = draw_instrument(source, settings, labels[0][0] if labels else 0, notes, report)
            yield from ((made[note][0], each - len(made[note][0]), made[note][1]) for note in notes)
            return
        for number, _ in labels:
            sounds, found = draw_sounds(source, settings, number, each, report)
            yield sounds, each - len(sounds), found
        if not labels:
            pool, found = draw_sounds(source, settings, 0, total, report)
            refused.update(found)
            spectra = CodeSpectra(source.codec)
            for members in spectral_clusters([spectra(sound.codes) for sound in pool], each):
                yield [pool[one] for one in members], 0, Counter()

    with atomic_folder(kit_folder(out, replace_kit)) as temporary:
        for label, place, (drawings, missing, found) in zip(names, places, drawn(), strict=bool(labels or notes)):
            refused.update(found)
            sounds = _write_sounds(temporary, label, place.key, drawings, settings, rate)
            groups.append(KitGroup(label, *place, sounds, missing, found))
        groups.sort(key=lambda group: group.key)
        if notes and any(group.sounds for group in groups):
            ranges = key_ranges([group.key for group in groups if group.sounds])
            groups = [replace(group, keys=ranges.get(group.key)) for group in groups]
        kit = Kit(out, source.model, source.model_sha256, rate, settings, tuple(groups), refused, source.untrained)
        if not kit.sounds:
            raise ArtifactError(
                f"{source.model}: expected sounds for the kit, found none in {MOST_DRAWS} draws for each place "
                f"({in_words(refused)}); allow copies, or use another seed or temperature"
            )
        _write_files(temporary, kit)
        kit_folder(out, replace_kit)  # it may have changed while sounds were drawn
    if progress is not None:
        progress(len(kit.sounds), len(kit.sounds), "sounds written")
    return kit


@dataclass(frozen=True)
class JudgeAlone(Checks):
    """Judges sounds and refuses none: a kit has reasons of its own."""

    def refusal(self, _: Sound) -> str:
        """None."""
        return ""


def request_of(source: KitSource, settings: KitSettings, label: int, count: int, note: int | None) -> GenerationRequest:
    """The request for sounds of a label, or takes of a recording if the source is one, at `note` if any."""
    request = GenerationRequest(
        count,
        settings.seconds,
        sampling=Sampling(settings.temperature, guidance=settings.guidance if label else 1.0),
        label=label,
        notes=() if note is None else (note,),
        follow_tones=source.recording_at is not None and note is not None,
    )
    if source.recording_at is None:
        return request
    recording = source.recording_at(note)[: frames_for_seconds(source.codec, settings.seconds)]
    seconds = len(recording) / source.codec.spectrogram.frame_rate
    return replace(request, max_seconds=seconds, natural_ending=False, recording=recording, strength=COARSE_FROM)


def draw_sounds(
    source: KitSource,
    settings: KitSettings,
    label: int,
    count: int,
    report: Report = lambda *_: None,
    note: int | None = None,
) -> tuple[list[Sound], Counter[str]]:
    """Draw `count` sounds, fewer if there are not more, at `note` if any, and count the refused draws, by reason.

    `report` is called with the number of sounds that there are, and a text. Raises as `generate_sounds`.
    """
    seen, longest = set[bytes](), max(1, round(settings.seconds * source.codec.spectrogram.sample_rate))
    request, checks = request_of(source, settings, label, count, note), JudgeAlone(source.judge, tuner=source.tuner)

    def draw(numbers: Sequence[int], attempt: int) -> list[Sound]:
        def progress(done: int, of: int, _: str) -> None:
            report(count - len(numbers), f"frame {done} of {of}")

        seed = derive_seed(settings.seed, Stream.KIT_SOUNDS, label, attempt)
        again = replace(request, count=len(numbers))
        drawn = generate_sounds(source.codec, source.prior, again, seed, checks, progress).drawn
        return [replace(sound, samples=sound.samples[:longest]) for sound in drawn.values()]

    def refusal(sound: Sound) -> str:
        codes = sound.codes.tobytes()
        if is_silent(source, sound):
            return "silent"
        if not settings.allow_copies and sound.novelty is not None and sound.novelty.verdict == "copy":
            return "copies"
        if not sound.is_at_note:
            return MISTUNED
        if codes in seen:
            return "repeats"
        seen.add(codes)
        return ""

    draws = draw_again(range(count), draw, refusal)
    sounds = [sound for number, sound in draws.drawn.items() if number not in draws.left]
    return sounds, draws.redrawn + Counter(draws.left.values())


def draw_instrument(
    source: KitSource, settings: KitSettings, label: int, notes: Sequence[int], report: Report = lambda *_: None
) -> dict[int, tuple[list[Sound], Counter[str]]]:
    """Sounds at each of some notes, as many as the settings say or fewer, and the draws that were refused, by reason.

    The same sounds, drawn at the middle note, are at all notes where they have a clear pitch, so that all keys play one
    instrument. Notes beyond these have others, drawn at the middle of what is left. Raises as `generate_sounds`.
    """
    made: dict[int, list[Sound]] = {}
    refused, tried = {note: Counter[str]() for note in notes}, set[int]()
    while beyond := [one for one in notes if one not in tried and not (made and min(made) <= one <= max(made))]:
        middle = beyond[len(beyond) // 2]
        tried.add(middle)
        drawn, found = draw_sounds(source, settings, label, POOL * settings.per_label, report, middle)
        refused[middle].update(found)
        left = [note for note in notes if note not in made]
        voices = sorted((at_notes(source, sound, left) for sound in drawn), key=len, reverse=True)
        for note in left:
            there = [voice[note] for voice in voices[: settings.per_label] if note in voice]
            refused[note][MISTUNED] += min(settings.per_label, len(voices)) - len(there)
            if there:
                made[note] = there
    return {note: (made.get(note, []), refused[note]) for note in notes}


def at_notes(source: KitSource, voice: Sound, notes: Sequence[int]) -> dict[int, Sound]:
    """A sound with a pitch at each of some notes, in tune, where it has a clear pitch there.

    Its codes are transposed, so that length and formants stay. What the codes cannot say is tuned by resampling, so that
    it is in tune in samplers that know no `tune`, too.
    """
    assert source.tuner is not None
    assert voice.pitch is not None
    measure, codes = source.tuner.measure, torch.from_numpy(voice.codes)
    moved = [source.codec.transposed(codes, note - voice.pitch).numpy() for note in notes]
    sounds = {}
    for note, own, decoded in zip(notes, moved, decode_sounds(source.codec, moved), strict=True):
        samples = decoded[: len(voice.samples)]
        pitch = measure(samples)
        if pitch is not None and abs(pitch - note) <= IN_TUNE:
            samples = soxr.resample(samples, 1, 2 ** ((pitch - note) / 12), "VHQ")
            sound = replace(voice, codes=own, samples=samples, note=note, pitch=measure(samples))
            if sound.is_at_note:
                sounds[note] = sound
    return sounds


def is_silent(source: KitSource, sound: Sound) -> bool:
    """Whether a sound is much softer than any recording."""
    if source.finder is not None:
        return source.finder.is_silent(sound.codes)
    peak = float(np.abs(sound.samples).max(initial=0.0)) * source.codec.architecture.input_gain
    return peak < _gain(SILENT_DB)


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
    return normalised(kept)


def normalised(samples: Samples | Doubles) -> Samples:
    """Samples `[N]`, not all of them 0, with a peak of PEAK_DB."""
    made: Samples = (samples * (_gain(PEAK_DB) / np.abs(samples).max())).astype(np.float32)
    return made


def level_db(samples: Samples, sample_rate: int) -> float:
    """Level of samples `[N]` in dBFS: the RMS of the loudest 50 ms."""
    window = max(1, min(len(samples), round(LEVEL_SECONDS * sample_rate)))
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    return float(10 * np.log10((energy[window:] - energy[:-window]).max() / window))


def _gain(decibels: float) -> float:
    return float(10 ** (decibels / 20))


def _write_sounds(
    folder: Path,
    label: str,
    key: int,
    drawn: Sequence[Sound],
    settings: KitSettings,
    rate: int,
) -> tuple[KitSound, ...]:
    """Write the sounds of a group, soft ones first where there are layers."""
    layers = min(settings.velocity_layers, len(drawn))
    if layers > 1:
        drawn = sorted(drawn, key=lambda one: level_db(one.samples, rate))
    sounds: list[KitSound] = []
    for layer in range(layers):
        first, last = (len(drawn) * one // layers for one in (layer, layer + 1))
        for position, one in enumerate(drawn[first:last], start=1):
            samples, tune, loop = finish(one.samples, rate), None, None
            if one.note is not None and one.pitch is not None:
                tune = round(100 * (one.note - one.pitch))
                samples, loop = looped(samples, rate, len(samples) - int(FADE_SECONDS * rate))
                samples = normalised(samples)  # a loop that is levelled can be louder
            sound = KitSound(
                file=f"{SAMPLES}/{key:03d}_{file_word(label)}_{len(sounds) + 1:02d}.wav",
                low_velocity=1 + MOST_VELOCITY * layer // layers,
                high_velocity=MOST_VELOCITY * (layer + 1) // layers,
                position=position,
                round_robins=last - first,
                seconds=len(samples) / rate,
                level_db=level_db(one.samples, rate),
                novelty=one.novelty,
                tune=tune,
                loop=loop,
            )
            wav = audio_file(folder / sound.file, samples, rate, "wav", MARK)
            if tune is not None:
                wav = with_sampler_chunk(wav, rate, key, loop and loop[:2])
            write_bytes(folder / sound.file, wav)
            sounds.append(sound)
    return tuple(sounds)


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
        shape[:] = 10 * np.log10(np.maximum(power / power.sum(), 10 ** (LEAST_BAND_DB / 10)))
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
    for group in groups[:MOST_ROWS]:
        samples, rate = soundfile.read(path.parent / group.sounds[0].file, dtype="float32")
        sounds.append(
            (f"{group.note} {group.key}  {group.label}{group.sounds[0].played(rate)}", samples[: MOST_SECONDS * rate])
        )
    write_spectrograms(path, sounds, rate)


def kit_folder(out: Path, replace: bool) -> Path:
    """The resolved path of a folder that a kit may be written to as a whole. Raises ParamsError for any other."""
    try:
        folder = out.resolve()
        if Path.cwd().is_relative_to(folder):
            wrong = "a folder of its own, found the current folder or one above it; name a folder in it"
        elif not folder.exists() or all(path.name in OF_SYSTEMS for path in folder.iterdir()):
            tempfile.TemporaryFile(dir=next(one for one in (folder, *folder.parents) if one.exists())).close()
            return folder
        elif not replace:
            wrong = "a new or an empty folder, found one with files in it; name another, or let it replace a kit"
        elif not (strange := _strange_file(folder)):
            return folder
        else:
            wrong = (
                f"a folder with a kit that Distill made and nothing else, to replace it, found {strange}; move your own "
                "files away or name another folder"
            )
    except OSError as error:
        wrong = f"a folder to write to, found {error.strerror or error}; name another folder"
    raise ParamsError(f"out {out}: expected {wrong}")


def _strange_file(folder: Path) -> str:
    """What shows that a folder is more or other than a kit; "" for a kit alone."""
    try:
        if (folder / INDEX).stat().st_size > MOST_BYTES or (folder / INDEX).is_symlink():
            raise ValueError
        kit = json.loads((folder / INDEX).read_bytes())
        known = {name for name in kit["files"] if NAMES.fullmatch(name)} if kit["format"] == FORMAT else set()
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
