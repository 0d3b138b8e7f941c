"""Commands of the verbs, and the files of their sounds."""

import inspect
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from warnings import warn

from typer import Argument, Option

from distill.audio.output import Output, resampled
from distill.audio.read import SUPPORTED_SUFFIXES
from distill.audio.write import LOSSES, AudioFormat, audio_file
from distill.cli.flags import (
    KEYWORD,
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
from distill.process import say
from distill.progress import VARIABLE, ProgressReport
from distill.storage.files import MARK, write_new
from distill.text import terminal_width
from distill.verbs import VERBS
from distill.verbs.verb import Verb

if TYPE_CHECKING:
    from distill.api import Model
    from distill.generate.presentation.results import Result
    from distill.generate.selection.faults import Samples
    from distill.generate.selection.rejection import GeneratedSound

Format = Annotated[AudioFormat, Option("--format", help="file format")]
Pictures = Annotated[
    bool, Option("--pictures", help="also write spectrograms, and the nearest recordings")
]
ModelOrRecording = Annotated[
    Path,
    Argument(
        callback=existing(f"{MODEL} or {RECORDING}"),
        metavar="MODEL.distill|AUDIO",
        help="a model file; or the recording alone, which needs no training",
        show_default=False,
    ),
]


def commands() -> Iterator[Callable[..., None]]:
    """Build the command of each verb."""
    for verb in VERBS.values():
        yield _command(verb, _sounds_command if verb.out else _folder_command)


def _command(verb: Verb, body: Callable[..., None]) -> Callable[..., None]:
    """Give a command the model, the recordings and the flags of a verb."""
    own = inspect.signature(body, eval_str=True).parameters
    model = ModelOrRecording if verb.takes_recording_alone else ModelPath
    recordings = [_positional(verb, name) for name in verb.arguments]
    others = [
        own[name].replace(kind=KEYWORD)
        for name in own
        if name not in ("verb", "model", "recordings")
    ]
    if "out" in own:
        folder = Option("--out", "-o", callback=writable, metavar="DIR", help="where the sounds go")
        others = [part for part in others if part.name != "out"]
        default = Path(verb.out)
        others.insert(
            1,
            inspect.Parameter("out", KEYWORD, default=default, annotation=Annotated[Path, folder]),
        )

    def command(model: Path, **values: Any) -> None:
        paths = {name: values.pop(name) for name in verb.arguments}
        body(
            verb,
            model=model,
            recordings={name: path for name, path in paths.items() if path},
            **values,
        )

    parameters = [inspect.Parameter("model", KEYWORD, annotation=model), *recordings, *others]
    vars(command)["__signature__"] = inspect.Signature(parameters)
    command.__name__, command.__doc__ = verb.name, verb.help
    return takes_request(verb.settings)(command)


def _positional(verb: Verb, name: str) -> inspect.Parameter:
    """Build the positional argument of a recording, or of several."""
    field, about = verb.settings.model_fields[name], verb.arguments[name]
    argument = Argument(
        callback=existing(RECORDING), metavar=about.metavar, help=about.help, show_default=False
    )
    if field.is_required() and not verb.takes_recording_alone:
        return inspect.Parameter(name, KEYWORD, annotation=Annotated[Path, argument])
    kind = Path if field.is_required() else list[Path]
    return inspect.Parameter(
        name, KEYWORD, default=None, annotation=Annotated[kind | None, argument]
    )


def _sounds_command(
    verb: Verb,
    model: Path,
    recordings: dict[str, Any],
    given: Given,
    out: Path,
    kind: Format = "wav",
    pictures: Pictures = False,
    as_json: Json = False,
) -> None:
    """Run a verb and write its sounds."""
    with remarks_said() as warnings:
        loaded, path, recordings = _open(verb, model, recordings)
        files = SoundFiles(loaded, out, _stem(verb, path, recordings, given), kind, pictures)
        made = files.made_by(verb, {**given, **recordings})
        loss = LOSSES.get(kind, {}).get(made.output.bits)
        if verb.keeps_recording and loss:
            warn(f"{kind}: {loss}", AudioWarning, stacklevel=2)
    about = {name: _texts(recordings.get(name, [])) for name in verb.arguments}
    about |= {"label": given.get("label")} if "label" in verb.settings.model_fields else {}
    files.say(made, as_json, {"model": path and str(path), **about, "warnings": warnings})


def _folder_command(
    verb: Verb, model: Path, recordings: dict[str, Any], given: Given, as_json: Json = False
) -> None:
    """Run a verb that writes a folder itself."""
    with remarks_said(), ProgressReport(verb.name) as progress:
        loaded, _, recordings = _open(verb, model, recordings)
        made = getattr(loaded, verb.name)(**given, **recordings, progress=progress)
    _say_note(loaded)
    for remark in made.remarks:
        say(f"distill: {remark}")
    answer(as_json, {"folder": str(made.folder), **made.json()}, *made.lines(terminal_width()))


def _open(
    verb: Verb, path: Path, recordings: dict[str, Any]
) -> tuple["Model", Path | None, dict[str, Any]]:
    """Open the model file, or make a model of a recording alone; return it, the model file if any, and the recordings."""
    needed = [name for name in verb.arguments if verb.settings.model_fields[name].is_required()]
    if not verb.takes_recording_alone or recordings:
        return _opened(path), path, recordings
    if needed and path.suffix == ".distill":
        raise ParamsError(
            f"{path}: expected a recording to {verb.name}, found a model file alone; name a recording after it"
        )
    if not needed and path.suffix.lower() not in SUPPORTED_SUFFIXES:
        return _opened(path), path, recordings
    return _opened(path, is_recording=True), None, dict.fromkeys(needed, path)


def _opened(path: Path, is_recording: bool = False) -> "Model":
    """Return the model of a file or of a single recording; the last one stays open while the file is unchanged."""
    stat = path.stat() if path.is_file() else None
    return _cached(path, is_recording, stat and (stat.st_mtime_ns, stat.st_size, stat.st_ino))


@lru_cache(maxsize=1)
def _cached(path: Path, is_recording: bool, _: object) -> "Model":
    if is_recording:
        from distill.one_shot import model_of

        return model_of(path)
    from distill.api import Model

    return Model(path)


def _stem(verb: Verb, model: Path | None, recordings: Mapping[str, Any], given: Given) -> str:
    """Return the stem of the names of sounds: recordings, or the model without any, and the seed, which is set from here on."""
    from distill.codes.file import printable_stem
    from distill.generate.requests.generation import seed_or_any

    paths = [path for path in (*recordings.values(), model) if isinstance(path, Path)]
    names = [printable_stem(path) for path in paths if path != model or not recordings]
    if "seed" not in verb.settings.model_fields:
        return "_to_".join(names)
    given["seed"] = seed_or_any(given.get("seed"))
    return f"{names[0]}_{given['seed']}"


def _texts(paths: Any) -> Any:
    """Return a path, or each of several, as text."""
    return [str(path) for path in paths] if isinstance(paths, list) else str(paths)


class SoundFiles:
    """Files of sounds in a folder, whose names begin with a stem.

    A sound has the next number whose name is free, or has this very sound already: no file is replaced.
    """

    def __init__(
        self, model: "Model", out: Path, stem: str, kind: AudioFormat, pictures: bool
    ) -> None:
        self._output = Output(model.sample_rate)
        self.model, self.out, self.kind, self.pictures = model, out, kind, pictures
        self.paths: list[Path] = []
        self._has_passed = False  # names that were taken
        self._names = (out / f"{stem}_{number:03d}.{kind}" for number in itertools.count())

    def made_by(self, verb: Verb, given: Given) -> "Result":
        """Run a verb, and write each sound as soon as it is generated."""
        from distill.generate.settings import Delivery

        with ProgressReport(verb.name) as progress:
            soon = VARIABLE in os.environ  # the page plays the first sound at once
            delivery = Delivery(progress, self._write, self._begin, first_alone=soon)
            made: Result = getattr(self.model, verb.name)(**given, delivery=delivery)
        return made

    def say(self, made: "Result", as_json: bool, about: dict[str, Any]) -> None:
        """Print notes, and `about` and all of the sounds as JSON, or lines of text; then write their companion files."""
        if self._has_passed:
            say(
                f"distill: note: {self.out} holds other files of these names, which stay; these sounds have higher numbers"
            )
        _say_note(self.model)
        answer(
            as_json, {**about, **made.json(self.paths)}, *made.lines(self.paths, terminal_width())
        )
        if self.pictures:
            with ProgressReport("pictures") as progress:
                for number, (path, sound) in enumerate(
                    zip(self.paths, made.draws.sounds, strict=True)
                ):
                    self._write_companions(path, sound)
                    progress(number + 1, len(self.paths), path.name)

    def _begin(self, output: Output) -> None:
        from distill.generate.decoding import NO_SAMPLES

        self._output = output
        audio_file(
            self.out, NO_SAMPLES, output.sample_rate, self.kind, MARK
        )  # a format that lacks the rate is refused

    def _write(self, _: int, samples: "Samples") -> None:
        data = self._output.file(self.out, samples, self.kind, MARK)
        self.out.mkdir(parents=True, exist_ok=True)
        for path in self._names:
            is_beside = not os.path.lexists(path) and any(map(os.path.lexists, _companions(path)))
            if not (self.pictures and is_beside) and write_new(path, data):
                self.paths.append(path)
                return
            self._has_passed = True

    def _write_companions(self, path: Path, sound: "GeneratedSound") -> None:
        """Write `<sound>.png` and, where novelty is known, `<sound>_nearest.wav` next to a sound without these files."""
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
    if model.note and not model.context.one_shot_remark:
        say(f"distill: note: {model.note}")


def _companions(path: Path) -> tuple[Path, Path]:
    """The paths of a sound's picture and of its nearest recording."""
    return path.with_suffix(".png"), path.with_name(f"{path.stem}_nearest.wav")
