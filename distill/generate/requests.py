"""Requests: what `generate`, `vary` and `kit` are asked for, on the command line, on the page and in Python.

A field states type, range, default and help once. Flags, fields of the page, arguments of `distill.api.Model` and the
documentation of all three are made from it. A field without help is an argument in Python alone.
"""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Concatenate, Literal, ParamSpec, Self, TypeVar, cast, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, model_validator
from pydantic.fields import FieldInfo

from distill.audio.output import Output
from distill.errors import ParamsError
from distill.notes import Notes, notes_text, read_notes
from distill.params import Guidance, Share, Temperature, TopK, TopP, default_values
from distill.params.settings import Settings, setting_of, validated
from distill.progress import Progress
from distill.text import any_of

KitFormat = Literal["sfz", "dspreset"]
FORMATS: tuple[KitFormat, ...] = get_args(KitFormat)
LONGEST_SECONDS = 10.0  # of a sound that ends at EOS, where no length is given

P = ParamSpec("P")
S = TypeVar("S", bound=Settings)
Owner = TypeVar("Owner")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Flag:
    """How the command line shows a field, where that does not follow from the field itself."""

    name: str = ""
    short: str = ""
    metavar: str | None = None
    type: Any = None
    otherwise: str = ""  # what stands in for None, or for nothing


def flag_of(name: str, field: FieldInfo) -> Flag:
    """The flag of a field, with a name and a type."""
    own = next((part for part in field.metadata if isinstance(part, Flag)), Flag())
    return replace(own, name=own.name or "--" + name.replace("_", "-"), type=own.type or setting_of(field).type)


def fields_of(kind: type[Settings]) -> dict[str, FieldInfo]:
    """The fields of a request that have help, those first that Python takes by position."""
    fields = [(name, field) for name, field in kind.model_fields.items() if field.description]
    return dict(sorted(fields, key=lambda named: named[1].kw_only is not False))


def checked_notes(given: Notes | None) -> str | None:
    """Notes as one text. Raises ParamsError for what is no note."""
    if given is None:
        return None
    text = notes_text(given)
    read_notes(text)
    return text


def least_novelty(given: str | float | None) -> str | float | None:
    """A verdict, or a number from 0 to 1. Raises ParamsError."""
    if given is None or given in ("copy", "close", "new"):
        return given
    with suppress(ValueError):
        if 0 <= float(given) <= 1:
            return float(given)
    raise ParamsError(f"min_novelty {given}: expected close, new or a number from 0 to 1, found neither")


def hertz_or_corpus(given: str | float) -> str | float:
    """What A4 is tuned to: Hz, or "corpus", which is as the recordings. Raises ParamsError."""
    lowest, highest = 380, 500
    if given == "corpus":
        return given
    with suppress(ValueError):
        if lowest <= float(given) <= highest:
            return float(given)
    raise ParamsError(f"tuning {given}: expected A4 in Hz, from {lowest} to {highest}, or corpus, found neither")


def split_text(given: Any) -> Any:
    """The parts of a text with commas between them; anything else as it is."""
    return [part.strip() for part in given.split(",")] if isinstance(given, str) else given


Count = Annotated[int, Field(ge=1, le=10_000)]
SamplingSeed = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0.01, le=3600)]
Recording = str | os.PathLike[str] | NDArray[np.floating]
AS_IT_IS = PlainValidator(lambda given: given)  # of what is checked where it is read
Take = Callable[[int, NDArray[np.float32]], None]
OnOutput = Callable[[Output], None]
Rate = Annotated[int, Field(ge=8_000, le=192_000)] | None
RATE_HELP = "sample rate of the sounds"
RateOfModel = Annotated[Rate, Flag(metavar="HZ", otherwise="the model's"), Field(description=RATE_HELP)]
RateOfRecording = Annotated[Rate, Flag(metavar="HZ", otherwise="the recording's"), Field(description=RATE_HELP)]
RateOfKit = Annotated[
    Rate, Flag(metavar="HZ", otherwise="the model's, or the recording's"), Field(description=RATE_HELP)
]
Loudness = Annotated[
    Annotated[float, Field(ge=-70, le=0)] | None,
    Flag(metavar="LUFS", otherwise="as each sound is"),
    Field(
        description="bring each sound to this integrated loudness, such as -23, as far as its peak stays below -1 dBFS"
    ),
]
Seed = Annotated[
    SamplingSeed | None,
    Field(
        description=(
            "equal seeds give equal sounds, however many; other threads or batches may round otherwise; else a random one"
        )
    ),
]
Width = Annotated[
    float,
    Field(ge=0, le=1.5, description="of stereo sounds: 0 mono, 1 as the recordings, above 1 wider"),
]
DRAFTS_HELP = "of so many drafts of each sound one is kept, by the odds that it is like the recordings; 1 is fastest"
Drafts = Annotated[Annotated[int, Field(ge=1, le=64)] | None, Field(description=DRAFTS_HELP)]
Coolness = Annotated[Temperature, Field(description="below 1 less random, above 1 more")]
TuningOfNotes = Annotated[
    str | float,
    AfterValidator(hertz_or_corpus),
    Flag(metavar="HZ|corpus", otherwise="corpus"),
    Field(description="of notes: A4 in Hz; corpus: as the recordings where they agree, else 440"),
]
SomeNotes = Annotated[Notes | None, BeforeValidator(checked_notes), Flag(metavar="NOTES", type=str)]


