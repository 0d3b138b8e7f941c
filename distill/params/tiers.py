"""Tiers: the values of `auto` by the number of usable recordings, from `params.yaml`."""

from typing import Any, NamedTuple, Self

from pydantic import model_validator

from distill.errors import ParamsError
from distill.params.bounds import (
    Auto,
    CodebookSize,
    Count,
    Dropout,
    Epochs,
    Fraction,
    Heads,
    HistoryShare,
    MemorizationPerplexity,
    Patience,
    PriorLayers,
    PriorWidth,
    Rate,
    Settings,
    Share,
    TierName,
)
from distill.params.yaml_file import default_values


class TierVQVAE(Settings):
    """Defaults of the codec in a tier."""

    codebook_size: CodebookSize
    epochs: Epochs
    learning_rate: Rate
    dropout: Dropout
    ema_decay: Fraction


class TierPrior(Settings):
    """Defaults of the prior in a tier."""

    hidden_size: PriorWidth
    num_layers: PriorLayers
    num_heads: Heads
    dropout: Dropout
    label_smoothing: Share
    history_dropout: HistoryShare
    epochs: Epochs
    learning_rate: Rate
    patience: Patience
    memorization_perplexity: MemorizationPerplexity


class PretrainedSizes(NamedTuple):
    """Sizes that a prior must have for the pretrained weights."""

    hidden_size: int = 128
    num_layers: int = 3
    num_heads: int = 4
    depth_layers: int = 2


PRETRAINED_SIZES = PretrainedSizes()


class TierFrame(Settings):
    """Overrides of a tier's prior defaults for `frame` and `memory`, where set (docs/decisions.md)."""

    hidden_size: PriorWidth | None = None
    num_layers: PriorLayers | None = None
    num_heads: Heads | None = None
    dropout: Dropout | None = None
    label_smoothing: Share | None = None
    history_dropout: HistoryShare | None = None
    epochs: Epochs | None = None
    learning_rate: Rate | None = None
    patience: Patience | None = None


class Tier(Settings):
    """One tier: defaults for corpora of up to `max_recordings` recordings, of any size where that is None."""

    max_recordings: Count | None
    vqvae: TierVQVAE
    prior: TierPrior
    frame: TierFrame
    pretrained: TierFrame

    def prior_defaults(self, with_depth: bool, pretrained: bool = False) -> dict[str, Any]:
        """Defaults of a prior; with `with_depth`, overridden by those of `frame`, and then with `pretrained` by its."""
        frame = self.frame.model_dump(exclude_none=True) if with_depth else {}
        if pretrained:
            frame |= self.pretrained.model_dump(exclude_none=True)
        return {**self.prior.model_dump(), **frame}


class Tiers(Settings):
    """Section `tiers`: defaults of small, medium and large corpora."""

    small: Tier
    medium: Tier
    large: Tier

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        small, medium = self.small.max_recordings, self.medium.max_recordings
        if small is None or medium is None or small >= medium or self.large.max_recordings is not None:
            raise ValueError("expected max_recordings to grow from small to medium, and null for large")
        return self

    def choose(self, recordings: int, name: TierName | Auto = "auto") -> tuple[TierName, Tier]:
        """The tier `name`, or for "auto" the first that holds `recordings` recordings. Raises ParamsError."""
        rows: tuple[tuple[TierName, Tier], ...] = (
            ("small", self.small),
            ("medium", self.medium),
            ("large", self.large),
        )
        for own, tier in rows:
            if name == own or (name == "auto" and (tier.max_recordings is None or recordings <= tier.max_recordings)):
                return own, tier
        raise ParamsError(f"tier: expected small, medium, large or auto, found {name!r}")


def default_tiers() -> Tiers:
    """The packaged tiers."""
    return Tiers.model_validate(default_values()["tiers"])


def val_fraction_for(recordings: int) -> float:
    """Default share of held-out recordings; larger for small corpora, whose held-out figures are noisy."""
    for bound, fraction in ((10, 0.5), (50, 0.3), (200, 0.2)):
        if recordings < bound:
            return fraction
    return 0.1


def batch_size_for(recordings: int) -> int:
    """Default batch size of the prior."""
    return min(32, max(1, recordings * 5 // 4))
