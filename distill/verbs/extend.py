"""Extend: sound generated before and after a recording."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from distill.errors import ParamsError
from distill.verbs.fill import PartSettings, with_parts
from distill.verbs.verb import Verb

if TYPE_CHECKING:
    from distill.generate.context import GenerationContext
    from distill.generate.presentation.results import Generated


class ExtendSettings(PartSettings):
    """Settings of `extend`."""

    before: Annotated[float, Field(ge=0, le=600)] = Field(
        default=0.0, description="seconds to generate before it"
    )
    after: Annotated[float, Field(ge=0, le=600)] = Field(
        default=0.0, examples=[2.0], description="seconds to generate after it"
    )

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if not self.before + self.after:
            raise ParamsError(
                "extend: expected seconds before or after the recording, found none; give at least one of both"
            )
        return self


def extend(context: "GenerationContext", settings: ExtendSettings) -> "Generated":
    """Generate `before` and `after` seconds next to a recording.

    The recording stays as it is, to the sample, but for 10 ms at each seam: sounds are at its sample rate, unless
    another is given, and their peak may be above full scale. Novelty is measured on the generated parts. Raises
    ArtifactError, AudioError and ParamsError.
    """
    from distill.generate.inputs import read_unchanged, side_info_of

    given = read_unchanged(context, settings.recording)
    rate, recorded = given.sample_rate, len(given.samples)
    before, after = (round(seconds * rate) for seconds in (settings.before, settings.after))
    if not before + after:
        raise ParamsError(
            "extend: expected seconds before or after the recording, found less than a sample; give more"
        )
    whole = np.pad(given.samples, [(before, after), (0, 0)][: given.samples.ndim])
    parts = [(before + recorded, len(whole)), (0, before)]
    side_info = side_info_of(context, given).cut(-settings.before, len(whole) / rate)
    return with_parts(
        context,
        settings,
        replace(given, samples=whole),
        [part for part in parts if part[0] < part[1]],
        side_info,
    )


VERB = Verb(
    extend,
    ExtendSettings,
    "Generate sound before and after a recording, which itself stays unchanged.",
    doing="extending",
    out="extended",
    keeps_recording=True,
)