def default_guidance(label: object) -> float:
    """Scale of guidance where none is given: 1, which is none, without a label to guide towards."""
    return float(default_values()["audition"]["guidance"]) if label else 1.0


def check_tuning(tuning: str | float, note: Notes | None) -> None:
    """Refuse what notes are tuned to where there is none. Raises ParamsError."""
    if note is None and tuning != "corpus":
        raise ParamsError(f"tuning {tuning:g}: expected a note to tune, found none; name a note such as C3")


class Guided(Settings):
    """Settings that may have a label, and guide sounds towards it."""

    label: str | None = Field(default=None, description="label of the sounds, for models trained with labels")
    guidance: Annotated[Guidance | None, Flag(otherwise="2.5")] = Field(
        default=None, description="with --label: 1 as learnt, above 1 follows the label more"
    )

    @model_validator(mode="after")
    def _check_guidance(self) -> Self:
        if self.label is None and self.guidance not in (None, 1):
            raise ParamsError(
                f"guidance {self.guidance:g}: expected a label to guide towards, found none; name a label"
            )
        return self

    @property
    def guidance_scale(self) -> float:
        """The scale of classifier-free guidance: 1 is none."""
        return default_guidance(self.label) if self.guidance is None else self.guidance


NEEDS = {
    **{"loose": ("follow",), "track": ("follow",), "program": ("follow",), "follow_rate": ("follow",)},
    **{"swing": ("pattern",), "stems": ("pattern", "follow")},
}
"""Fields of `GenerateSettings` that need one of others."""

EXCLUDES = {
    "follow": ("note", "prompt", "seconds", "pattern", "bpm", "bars"),
    "pattern": ("note", "prompt", "seconds", "label"),
    "bpm": ("note", "prompt", "seconds"),
    "bars": ("note", "prompt", "seconds"),
}
"""Fields of `GenerateSettings` that say what others would."""


