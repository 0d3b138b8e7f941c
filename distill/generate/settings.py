"""Settings that verbs share: flags, ranges, and how sounds leave a model.

A field states its type, range, default and help once. Flags, page fields, Python arguments and reference pages are made
from it. A field without help is an argument in Python alone.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, model_validator
from pydantic.fields import FieldInfo

from distill.audio.output import Output, Tempo
from distill.audio.write import Bits
from distill.errors import ParamsError
from distill.notes import Notes, notes_text, read_notes
from distill.params import Guidance, Temperature, default_values
from distill.params.settings import Settings, setting_of
from distill.progress import Progress, silent

LONGEST_SECONDS = 10.0  # of a sound that ends at EOS, where no length is given


@dataclass(frozen=True)
class Flag:
    """Command-line form of a field, where it does not follow from the field."""

    name: str = ""
    short: str = ""
    metavar: str | None = None
    type: Any = None
    otherwise: str = ""  # shown as the default in place of None


@dataclass(frozen=True)
class Argument:
    """Positional argument of a command: a recording or several, after the model."""

    metavar: str
    help: str


def flag_of(name: str, field: FieldInfo) -> Flag:
    """Return the flag of a field, with a name and a type."""
    own = next((part for part in field.metadata if isinstance(part, Flag)), Flag())
    return replace(
        own, name=own.name or "--" + name.replace("_", "-"), type=own.type or setting_of(field).type
    )


def fields_of(kind: type[Settings]) -> dict[str, FieldInfo]:
    """Return the fields with help: positional arguments of Python first, fields of `SoundSettings` last."""
    fields = [(name, field) for name, field in kind.model_fields.items() if field.description]
    return dict(
        sorted(
            fields,
            key=lambda named: (
                named[1].kw_only is not False,
                named[0] in SoundSettings.model_fields,
            ),
        )
    )


def arguments_of(kind: type[Settings]) -> dict[str, Argument]:
    """Return the positional arguments of the command by field."""
    marked = {
        name: [own for own in field.metadata if isinstance(own, Argument)]
        for name, field in kind.model_fields.items()
    }
    return {name: own for name, found in marked.items() for own in found}


@dataclass(frozen=True, eq=False)
class Sound:
    """A recording in memory: `samples` `[N]`, or `[N, 2]` in stereo, at `sample_rate` Hz."""

    samples: Any  # checked where it is read
    sample_rate: int


OnSound = Callable[[int, NDArray[np.float32]], None]
"""Receives the index and the samples `[N]` or `[N, 2]` of a sound."""


@dataclass(frozen=True)
class Delivery:
    """Callbacks that receive sounds while a verb generates them.

    `progress` gets (done, of, text). `on_output` gets the sample rate and loudness before the first sound. `on_sound` gets
    the index and samples of each sound; the result then keeps no samples. With `first_alone` the first sound arrives
    sooner, and all of them a little later.
    """

    progress: Progress = silent
    on_sound: OnSound | None = None
    on_output: Callable[[Output], None] | None = None
    first_alone: bool = False


def checked_notes(given: Notes | None) -> str | None:
    """Return notes as one text. Raises ParamsError for anything that is no note."""
    if given is None:
        return None
    text = notes_text(given)
    read_notes(text)
    return text


def least_novelty(given: str | float | None) -> str | float | None:
    """Return a verdict, or a number from 0 to 1. Raises ParamsError."""
    if given is None or given in ("copy", "close", "new"):
        return given
    with suppress(ValueError):
        if 0 <= float(given) <= 1:
            return float(given)
    raise ParamsError(
        f"min_novelty {given}: expected close, new or a number from 0 to 1, found neither"
    )


def hertz_or_corpus(given: str | float) -> str | float:
    """Return the tuning of A4 in Hz, or "corpus" for the tuning of the recordings. Raises ParamsError."""
    lowest, highest = 380, 500
    if given == "corpus":
        return given
    with suppress(ValueError):
        if lowest <= float(given) <= highest:
            return float(given)
    raise ParamsError(
        f"tuning {given}: expected A4 in Hz, from {lowest} to {highest}, or corpus, found neither"
    )


Count = Annotated[int, Field(ge=1, le=10_000)]
SamplingSeed = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0.01, le=3600)]
Recording = str | os.PathLike[str] | NDArray[np.number] | Sound
"""A file, samples at the model's sample rate, or samples at another rate."""
UNCHECKED = PlainValidator(lambda value: value)  # checked where it is read
Rate = Annotated[int, Field(ge=8_000, le=192_000)] | None
RATE_HELP = "sample rate of the sounds"
RateOfModel = Annotated[
    Rate, Flag(metavar="HZ", otherwise="the model's"), Field(description=RATE_HELP)
]
RateOfRecording = Annotated[
    Rate, Flag(metavar="HZ", otherwise="the recording's"), Field(description=RATE_HELP)
]
RateOfKit = Annotated[
    Rate,
    Flag(metavar="HZ", otherwise="the model's, or the recording's"),
    Field(description=RATE_HELP),
]
Loudness = Annotated[
    Annotated[float, Field(ge=-70, le=0)] | None,
    Flag(metavar="LUFS", otherwise="as each sound is"),
    Field(
        description="integrated loudness of each sound, such as -23, as far as its peak stays below -1 dBFS"
    ),
]
Seed = Annotated[
    SamplingSeed | None,
    Field(description="same seed, same sounds; omit for a random seed"),
]
Width = Annotated[
    float,
    Field(ge=0, le=1.5, description="stereo width: 0 mono, 1 as the recordings, above 1 wider"),
]
DRAFTS_HELP = "drafts for each sound; the critic keeps one; 1 is fastest"
DraftCount = Annotated[Annotated[int, Field(ge=1, le=64)] | None, Field(description=DRAFTS_HELP)]
Coolness = Annotated[Temperature, Field(description="below 1 less random, above 1 more")]
TuningOfNotes = Annotated[
    str | float,
    AfterValidator(hertz_or_corpus),
    Flag(metavar="HZ|corpus", otherwise="corpus"),
    Field(description="A4 of notes in Hz; corpus: as the recordings where they agree, else 440"),
]
SomeNotes = Annotated[Notes | None, BeforeValidator(checked_notes), Flag(metavar="NOTES", type=str)]


