"""Qualities: what `vqvae.quality` stands for, from `params.yaml`."""

from typing import Self

from pydantic import model_validator

from distill.params.bounds import Levels, QualityName, Settings
from distill.params.yaml_file import default_values


class Quality(Settings):
    """Defaults of the codec at a quality."""

    num_quantizers: Levels


class Qualities(Settings):
    """Section `qualities`: the codec's bit rate, by its residual levels."""

    small: Quality
    standard: Quality
    high: Quality

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        levels = [one.num_quantizers for one in (self.small, self.standard, self.high)]
        if levels != sorted(levels):
            raise ValueError("expected num_quantizers not to fall from small to standard to high")
        return self

    def choose(self, name: QualityName) -> Quality:
        """The quality `name`."""
        return {"small": self.small, "standard": self.standard, "high": self.high}[name]


def default_qualities() -> Qualities:
    """The packaged qualities."""
    return Qualities.model_validate(default_values()["qualities"])
