"""What a kit can be asked to be."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from distill.errors import ParamsError
from distill.params import Guidance, SamplingSeed, Settings, Temperature

KitFormat = Literal["sfz", "dspreset"]
FORMATS: tuple[KitFormat, ...] = get_args(KitFormat)

PerLabel = Annotated[int, Field(ge=1, le=64)]
VelocityLayers = Annotated[int, Field(ge=1, le=16)]
KitSeconds = Annotated[float, Field(ge=0.01, le=60)]


class KitSettings(Settings):
    """Settings of a kit: sounds of each label, layers, the longest sound in seconds, sampling, and what it may hold.

    Without `by_label` the groups are clusters by spectrum.
    """

    per_label: PerLabel
    velocity_layers: VelocityLayers
    seconds: KitSeconds
    seed: SamplingSeed
    temperature: Temperature
    guidance: Guidance
    allow_copies: bool
    by_label: bool

    @model_validator(mode="after")
    def _layers_have_sounds(self) -> Self:
        if self.velocity_layers > self.per_label:
            raise ParamsError(
                f"--velocity-layers {self.velocity_layers}: expected at most as many as sounds of each label, "
                f"found {self.per_label} with --per-label; ask for fewer layers or more sounds"
            )
        return self


def kit_formats(names: Sequence[str]) -> tuple[KitFormat, ...]:
    """The formats that are named, in the order of FORMATS. Raises ParamsError for no or an unknown one."""
    wrong = [name for name in names if name not in FORMATS]
    if wrong or not names:
        found = wrong[0] if wrong and wrong[0] else "none"
        raise ParamsError(f"--format: expected {' or '.join(FORMATS)}, or both with a comma between, found {found}")
    return tuple(one for one in FORMATS if one in names)