def default_guidance(label: object) -> float:
    """Return the guidance scale that is used by default: 1 (off) without a label."""
    return float(default_values()["audition"]["guidance"]) if label else 1.0


def check_tuning(tuning: str | float, note: Notes | None) -> None:
    """Refuse a tuning without a note to tune. Raises ParamsError."""
    if note is None and tuning != "corpus":
        raise ParamsError(
            f"tuning {tuning:g}: expected a note to tune, found none; name a note such as C3"
        )


class Guided(Settings):
    """Settings with an optional label, and guidance towards it."""

    label: str | None = Field(
        default=None, description="label of the sounds, for models trained with labels"
    )
    guidance: Annotated[Guidance | None, Flag(otherwise="2.5")] = Field(
        default=None,
        description="guidance towards the label: 1 is off, above 1 follows the label more",
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
        """Scale of classifier-free guidance; 1 is off."""
        return default_guidance(self.label) if self.guidance is None else self.guidance


class SoundSettings(Settings):
    """Settings of every verb that gives sounds."""

    width: Width = 1.0
    sample_rate: RateOfModel = None
    loudness: Loudness = None
    delivery: Delivery = Delivery()

    def output(self, sample_rate: int, bits: Bits = 16, tempo: Tempo | None = None) -> Output:
        """Return the output format of sounds that are generated at `sample_rate` Hz, and report it to the delivery."""
        output = Output(self.sample_rate or sample_rate, self.loudness, bits, tempo)
        if self.delivery.on_output is not None:
            self.delivery.on_output(output)
        return output


class DecodeSettings(Settings):
    """Settings of the sounds that `decode` gives."""

    sample_rate: RateOfModel = None
    loudness: Loudness = None
