"""`distill generate`, `distill vary` and `distill kit`, and the files beside their sounds."""

import itertools
import os
import re
import sys
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from distill.audio.read import SUPPORTED_SUFFIXES
from distill.audio.write import AudioFormat, audio_file
from distill.cli.flags import (
    Json,
    ModelPath,
    SamplingTemperature,
    SeedOrAny,
    check_folder,
    limits,
    print_json,
    remarks_said,
    spelt,
)
from distill.errors import ParamsError
from distill.params import (
    Every,
    Guidance,
    KitSeconds,
    PerLabel,
    Seconds,
    Semitones,
    Share,
    Sounds,
    TopK,
    TopP,
    VelocityLayers,
)
from distill.progress import ProgressReport
from distill.storage.files import MARK, write_new
from distill.text import one_line

if TYPE_CHECKING:
    from distill.api import Model
    from distill.generate.results import Result
    from distill.generate.sounds import Samples
    from distill.novelty.verdict import Novelty
    from distill.untrained import ModelOfOne

Label = Annotated[str | None, Option(help="label of the sounds, for models trained with labels")]
GuidanceScale = Annotated[
    float | None,
    Option(help="with --label: 1 as learnt, above 1 follows the label more", show_default="2.5", **limits(Guidance)),
]
Out = Annotated[Path, Option("--out", "-o", metavar="DIR", help="where the sounds go")]
Format = Annotated[AudioFormat, Option("--format", help="file format")]
Pictures = Annotated[bool, Option("--pictures", help="also write spectrograms, and the nearest recordings")]


def generate(
    model: ModelPath,
    count: Annotated[
        int | None,
        Option("-n", "--count", help="how many sounds", show_default="1, or one for each note", **limits(Sounds)),
    ] = None,
    note: Annotated[
        str | None,
        Option(metavar="NOTES", help="notes of the sounds in turn, such as C3, 60, C3,E3,G3 or C2:C4; C4 is 60"),
    ] = None,
    seconds: Annotated[
        float | None, Option(help="length of each; without it sounds end by themselves", **limits(Seconds))
    ] = None,
    seed: SeedOrAny = None,
    temperature: SamplingTemperature = 1.0,
    top_k: Annotated[int, Option(help="sample from the K likeliest codes; 0 = all", **limits(TopK))] = 0,
    top_p: Annotated[float, Option(help="sample from the likeliest codes that sum to this", **limits(TopP))] = 1.0,
    prompt: Annotated[
        Path | None,
        Option(callback=spelt, metavar="AUDIO", help="a recording to continue; --seconds is what is added"),
    ] = None,
    label: Label = None,
    guidance: GuidanceScale = None,
    min_novelty: Annotated[
        str | None,
        Option(
            metavar="close|new|0...1",
            help="redraw copies (close), all that is not new (new), or a novelty percentile above 1 - X",
        ),
    ] = None,
    reject_faults: Annotated[bool, Option("--reject-faults", help="redraw faulty sounds, and say how many")] = False,
    out: Out = Path("generated"),
    kind: Format = "wav",
    pictures: Pictures = False,
    as_json: Json = False,
) -> None:
    """Generate new sounds, and report how new each is compared with the training recordings, and which are faulty."""
    redrawn: dict[str, Any] = {"min_novelty": min_novelty, "reject_faults": reject_faults, "note": note}
    sampled: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "guidance": guidance}
    loaded = _open(model, label, **redrawn)
    with remarks_said() as warnings:
        begun = None if prompt is None else loaded.samples(prompt)
    make = partial(loaded.generate, count, seconds, label=label, prompt=begun, **sampled, **redrawn)
    about = {"model": str(model), "label": label, "warnings": warnings} if as_json else None
    _make(loaded, make, seed, out, model, kind, pictures, about)