class GenerateSettings(Guided):
    """What `generate` is asked for."""

    n: Annotated[Count | None, Flag("--count", "-n", otherwise="1, or one for each note")] = Field(
        default=None, kw_only=False, description="how many sounds"
    )
    seconds: Seconds | None = Field(
        default=None, kw_only=False, description="length of each; without it sounds end by themselves, within 10 s"
    )
    seed: Seed = Field(default=None, kw_only=False)
    temperature: Coolness = 1.0
    top_k: TopK = Field(default=0, description="sample from the K likeliest codes; 0 = all")
    top_p: TopP = Field(default=1.0, description="sample from the likeliest codes that sum to this")
    note: SomeNotes = Field(
        default=None, description="notes of the sounds in turn, such as C3, 60, C3,E3,G3 or C2:C4; C4 is 60"
    )
    tuning: TuningOfNotes = "corpus"
    prompt: Annotated[Recording | None, AS_IT_IS, Flag(metavar="AUDIO", type=Path)] = Field(
        default=None, description="a recording to continue; --seconds is what is added"
    )
    prompt_rate: int | None = None
    follow: Annotated[Recording | None, AS_IT_IS, Flag(metavar="AUDIO|MIDI", type=Path)] = Field(
        default=None,
        description="a recording, such as a voice, whose loudness, pitch and beginnings sounds follow; or a MIDI file",
    )
    follow_rate: int | None = None
    loose: Annotated[Share | None, Flag(otherwise="0")] = Field(
        default=None, description="with a recording to follow: 0 as exactly as can be, 1 as the model would have it"
    )
    track: Annotated[int, Field(ge=1)] | None = Field(default=None, description="of a MIDI file, from 1; else all")
    program: Annotated[str | None, Flag(metavar="NUMBER=LABEL,...")] = Field(
        default=None, description="of a MIDI file, the labels of its programs, from 1, such as 1=piano,34=bass"
    )
    pattern: Annotated[str | None, Flag(metavar="LABEL:STEPS...")] = Field(
        default=None,
        description="a loop of hits, such as 'kick:x...x... snare:....x...': of each label the steps of a bar, x a hit, "
        "X a louder one, o a softer one",
    )
    bpm: Annotated[Annotated[float, Field(ge=20, le=400)] | None, Flag(otherwise="120")] = Field(
        default=None,
        description="a loop at this tempo, in beats a minute, four to a bar: of the pattern, or of recordings that repeat",
    )
    bars: Annotated[Annotated[int, Field(ge=1, le=256)] | None, Flag(otherwise="1")] = Field(
        default=None, description="how many bars a loop has"
    )
    swing: Annotated[Share | None, Flag(otherwise="0")] = Field(
        default=None, description="with --pattern: how late every second step is, 1 as the last of three"
    )
    stems: bool = Field(
        default=False, description="of a pattern or a MIDI file, a sound for each label in place of their mix"
    )
    width: Width = 1.0
    min_novelty: Annotated[str | float | None, AfterValidator(least_novelty), Flag(metavar="close|new|0...1")] = Field(
        default=None,
        description="redraw copies (close), all that is not new (new), or what is newer than less than a share X of "
        "held-out recordings",
    )
    reject_faults: bool = Field(default=False, description="redraw faulty sounds, and say how many")
    drafts: Annotated[Drafts, Flag(otherwise="4; with --follow 1")] = None
    sample_rate: RateOfModel = None
    loudness: Loudness = None
    progress: Progress | None = None
    take: Take | None = None
    on_output: OnOutput | None = None
    first_alone: bool = False

    @model_validator(mode="after")
    def _check_tuning(self) -> Self:
        check_tuning(self.tuning, self.note if self.follow is None else "C4")
        return self

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        values = {name: getattr(self, name) for name in self.model_fields_set}
        given = {name for name, value in values.items() if value is not None and value is not False}
        for name, needed in NEEDS.items():
            if name in given and not given & {*needed}:
                raise ParamsError(
                    f"{name}: expected {' or '.join(needed)} with it, found none; name one, or leave it out"
                )
        for name, others in EXCLUDES.items():
            for other in others if name in given else ():
                if other in given:
                    raise ParamsError(f"{other}: expected none beside {name}, which has its own; leave one of them out")
        return self

    @property
    def is_loop(self) -> bool:
        """Whether sounds are loops."""
        return any(given is not None for given in (self.pattern, self.bpm, self.bars))

    @property
    def tempo(self) -> tuple[float, int]:
        """Beats in a minute and bars of a loop."""
        return self.bpm or 120.0, self.bars or 1

    @property
    def notes(self) -> list[int]:
        """MIDI keys that sounds are at in turn; none for sounds at any."""
        return [] if self.note is None else read_notes(self.note)

    @property
    def count(self) -> int:
        """Number of sounds: by default one, or one for each note."""
        return max(1, len(self.notes)) if self.n is None else self.n


class VarySettings(Guided):
    """What `vary` is asked for."""

    recording: Annotated[Recording, AS_IT_IS] = Field(kw_only=False)
    n: Annotated[Count, Flag("--count", "-n")] = Field(default=8, kw_only=False, description="how many takes")
    strength: Annotated[Share | None, Flag(otherwise="0.3; of a recording alone 0.5")] = Field(
        default=None, kw_only=False, description="how much changes: 0 nothing, 1 everything"
    )
    seed: Seed = Field(default=None, kw_only=False)
    recording_rate: int | None = None
    transpose: Annotated[Annotated[float, Field(ge=-48, le=48)] | None, Flag(metavar="SEMITONES")] = Field(
        default=None, description="move its tones up, or down below 0"
    )
    note: Annotated[Notes | None, BeforeValidator(checked_notes), Flag(metavar="NOTE", type=str)] = Field(
        default=None, description="bring it to one note, such as C3 or 48"
    )
    tuning: TuningOfNotes = "corpus"
    temperature: Coolness = 1.0
    drafts: Annotated[Drafts, Flag(otherwise="4 above a strength of 0.5, else 1")] = None
    width: Width = 1.0
    sample_rate: RateOfRecording = None
    loudness: Loudness = None
    progress: Progress | None = None
    take: Take | None = None
    on_output: OnOutput | None = None
    first_alone: bool = False

    @model_validator(mode="after")
    def _check_note(self) -> Self:
        check_tuning(self.tuning, self.note)
        if self.note is None:
            return self
        if self.transpose is not None:
            raise ParamsError(
                f"note {self.note}: expected one note, or a number of semitones, found both; give one of them"
            )
        if len(notes := read_notes(self.note)) > 1:
            raise ParamsError(
                f"note {self.note}: expected one note for takes, found {len(notes)}; give one, or make an instrument of a "
                "recording at several with `distill kit`"
            )
        return self

    @property
    def is_moved(self) -> bool:
        """Whether takes are at other pitches than the recording."""
        return self.transpose is not None or self.note is not None


