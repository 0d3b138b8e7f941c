"""`distill generate`, `distill vary` and `distill kit`, and the files beside their sounds."""

import itertools
import os
import re
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from warnings import warn

from typer import Argument, Option

from distill.audio.output import Output, resampled
from distill.audio.read import SUPPORTED_SUFFIXES
from distill.audio.write import LOSSES, AudioFormat, audio_file, with_sampler_chunk, with_tempo_chunk
from distill.cli.flags import (
    MODEL,
    RECORDING,
    Given,
    Json,
    ModelPath,
    answer,
    existing,
    remarks_said,
    takes_request,
    writable,
)
from distill.errors import AudioWarning, ParamsError
from distill.generate.requests import (
    ExtendSettings,
    FillSettings,
    GenerateSettings,
    KitSettings,
    MorphSettings,
    VarySettings,
)
from distill.generate.score import BEATS
from distill.params.settings import validated
from distill.process import say
from distill.progress import VARIABLE, ProgressReport
from distill.storage.files import MARK, write_new
from distill.text import beside, one_line, several, terminal_width, wrapped

if TYPE_CHECKING:
    from distill.api import Model
    from distill.generate.faults import Samples
    from distill.generate.refusals import Sound
    from distill.generate.results import Result

MIDDLE_C = 60
Out = Annotated[Path, Option("--out", "-o", callback=writable, metavar="DIR", help="where the sounds go")]
Format = Annotated[AudioFormat, Option("--format", help="file format")]
Pictures = Annotated[bool, Option("--pictures", help="also write spectrograms, and the nearest recordings")]


@takes_request(GenerateSettings)
def generate(
    model: ModelPath,
    given: Given,
    out: Out = Path("generated"),
    kind: Format = "wav",
    pictures: Pictures = False,
    as_json: Json = False,
) -> None:
    """Generate new sounds, and report how new each is compared with the training recordings, and which are faulty."""
    with remarks_said() as warnings:
        loaded = _open(model)
        files = SoundFiles(loaded, out, _seeded(model, given), given, kind, pictures)
        made = files.made_by(loaded.generate, given)
    files.say(made, as_json, {"model": str(model), "label": given.get("label"), "warnings": warnings})


