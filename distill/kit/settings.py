"""Settings of `kit`."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from distill.errors import ParamsError
from distill.generate.settings import (
    LONGEST_SECONDS,
    UNCHECKED,
    Coolness,
    Flag,
    Loudness,
    RateOfKit,
    Seed,
    SomeNotes,
    TuningOfNotes,
    Width,
)
from distill.notes import read_notes
from distill.params.settings import Settings
from distill.progress import Progress, silent
from distill.text import any_of

KitFormat = Literal["sfz", "dspreset"]
FORMATS: tuple[KitFormat, ...] = get_args(KitFormat)


def split_text(given: Any) -> Any:
    """Split a text at commas; return anything else unchanged."""
    return [part.strip() for part in given.split(",")] if isinstance(given, str) else given


def keys_of_labels(given: Any) -> Any:
    """Split texts LABEL=NOTE,... into notes by label; return a mapping unchanged. Raises ParamsError.

    A label may contain commas and equals signs, a note contains none.
    """
    if not isinstance(given, list):
        return given
    notes: dict[str, str] = {}
    for text in given:
        if not re.fullmatch(r"(.+?=[^=,]+(,|$))+", text):
            raise ParamsError(
                f"--keys {text}: expected LABEL=NOTE, such as kick=C2, or several with commas between"
            )
        for label, note in re.findall(r"(.+?)=([^=,]+)(?:,|$)", text):
            if label in notes:
                raise ParamsError(
                    f"--keys {text}: expected one note for {label}, found a second; give it once"
                )
            notes[label] = note
    return notes


class KitSettings(Settings):
    """Settings of `kit`."""

    out: Annotated[
        str | os.PathLike[str], UNCHECKED, Flag("--out", "-o", metavar="DIR", type=Path)
    ] = Field(kw_only=False, description="folder of the kit: a new or an empty one")
    per_label: Annotated[int, Field(ge=1, le=64)] = Field(
        default=4, description="sounds of each label, or note"
    )
    formats: Annotated[
        Sequence[KitFormat],
        Field(min_length=1),
        BeforeValidator(split_text),
        Flag("--format", metavar="FORMATS", type=str, otherwise=",".join(FORMATS)),
    ] = Field(default=FORMATS, description=f"{any_of(FORMATS)}, or several of them")
    seed: Seed = None
    seconds: Annotated[float, Field(ge=0.01, le=60)] = Field(
        default=LONGEST_SECONDS, description="longest sound; most end sooner"
    )
    temperature: Coolness = 1.0
    velocity_layers: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1, description="velocity layers, at most one for each sound"
    )
    labels: Annotated[Sequence[str], Flag("--label", type=list[str], otherwise="all")] = Field(
        default=(), description="only this label; may be repeated"
    )
    keys: Annotated[
        Mapping[str, int | str],
        BeforeValidator(keys_of_labels),
        Flag(metavar="LABEL=NOTE,...", type=list[str]),
    ] = Field(
        default={},
        description="keys of labels that differ from their names: MIDI numbers or notes, C4 is 60; may be repeated",
    )
    notes: SomeNotes = Field(
        default=None,
        description="an instrument at these notes, such as C1:C6 or C2,G2,C3, of one label",
    )
    every: Annotated[Annotated[int, Field(ge=1, le=127)] | None, Flag(otherwise="1")] = Field(
        default=None, description="with notes: sounds at every Nth note only"
    )
    one_key: bool = Field(
        default=False,
        description="one sound on one key, in variations that play in turn, such as footsteps",
    )
    round_robins: Annotated[Annotated[int, Field(ge=1, le=64)] | None, Flag(otherwise="4")] = Field(
        default=None, description="with one key: variations in each layer"
    )
    tuning: TuningOfNotes = "corpus"
    width: Width = 1.0
    allow_copies: bool = Field(default=False, description="keep copies of training recordings")
    sample_rate: RateOfKit = None
    loudness: Loudness = None
    replace: bool = Field(default=False, description="replace the kit in that folder")
    progress: Progress = silent

    @model_validator(mode="after")
    def _check_every(self) -> Self:
        if self.every and not self.notes:
            raise ParamsError(
                f"every {self.every}: expected notes of which to take some, found none; give notes such as C1:C6"
            )
        return self

    @model_validator(mode="after")
    def _check_one_key(self) -> Self:
        if self.round_robins and not self.one_key:
            raise ParamsError(
                f"round_robins {self.round_robins}: expected one_key with it, found none; give both, or per_label alone"
            )
        for other in ("notes", "per_label"):
            default = type(self).model_fields[other].default
            if self.one_key and getattr(self, other) != default:
                raise ParamsError(
                    f"{other}: expected none beside one_key, found {getattr(self, other)}; leave one of them out"
                )
        return self

    @property
    def each(self) -> int:
        """Number of sounds of each label, or note; on one key of each layer."""
        one_layer = self.round_robins or self.per_label
        return one_layer * self.velocity_layers if self.one_key else one_layer

    @property
    def sampled(self) -> list[int]:
        """MIDI keys that have sounds of their own, in ascending order; empty without notes."""
        notes = read_notes(self.notes) if self.notes else []
        return sorted({*notes})[:: self.every]