def checked_below(given: Any) -> Any:
    """Two recordings below two others, or none. Raises ParamsError."""
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        found = type(given).__name__
        raise ParamsError(f"below: expected a list of two recordings, found one {found}; give two, as a list")
    if len(given) not in (0, 2):
        raise ParamsError(
            f"morph: expected two recordings, or four as the corners of a grid, found {2 + len(given)}; give two or four"
        )
    return given


class MorphSettings(Settings):
    """What `morph` is asked for."""

    first: Annotated[Recording, AS_IT_IS] = Field(kw_only=False)
    last: Annotated[Recording, AS_IT_IS] = Field(kw_only=False)
    steps: Annotated[int, Field(ge=2, le=64)] = Field(
        default=5, kw_only=False, description="how many sounds, both ends among them; of a grid on each side"
    )
    below: Annotated[Sequence[Recording], PlainValidator(checked_below)] = ()
    first_rate: int | None = None
    last_rate: int | None = None
    below_rate: int | None = None
    width: Width = 1.0
    sample_rate: RateOfModel = None
    loudness: Loudness = None
    progress: Progress | None = None
    take: Take | None = None
    on_output: OnOutput | None = None
    first_alone: bool = False

    @model_validator(mode="after")
    def _check_below(self) -> Self:
        if self.below_rate is not None and not self.below:
            raise ParamsError("below_rate: expected below with it, found none; name two recordings, or leave it out")
        return self


class Drawn(Guided):
    """Settings of what is drawn beside or within a recording."""

    recording: Annotated[Recording, AS_IT_IS] = Field(kw_only=False)
    n: Annotated[Count, Flag("--count", "-n")] = Field(default=1, description="how many sounds")
    seed: Seed = None
    recording_rate: int | None = None
    temperature: Coolness = 1.0
    width: Width = 1.0
    sample_rate: RateOfRecording = None
    loudness: Loudness = None
    progress: Progress | None = None
    take: Take | None = None
    on_output: OnOutput | None = None
    first_alone: bool = False


class ExtendSettings(Drawn):
    """What `extend` is asked for."""

    before: Annotated[float, Field(ge=0, le=600)] = Field(default=0.0, description="seconds that are drawn before it")
    after: Annotated[float, Field(ge=0, le=600)] = Field(default=0.0, description="seconds that are drawn after it")

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if not self.before + self.after:
            raise ParamsError(
                "extend: expected seconds before or after the recording, found none; give at least one of both"
            )
        return self


class FillSettings(Drawn):
    """What `fill` is asked for."""

    start: Annotated[float, Field(ge=0, le=3600), Flag("--from")] = Field(
        description="where the part begins, in seconds"
    )
    end: Annotated[float, Field(gt=0, le=3600), Flag("--to")] = Field(description="where the part ends, in seconds")

    @model_validator(mode="after")
    def _check_part(self) -> Self:
        if self.start >= self.end:
            raise ParamsError(
                f"to {self.end:g}: expected a part that ends after it begins, at {self.start:g} s, found none; give a later end"
            )
        return self