def vary(
    model: Annotated[
        Path,
        Argument(
            callback=spelt,
            metavar="[MODEL.distill]",
            help="a model file; without one, what is made at once of the recording alone",
            show_default=False,
        ),
    ],
    audio: Annotated[
        Path | None, Argument(callback=spelt, metavar="AUDIO", help="the recording to vary", show_default=False)
    ] = None,
    count: Annotated[int, Option("-n", "--count", help="how many takes", **limits(Sounds))] = 8,
    strength: Annotated[
        float | None,
        Option(
            help="share that changes: 0 nothing, 1 everything",
            show_default="0.3; of a recording alone 0.5",
            **limits(Share),
        ),
    ] = None,
    transpose: Annotated[
        float | None, Option(metavar="SEMITONES", help="move its tones up, or down below 0", **limits(Semitones))
    ] = None,
    note: Annotated[str | None, Option(metavar="NOTE", help="bring it to one note, such as C3 or 48")] = None,
    seed: SeedOrAny = None,
    temperature: SamplingTemperature = 1.0,
    label: Label = None,
    guidance: GuidanceScale = None,
    out: Out = Path("varied"),
    kind: Format = "wav",
    pictures: Pictures = False,
    as_json: Json = False,
) -> None:
    """Make new takes of a recording, and report how near each is to it and to the training recordings.

    With a recording alone nothing is trained: its codes are made with the shipped weights.
    """
    recording = audio or model
    if audio is None and model.suffix == ".distill":
        raise ParamsError(f"{model}: expected a recording to vary, found a model file alone; name a recording after it")
    loaded: Model
    with remarks_said() as warnings:
        if audio is None:
            made = _model_of(recording)
            made.check_request(label)
            loaded, samples = made, made.recording
        else:
            loaded = _open(model, label)
            samples = loaded.samples(audio)
    sampled: dict[str, Any] = {"temperature": temperature, "label": label, "guidance": guidance}
    make = partial(loaded.vary, samples, count, strength, transpose=transpose, note=note, **sampled)
    named = {"model": str(model) if audio else None, "recording": str(recording)}
    about = {**named, "label": label, "warnings": warnings} if as_json else None
    _make(loaded, make, seed, out, recording, kind, pictures, about)


def kit(
    model: Annotated[
        Path,
        Argument(
            callback=spelt,
            metavar="MODEL.distill|AUDIO",
            help="a model file; or one recording, to make takes of",
            show_default=False,
        ),
    ],
    out: Annotated[Path, Option("--out", "-o", metavar="DIR", help="where the kit goes: a new or an empty folder")],
    per_label: Annotated[int, Option(help="sounds of each label, or note", **limits(PerLabel))] = 4,
    formats: Annotated[str, Option("--format", metavar="FORMATS", help="sfz, dspreset, or both")] = "sfz,dspreset",
    seed: SeedOrAny = None,
    seconds: Annotated[float, Option(help="the longest sound; most end before", **limits(KitSeconds))] = 10.0,
    temperature: SamplingTemperature = 1.0,
    velocity_layers: Annotated[
        int, Option(help="layers by loudness, at most one a sound", **limits(VelocityLayers))
    ] = 1,
    label: Annotated[list[str] | None, Option(help="only this label; may be repeated", show_default="all")] = None,
    keys: Annotated[
        list[str] | None,
        Option(
            metavar="LABEL=NOTE,...", help="other keys than by name: MIDI numbers or notes, C4 is 60; may be repeated"
        ),
    ] = None,
    notes: Annotated[
        str | None,
        Option(metavar="NOTES", help="an instrument at these notes, such as C1:C6 or C2,G2,C3, of one label"),
    ] = None,
    every: Annotated[
        int | None, Option(help="with --notes: only every so many-th note", show_default="1", **limits(Every))
    ] = None,
    allow_copies: Annotated[bool, Option("--allow-copies", help="keep copies of training recordings")] = False,
    replace: Annotated[bool, Option("--replace", help="replace the kit in that folder")] = False,
    as_json: Json = False,
) -> None:
    """Make an instrument for samplers: new sounds on keys, as SFZ and DecentSampler files.

    Drums are on the keys of General MIDI, other sounds on white keys from C1 (24) upwards. Sounds of one label are round
    robins. Sounds that are copies of training recordings are left out. With --notes all keys play one instrument in tune.
    """
    with remarks_said():
        loaded = _model_of(model) if model.suffix.lower() in SUPPORTED_SUFFIXES else _open(model)
    chosen = [name.strip() for name in formats.split(",")]
    sampled: dict[str, Any] = {"seed": seed, "seconds": seconds, "temperature": temperature}
    laid: dict[str, Any] = {"per_label": per_label, "velocity_layers": velocity_layers, "labels": label or []}
    laid |= {"keys": _keys_of(keys or []), "notes": notes, "every": every}
    kept: dict[str, Any] = {"formats": chosen, "allow_copies": allow_copies, "replace": replace}
    with ProgressReport("kit") as progress:
        made = loaded.kit(out, progress=progress, **sampled, **laid, **kept)
    for line in made.missing_lines:
        print(f"distill: warning: {line}", file=sys.stderr)
    if as_json:
        print_json({"folder": str(out), **made.json()})
        return
    sounding = [group for group in made.groups if group.sounds]
    for group in sounding:
        print(f"{group.note:<4} {group.key:>3}  {len(group.sounds)} x {one_line(group.label, 60)}")
    sounds, at = len(made.sounds), len(sounding)
    place, over = ("key", "") if notes is None else ("note", ", over all keys")
    print(f"{out}  {sounds} sound{'s' * (sounds != 1)} on {at} {place}{'s' * (at != 1)}{over}")
    print(f"verdicts {made.verdict_line}\nseed {made.settings.seed}")