@takes_request(VarySettings)
def vary(
    model: Annotated[
        Path,
        Argument(
            callback=existing(f"{MODEL} or {RECORDING}"),
            metavar="MODEL.distill|AUDIO",
            help="a model file; or the recording alone, which needs no training",
            show_default=False,
        ),
    ],
    given: Given,
    audio: Annotated[
        Path | None,
        Argument(
            callback=existing(RECORDING),
            metavar="AUDIO",
            help="after a model file, the recording to vary",
            show_default=False,
        ),
    ] = None,
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
    with remarks_said() as warnings:
        loaded = _open(model, is_recording=audio is None)
        files = SoundFiles(loaded, out, _seeded(recording, given), given, kind, pictures)
        made = files.made_by(loaded.vary, {**given, "recording": recording})
    about = {"model": str(model) if audio else None, "recording": str(recording), "label": given.get("label")}
    files.say(made, as_json, {**about, "warnings": warnings})


@takes_request(MorphSettings)
def morph(
    model: ModelPath,
    first: Annotated[
        Path, Argument(callback=existing(RECORDING), metavar="FIRST", help="a recording", show_default=False)
    ],
    last: Annotated[
        Path,
        Argument(
            callback=existing(RECORDING), metavar="LAST", help="the recording that it leads to", show_default=False
        ),
    ],
    given: Given,
    below: Annotated[
        list[Path] | None,
        Argument(
            callback=existing(RECORDING),
            metavar="THIRD FOURTH",
            help="two more, below them: the corners of a grid",
            show_default=False,
        ),
    ] = None,
    out: Out = Path("morphed"),
    kind: Format = "wav",
    pictures: Pictures = False,
    as_json: Json = False,
) -> None:
    """Make sounds between recordings: pitch, spectrum and length go from one to another, in steps.

    Of four recordings it makes a grid, row by row.
    """
    from distill.codes.file import printable_stem

    with remarks_said() as warnings:
        loaded = _open(model)
        files = SoundFiles(loaded, out, f"{printable_stem(first)}_to_{printable_stem(last)}", given, kind, pictures)
        made = files.made_by(loaded.morph, {**given, "first": first, "last": last, "below": below})
    about = {"model": str(model), "first": str(first), "last": str(last), "below": list(map(str, below or []))}
    files.say(made, as_json, {**about, "warnings": warnings})


AudioPath = Annotated[
    Path, Argument(callback=existing(RECORDING), metavar="AUDIO", help="a recording", show_default=False)
]


@takes_request(ExtendSettings)
def extend(
    model: ModelPath,
    audio: AudioPath,
    given: Given,
    out: Out = Path("extended"),
    kind: Format = "wav",
    pictures: Pictures = False,
    as_json: Json = False,
) -> None:
    """Draw what comes before and after a recording, which itself stays as it is."""
    _draw_beside("extend", model, audio, given, out, kind, pictures, as_json)


@takes_request(FillSettings)
def fill(
    model: ModelPath,
    audio: AudioPath,
    given: Given,
    out: Out = Path("filled"),
    kind: Format = "wav",
    pictures: Pictures = False,
    as_json: Json = False,
) -> None:
    """Draw a part of a recording again, and leave the rest as it is."""
    _draw_beside("fill", model, audio, given, out, kind, pictures, as_json)


def _draw_beside(
    verb: str, model: Path, audio: Path, given: Given, out: Path, kind: AudioFormat, pictures: bool, as_json: bool
) -> None:
    """Draw parts of a recording by a verb of the model."""
    with remarks_said() as warnings:
        loaded = _open(model)
        files = SoundFiles(loaded, out, _seeded(audio, given), given, kind, pictures)
        made = files.made_by(getattr(loaded, verb), {**given, "recording": audio})
        if loss := LOSSES.get(kind, {}).get(made.output.bits):
            warn(f"{kind}: {loss}", AudioWarning, stacklevel=2)
    about = {"model": str(model), "recording": str(audio), "label": given.get("label"), "warnings": warnings}
    files.say(made, as_json, about)


@takes_request(KitSettings)
def kit(
    model: Annotated[
        Path,
        Argument(
            callback=existing(f"{MODEL} or {RECORDING}"),
            metavar="MODEL.distill|AUDIO",
            help="a model file; or one recording, to make takes of",
            show_default=False,
        ),
    ],
    given: Given,
    as_json: Json = False,
) -> None:
    """Make an instrument for samplers: new sounds on keys, as SFZ and DecentSampler files.

    Drums are on the keys of General MIDI, other sounds on white keys from C1 (24) upwards. Sounds of a key are takes of one
    sound, as round robins. Sounds that are copies of training recordings are left out. With --notes all keys play one
    instrument in tune; with --one-key all sounds are on one key.
    """
    given["keys"] = _keys_of(given.get("keys", []))
    with remarks_said(), ProgressReport("kit") as progress:
        loaded = _open(model, is_recording=model.suffix.lower() in SUPPORTED_SUFFIXES)
        made = loaded.kit(**given, progress=progress)
    _say_note(loaded)
    for line in made.note_lines:
        say(f"distill: note: {line}")
    for line in made.missing_lines:
        say(f"distill: warning: {line}")
    width = terminal_width()
    lines = [
        beside(f"{group.note:<4} {group.key:>3}", f"{len(group.sounds)} x {one_line(group.label, 60)}", width)
        for group in made.groups
        if group.sounds
    ]
    place, over = ("note", ", over all keys") if given.get("notes") else ("key", "")
    places = several(len(lines), place) + over
    lines.append(f"{made.folder}  {several(len(made.sounds), 'sound')} on {places}")
    said = filter(None, [made.tuning.in_words, *made.loudness_lines])
    lines += wrapped([*said, f"verdicts {made.verdict_line}", f"seed {made.settings.seed}"], width)
    answer(as_json, {"folder": str(made.folder), **made.json()}, *lines)


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


def _open(path: Path, is_recording: bool = False) -> "Model":
    """The model of a file, or a model of a single recording; the one that is open while the file stays as it is."""
    stat = path.stat() if path.is_file() else None
    return _opened(path, is_recording, stat and (stat.st_mtime_ns, stat.st_size, stat.st_ino))


@lru_cache(maxsize=1)
def _opened(path: Path, is_recording: bool, _: object) -> "Model":
    if is_recording:
        from distill.untrained import model_of

        return model_of(path)
    from distill.api import Model

    return Model(path)


def _seeded(source: Path, given: Given) -> str:
    """The stem of sounds of a source: its name and the seed, which is given from here on."""
    from distill.api import seed_or_any
    from distill.codes.file import printable_stem

    given["seed"] = seed_or_any(given.get("seed"))
    return f"{printable_stem(source)}_{given['seed']}"


class SoundFiles:
    """Files of sounds in a folder, whose names begin with a stem.

    A sound has the next number whose name is free, or has this very sound already: no file is replaced.
    """

    def __init__(self, model: "Model", out: Path, stem: str, given: Given, kind: AudioFormat, pictures: bool) -> None:
        self._output = Output(model.sample_rate)
        self.model, self.out, self.kind, self.pictures = model, out, kind, pictures
        self.paths: list[Path] = []
        asked = validated(GenerateSettings, given) if {"pattern", "bpm", "bars"} & given.keys() else None
        self._tempo = asked.tempo if asked else None
        self._has_passed = False  # names that were taken
        self._names = (out / f"{stem}_{number:03d}.{kind}" for number in itertools.count())

    def made_by(self, make: Callable[..., Any], given: Given) -> "Result":
        """What `generate` or `vary` make, each sound written as soon as it is made."""
        with ProgressReport(make.__name__) as progress:
            soon = VARIABLE in os.environ  # somebody watches, and hears it
            made: Result = make(**given, progress=progress, take=self._take, on_output=self._begin, first_alone=soon)
        return made

    def say(self, made: "Result", as_json: bool, about: dict[str, Any]) -> None:
        """Print notes, and `about` and all of the sounds as JSON, or lines of text; then write what lies beside them."""
        if self._has_passed:
            say(
                f"distill: note: {self.out} holds other files of these names, which stay; these sounds have higher numbers"
            )
        _say_note(self.model)
        answer(as_json, {**about, **made.json(self.paths)}, *made.lines(self.paths, terminal_width()))
        if self.pictures:
            with ProgressReport("pictures") as progress:
                for number, (path, sound) in enumerate(zip(self.paths, made.draws.sounds, strict=True)):
                    self._write_companions(path, sound)
                    progress(number + 1, len(self.paths), path.name)

    def _begin(self, output: Output) -> None:
        from distill.generate.sounds import NO_SAMPLES

        self._output = output
        audio_file(self.out, NO_SAMPLES, output.sample_rate, self.kind, MARK)  # a format that lacks the rate is refused

    def _take(self, _: int, samples: "Samples") -> None:
        data = audio_file(self.out, samples, self._output.sample_rate, self.kind, MARK, self._output.bits)
        if self._tempo is not None and self.kind == "wav":
            bpm, bars = self._tempo
            data = with_tempo_chunk(data, bpm, BEATS * bars)
            data = with_sampler_chunk(data, self._output.sample_rate, MIDDLE_C, (0, len(samples) - 1))
        self.out.mkdir(parents=True, exist_ok=True)
        for path in self._names:
            is_beside = not os.path.lexists(path) and any(map(os.path.lexists, _companions(path)))
            if not (self.pictures and is_beside) and write_new(path, data):
                self.paths.append(path)
                return
            self._has_passed = True

    def _write_companions(self, path: Path, sound: "Sound") -> None:
        """Write `<sound>.png` and, where novelty is known, `<sound>_nearest.wav` beside a sound that has none."""
        import soundfile

        from distill.audio.plots import write_spectrograms

        samples, rate = soundfile.read(BytesIO(path.read_bytes()), dtype="float32")
        rows, (picture, recording) = [(path.stem, samples)], _companions(path)
        if sound.novelty is not None:
            nearest = resampled(self.model.nearest(sound.novelty), self.model.sample_rate, rate)
            write_new(recording, audio_file(recording, nearest, rate, "wav", MARK))
            rows.append((f"nearest training recording: {sound.novelty.nearest.nearest}", nearest))
        if not os.path.lexists(picture):
            write_spectrograms(picture, rows, rate)


def _say_note(model: "Model") -> None:
    """Say what sounds were made with; results say it where nothing was trained."""
    if model.note and not model.source.untrained:
        say(f"distill: note: {model.note}")


def _companions(path: Path) -> tuple[Path, Path]:
    """The paths of a sound's picture and of its nearest recording."""
    return path.with_suffix(".png"), path.with_name(f"{path.stem}_nearest.wav")
