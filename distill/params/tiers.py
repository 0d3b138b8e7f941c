"""Tiers: what `auto` stands for, by the number of usable recordings. Their numbers stand in `params.yaml`."""

from typing import Any, Self

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
    Levels,
    MemorizationPerplexity,
    PriorLayers,
    PriorWidth,
    Rate,
    Settings,
    Share,
    TierName,
)
from distill.params.yaml_file import default_values


class TierVQVAE(Settings):
    """What a tier gives the codec."""

    codebook_size: CodebookSize
    num_quantizers: Levels
    epochs: Epochs
    learning_rate: Rate
    dropout: Dropout
    ema_decay: Fraction


class TierPrior(Settings):
    """What a tier gives the prior."""

    hidden_size: PriorWidth
    num_layers: PriorLayers
    num_heads: Heads
    dropout: Dropout
    label_smoothing: Share
    history_dropout: HistoryShare
    epochs: Epochs
    learning_rate: Rate
    memorization_perplexity: MemorizationPerplexity


class TierFrame(Settings):
    """What `frame` and `memory` have in place of the prior's numbers, where they say so (docs/decisions.md)."""

    hidden_size: PriorWidth | None = None
    num_layers: PriorLayers | None = None
    num_heads: Heads | None = None
    dropout: Dropout | None = None
    label_smoothing: Share | None = None
    history_dropout: HistoryShare | None = None
    epochs: Epochs | None = None
    learning_rate: Rate | None = None


class Tier(Settings):
    """One tier: what corpora of up to `max_recordings` start from, of any size where that is None."""

    max_recordings: Count | None
    vqvae: TierVQVAE
    prior: TierPrior
    frame: TierFrame

    def prior_defaults(self, with_depth: bool) -> dict[str, Any]:
        """What the tier gives a prior; `with_depth`: with `frame` in place of what it says."""
        frame = self.frame.model_dump(exclude_none=True) if with_depth else {}
        return {**self.prior.model_dump(), **frame}


class Tiers(Settings):
    """Section `tiers`, from small to large."""

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
        """The tier called `name`, or for "auto" the first whose bound holds `recordings` usable recordings."""
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
    """The tiers that the package ships."""
    return Tiers.model_validate(default_values()["tiers"])


def val_fraction_for(recordings: int) -> float:
    """The share of recordings to hold out: small corpora need more of them for the figure to mean anything."""
    for bound, fraction in ((10, 0.5), (50, 0.3), (200, 0.2)):
        if recordings < bound:
            return fraction
    return 0.1


def batch_size_for(recordings: int) -> int:
    """Sequences per training step of the prior."""
    return min(32, max(1, recordings * 5 // 4))