class KitSettings(Settings):
    """What `kit` is asked for."""

    out: Annotated[str | os.PathLike[str], AS_IT_IS, Flag("--out", "-o", metavar="DIR", type=Path)] = Field(
        kw_only=False, description="where the kit goes: a new or an empty folder"
    )
    per_label: Annotated[int, Field(ge=1, le=64)] = Field(default=4, description="sounds of each label, or note")
    formats: Annotated[
        Sequence[KitFormat],
        Field(min_length=1),
        BeforeValidator(split_text),
        Flag("--format", metavar="FORMATS", type=str, otherwise=",".join(FORMATS)),
    ] = Field(default=FORMATS, description=f"{any_of(FORMATS)}, or several of them")
    seed: Seed = None
    seconds: Annotated[float, Field(ge=0.01, le=60)] = Field(
        default=LONGEST_SECONDS, description="the longest sound; most end before"
    )
    temperature: Coolness = 1.0
    velocity_layers: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1, description="layers by loudness, at most one a sound"
    )
    labels: Annotated[Sequence[str], Flag("--label", type=list[str], otherwise="all")] = Field(
        default=(), description="only this label; may be repeated"
    )
    keys: Annotated[Mapping[str, int | str], Flag(metavar="LABEL=NOTE,...", type=list[str])] = Field(
        default={}, description="other keys than by name: MIDI numbers or notes, C4 is 60; may be repeated"
    )
    notes: SomeNotes = Field(
        default=None, description="an instrument at these notes, such as C1:C6 or C2,G2,C3, of one label"
    )
    every: Annotated[Annotated[int, Field(ge=1, le=127)] | None, Flag(otherwise="1")] = Field(
        default=None, description="with --notes: only every so many-th note"
    )
    one_key: bool = Field(
        default=False, description="one sound on one key, in variations that play in turn, such as footsteps"
    )
    round_robins: Annotated[Annotated[int, Field(ge=1, le=64)] | None, Flag(otherwise="4")] = Field(
        default=None, description="with --one-key: how many variations, of each layer"
    )
    tuning: TuningOfNotes = "corpus"
    width: Width = 1.0
    allow_copies: bool = Field(default=False, description="keep copies of training recordings")
    sample_rate: RateOfKit = None
    loudness: Loudness = None
    replace: bool = Field(default=False, description="replace the kit in that folder")
    progress: Progress | None = None

    @model_validator(mode="after")
    def _check_every(self) -> Self:
        if self.every is not None and self.notes is None:
            raise ParamsError(
                f"every {self.every}: expected notes of which to take some, found none; give notes such as C1:C6"
            )
        return self

    @model_validator(mode="after")
    def _check_one_key(self) -> Self:
        if self.round_robins is not None and not self.one_key:
            raise ParamsError(
                f"round_robins {self.round_robins}: expected one_key with it, found none; give both, or per_label alone"
            )
        usual = {name: field.default for name, field in type(self).model_fields.items()}
        for other in ("notes", "per_label"):
            if self.one_key and getattr(self, other) != usual[other]:
                raise ParamsError(
                    f"{other}: expected none beside one_key, found {getattr(self, other)}; leave one of them out"
                )
        return self

    @property
    def each(self) -> int:
        """Number of sounds of each label, or note; on one key of each layer."""
        return (self.round_robins or self.per_label) * self.velocity_layers if self.one_key else self.per_label

    @property
    def sampled(self) -> list[int]:
        """The MIDI keys that have sounds of their own, upwards; none without notes."""
        return [] if self.notes is None else sorted({*read_notes(self.notes)})[:: self.every]


class DecodeSettings(Settings):
    """What `decode` is asked for of its sounds."""

    sample_rate: RateOfModel = None
    loudness: Loudness = None


def takes(kind: Callable[P, S]) -> Callable[[Callable[[Owner, S], Result]], Callable[Concatenate[Owner, P], Result]]:
    """Give a method, in place of its request, the fields of the request's class as arguments, and their help.

    The method raises ParamsError for arguments out of range.
    """
    settings, types = cast(type[Settings], kind), get_type_hints(kind)
    arguments = []
    for name, argument in inspect.signature(settings).parameters.items():
        is_positional = settings.model_fields[name].kw_only is False
        kind_of = inspect.Parameter.POSITIONAL_OR_KEYWORD if is_positional else argument.kind
        arguments.append(argument.replace(kind=kind_of, annotation=types[name]))
    arguments.sort(key=lambda argument: argument.kind)
    helps = [f"- `{name}`: {field.description}" for name, field in fields_of(settings).items()]

    def decorated(method: Callable[[Owner, S], Result]) -> Callable[Concatenate[Owner, P], Result]:
        itself, *_ = inspect.signature(method).parameters.values()
        signature = inspect.signature(method).replace(parameters=[itself, *arguments])

        @wraps(method)
        def run(self: Owner, *given: P.args, **named: P.kwargs) -> Result:
            from distill.training.distributed import usual_tensors  # which loads PyTorch

            values = signature.bind(self, *given, **named).arguments
            del values[itself.name]
            with usual_tensors():
                return method(self, cast(S, validated(settings, values, f"{method.__name__}: ")))

        vars(run)["__signature__"] = signature
        run.__doc__ = "\n".join([inspect.getdoc(method) or "", "", *helps])
        return cast(Callable[Concatenate[Owner, P], Result], run)

    return decorated
