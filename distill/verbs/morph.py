"""Morph: sounds between two recordings, or a grid between four."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PlainValidator

from distill.errors import ParamsError
from distill.generate.settings import UNCHECKED, Argument, Recording, SoundSettings
from distill.verbs.verb import Verb

if TYPE_CHECKING:
    from distill.generate.context import GenerationContext
    from distill.generate.presentation.results import Morphed


def checked_below(given: Any) -> Any:
    """Return two recordings, or none. Raises ParamsError."""
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        found = type(given).__name__
        raise ParamsError(
            f"below: expected a list of two recordings, found one {found}; give two, as a list"
        )
    if len(given) not in (0, 2):
        raise ParamsError(
            f"morph: expected two recordings, or four as the corners of a grid, found {2 + len(given)}; give two or four"
        )
    return given


class MorphSettings(SoundSettings):
    """Settings of `morph`."""

    first: Annotated[Recording, UNCHECKED, Argument("FIRST", "a recording")] = Field(kw_only=False)
    last: Annotated[Recording, UNCHECKED, Argument("LAST", "the recording that it leads to")] = (
        Field(kw_only=False)
    )
    steps: Annotated[int, Field(ge=2, le=64)] = Field(
        default=5,
        kw_only=False,
        description="how many sounds, both ends among them; of a grid on each side",
    )
    below: Annotated[
        Sequence[Recording],
        PlainValidator(checked_below),
        Argument("THIRD FOURTH", "two more, below them: the corners of a grid"),
    ] = ()


def morph(context: "GenerationContext", settings: MorphSettings) -> "Morphed":
    """Generate `steps` sounds from the recording `first` to the recording `last`.

    The first and the last sound are both recordings, decoded from their codes. Between them pitch, spectrum and length go
    from one to the other, aligned at attacks: partials move. With two more recordings `below` there are `steps` times
    `steps` sounds, row by row: the first row goes from `first` to `last`, the last row between those below. Raises
    ArtifactError, AudioError and ParamsError.
    """
    from distill.generate.inputs import recorded
    from distill.generate.presentation.results import Morphed
    from distill.generate.requests.generation import emitted
    from distill.generate.requests.morph import morphs

    corners = [
        recorded(context, recording)
        for recording in (settings.first, settings.last, *settings.below)
    ]
    rate = context.codec.spectrogram.sample_rate
    output, delivery = settings.output(rate), settings.delivery
    emit = emitted(output, rate, delivery.on_sound)
    drafts = morphs(context, corners, settings.steps, settings.width, delivery.progress, emit)
    return Morphed(draws=drafts, output=output, seed=None, columns=settings.steps)


VERB = Verb(
    morph,
    MorphSettings,
    "Make sounds between recordings: pitch, spectrum and length go from one to another, in steps.\n\n"
    "Of four recordings it makes a grid, row by row.",
    doing="morphing",
    out="morphed",
)