def _keys_of(given: list[str]) -> dict[str, str]:
    """Notes of labels. A label may have commas and equals signs in it, a note has none. Raises ParamsError."""
    notes: dict[str, str] = {}
    for text in given:
        if not re.fullmatch(r"(.+?=[^=,]+(,|$))+", text):
            raise ParamsError(f"--keys {text}: expected LABEL=NOTE, such as kick=C2, or several with commas between")
        for label, note in re.findall(r"(.+?)=([^=,]+)(?:,|$)", text):
            if label in notes:
                raise ParamsError(f"--keys {text}: expected one note for {label}, found a second; give it once")
            notes[label] = note
    return notes


def _open(path: Path, label: str | None = None, **redrawn: Any) -> "Model":
    """The model, if it can make what is asked for, and its note."""
    from distill.api import Model

    loaded = Model(path)
    loaded.check_request(label, **redrawn)
    if loaded.note:
        print(f"distill: note: {loaded.note}", file=sys.stderr)
    return loaded


def _model_of(recording: Path) -> "ModelOfOne":
    """A model of one recording."""
    from distill.untrained import model_of

    return model_of(recording)


def _make(
    model: "Model",
    make: partial[Any],
    seed: int | None,
    out: Path,
    source: Path,
    kind: AudioFormat,
    pictures: bool,
    about: dict[str, Any] | None,
) -> None:
    """Write each sound, with the name of its source and the seed in its name, as soon as it is made; then what lies beside.

    A sound has the next number whose name is free, or has this very sound already: no file is replaced. Prints `about` and
    all as JSON, or lines of text.
    """
    from distill.api import seed_or_any
    from distill.codes.file import printable_stem
    from distill.generate.sounds import NO_SAMPLES

    check_folder("--out", out)  # it is made with its first sound: what is refused leaves none
    audio_file(out, NO_SAMPLES, model.sample_rate, kind, MARK)  # a format that lacks the rate is refused at once
    stem, seed = printable_stem(source), seed_or_any(seed)
    names = (out / f"{stem}_{seed}_{number:03d}.{kind}" for number in itertools.count())
    paths: list[Path] = []
    passed: list[Path] = []

    def take(_: int, samples: "Samples") -> None:
        data = audio_file(out, samples, model.sample_rate, kind, MARK)
        out.mkdir(parents=True, exist_ok=True)
        for path in names:
            taken = pictures and not os.path.lexists(path) and any(map(os.path.lexists, _companions(path)))
            if not taken and write_new(path, data):
                paths.append(path)
                return
            passed.append(path)

    with ProgressReport(make.func.__name__) as progress:
        made: Result = make(seed=seed, progress=progress, take=take)
    if passed:
        print(
            f"distill: note: {out} holds other files of these names, which stay; these sounds have higher numbers",
            file=sys.stderr,
        )
    if pictures:
        _write_companions(model, paths, made.novelty)
    if about is not None:
        print_json({**about, **made.json(paths)})
    else:
        print(*made.lines(paths), sep="\n")


def _write_companions(model: "Model", paths: list[Path], novelty: "list[Novelty | None]") -> None:
    """Write `<sound>.png` and, where novelty is known, `<sound>_nearest.wav` beside each sound that has none."""
    import soundfile

    from distill.audio.plots import write_spectrograms

    with ProgressReport("pictures") as progress:
        for number, (path, one) in enumerate(zip(paths, novelty, strict=True)):
            samples, rate = soundfile.read(BytesIO(path.read_bytes()), dtype="float32")
            rows, (picture, recording) = [(path.stem, samples)], _companions(path)
            if one is not None:
                nearest = model.nearest(one)
                write_new(recording, audio_file(recording, nearest, model.sample_rate, "wav", MARK))
                rows.append((f"nearest training recording: {one.nearest.nearest}", nearest))
            if not os.path.lexists(picture):
                write_spectrograms(picture, rows, rate)
            progress(number + 1, len(paths), path.name)


def _companions(path: Path) -> tuple[Path, Path]:
    """The paths of a sound's picture and of its nearest recording."""
    return path.with_suffix(".png"), path.with_name(f"{path.stem}_nearest.wav")
