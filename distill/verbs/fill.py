"""Fill: a part of a recording generated again. Parts that `extend` shares are here, too."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from distill.errors import ParamsError
from distill.generate.settings import (
    UNCHECKED,
    Argument,
    Coolness,
    Count,
    Flag,
    Guided,
    RateOfRecording,
    Recording,
    Seed,
    SoundSettings,
)
from distill.verbs.verb import Verb

if TYPE_CHECKING:
    from distill.audio.read import Original
    from distill.audio.side_info import SideInfo
    from distill.generate.context import GenerationContext
    from distill.generate.presentation.results import Generated


class PartSettings(Guided, SoundSettings):
    """Settings of sounds that are generated next to or within a recording."""

    recording: Annotated[Recording, UNCHECKED, Argument("AUDIO", "a recording")] = Field(
        kw_only=False
    )
    n: Annotated[Count, Flag("--count", "-n")] = Field(default=1, description="how many sounds")
    seed: Seed = None
    temperature: Coolness = 1.0
    sample_rate: RateOfRecording = None


class FillSettings(PartSettings):
    """Settings of `fill`."""

    start: Annotated[float, Field(ge=0, le=3600), Flag("--from")] = Field(
        examples=[0.0], description="where the part begins, in seconds"
    )
    end: Annotated[float, Field(gt=0, le=3600), Flag("--to")] = Field(
        examples=[0.5], description="where the part ends, in seconds"
    )

    @model_validator(mode="after")
    def _check_part(self) -> Self:
        if self.start >= self.end:
            raise ParamsError(
                f"to {self.end:g}: expected a part that ends after it begins, at {self.start:g} s, found none; give a later end"
            )
        return self


def fill(context: "GenerationContext", settings: FillSettings) -> "Generated":
    """Generate a part of a recording again, from `start` to `end`, in seconds. See `extend`."""
    from distill.generate.inputs import read_unchanged, side_info_of

    given = read_unchanged(context, settings.recording)
    rate, recorded = given.sample_rate, len(given.samples)
    start, end = (round(seconds * rate) for seconds in (settings.start, settings.end))
    if end > recorded:
        raise ParamsError(
            f"to {settings.end:g}: expected a part of the recording, which lasts {recorded / rate:g} s, "
            "found a later end; give an earlier one"
        )
    return with_parts(context, settings, given, [(start, end)], side_info_of(context, given))


def with_parts(
    context: "GenerationContext",
    settings: PartSettings,
    given: "Original",
    parts: Sequence[tuple[int, int]],
    side_info: "SideInfo",
) -> "Generated":
    """Generate `parts` of a recording, each from one sample to another, and keep the rest."""
    from distill.generate.presentation.results import Generated
    from distill.generate.requests.fill import FillRequest
    from distill.generate.requests.generation import generated, seed_or_any
    from distill.generate.sampling.processors import Sampling

    request = FillRequest(
        count=settings.n,
        max_seconds=len(given.samples) / given.sample_rate,
        sampling=Sampling(settings.temperature, guidance=settings.guidance_scale),
        label=context.label_number(settings.label),
        given=given.samples,
        sample_rate=given.sample_rate,
        parts=parts,
        side_info=side_info,
        width=settings.width,
    )
    seed, output = seed_or_any(settings.seed), settings.output(given.sample_rate, given.bits)
    drafts = generated(context, request, seed, [], output, settings.delivery, given.sample_rate)
    changes = {
        f"resampled from {given.sample_rate} to {output.sample_rate} Hz": output.sample_rate
        != given.sample_rate,
        "brought to another loudness": output.loudness is not None,
    }
    remarks = [
        f"what stays of the recording is {change}" for change, is_true in changes.items() if is_true
    ]
    return Generated(draws=drafts, output=output, seed=seed, remarks=remarks)


VERB = Verb(
    fill,
    FillSettings,
    "Generate a part of a recording again, and leave the rest unchanged.",
    doing="filling the part",
    out="filled",
    keeps_recording=True,
)
