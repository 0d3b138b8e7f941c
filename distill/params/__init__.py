"""Settings: `params.yaml` as frozen, validated classes, one for each section, and the tiers that fill in every `auto`.

A field states type and range once; its comment in `params.yaml` states its meaning. Files, flags, the page and the docs
use both. Sections `vqvae` and `prior`, tiers and qualities each hold only some values of a class. `Params.vqvae_config`
and `Params.prior_config` merge them: a section overrides the quality, and the quality overrides the tier.
"""

from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from distill.errors import ParamsError
from distill.params.settings import (
    Auto,
    Setting,
    Settings,
    comments,
    default_values,
    field_at,
    first_problem,
    read_yaml,
    setting_of,
    some_of,
    validated,
)
from distill.prior.architectures import ARCHITECTURES, DEFAULT, SUMMARIES, ArchitectureName

__all__ = ["Setting", "Settings", "default_values", "first_problem", "validated"]

# Sizes of the pretrained weights.
PRETRAINED_SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "num_layers": 3,
    "num_heads": 4,
    "depth_layers": 2,
}

TierName = Literal["small", "medium", "large"]
QualityName = Literal["small", "standard", "high"]
Quantizer = Literal["overlapping", "residual"]
Labels = Literal["none", "folder"]
Channels = Literal["auto", "mono"]
BY_TIER = Field(title="by the tier")  # title of a field: what fills in `auto`

# Ranges shared by sections, shapes in model files and arguments of commands.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
BudgetMinutes = Annotated[float, Field(ge=0, le=100_000)]
Patience = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Clip = Annotated[float, Field(gt=0)]
LossWeight = Annotated[float, Field(ge=0, le=100)]
CodebookSize = Annotated[int, Field(ge=2, le=65_536)]
Levels = Annotated[int, Field(ge=6, le=16)]
CodebookSizes = Annotated[
    tuple[CodebookSize, ...], Field(min_length=1, max_length=16, strict=False)
]  # for each level
LatentSize = Annotated[int, Field(ge=2, le=1024)]
CodecWidth = Annotated[int, Field(ge=8, le=4096)]
CodecLayers = Annotated[int, Field(ge=1, le=64)]
PriorWidth = Annotated[int, Field(ge=8, le=8192)]
PriorLayers = Annotated[int, Field(ge=1, le=128)]
Heads = Annotated[int, Field(ge=1, le=128)]
DepthLayers = Annotated[int, Field(ge=0, le=64)]
CodewordSize = Annotated[int, Field(ge=1, le=1024)]
ShardLength = Annotated[int, Field(ge=8, le=1 << 20)]
ChunkSize = Annotated[int, Field(ge=1, le=4096)]
KeySize = Annotated[int, Field(ge=1, le=256)]
Temperature = Annotated[float, Field(ge=0.01, le=10)]
TopK = Annotated[int, Field(ge=0)]
TopP = Annotated[float, Field(ge=0.001, le=1)]
Guidance = Annotated[float, Field(ge=0, le=20)]


class CorpusConfig(Settings):
    """Section `corpus`: recordings."""

    path: Annotated[str, Field(min_length=1)]
    sample_rate: Annotated[int, Field(ge=8_000, le=96_000)] | Auto
    labels: Labels
    trim: bool
    max_rejected: Share
    channels: Channels = "auto"


class VQVAEConfig(Settings):
    """Section `vqvae`: codec and its training."""

    quality: QualityName = "standard"
    codebook_size: Annotated[CodebookSize, BY_TIER]
    num_quantizers: Annotated[Levels, Field(title="by the quality")]
    quantizer: Quantizer = "overlapping"
    epochs: Annotated[Epochs, BY_TIER]
    learning_rate: Annotated[Rate, BY_TIER]
    dropout: Annotated[Dropout, BY_TIER]
    ema_decay: Annotated[Fraction, BY_TIER]
    commitment_weight: LossWeight
    batch_size: Count
    crop_seconds: Annotated[float, Field(ge=0.1, le=60)]
    hidden_size: CodecWidth
    num_layers: CodecLayers
    latent_size: LatentSize
    weight_decay: Share
    gradient_clip: Clip
    encoder_rate: Share
    patience: Patience
    least_gain: Annotated[Share, Field(title="by the tier, 0 where epochs are a number")]
    budget_minutes: BudgetMinutes | Auto = 0.0  # training sets `auto` by the number of steps

    @model_validator(mode="after")
    def _check_batch(self) -> Self:
        most = int(600 / self.crop_seconds)  # 600 s of sound take about 36 GB in training
        if self.batch_size > most:
            raise ValueError(
                f"batch_size: expected at most {most}, ten minutes of sound at crop_seconds {self.crop_seconds:g}, found "
                f"{self.batch_size}; lower one of the two"
            )
        return self


class SplitConfig(Settings):
    """Section `split`: which recordings are held out, for codec and prior."""

    val_fraction: Fraction | Auto

    def resolve(self, recordings: int) -> float:
        """Proportion to hold out. The default is larger for small corpora, whose held-out metrics are noisy.

        Below ten recordings it is smaller again, as few can be spared.
        """
        if self.val_fraction != "auto":
            return self.val_fraction
        return next(
            (share for bound, share in ((10, 0.2), (50, 0.3), (200, 0.2)) if recordings < bound),
            0.1,
        )


class CodesConfig(Settings):
    """Section `codes`: training codes of the prior."""

    views: Annotated[int, Field(ge=1, le=256)] | Auto

    def resolve(self, seconds: float) -> int:
        """Number of augmentations of each recording; by default up to 16, and up to 16 hours in total."""
        return (
            max(1, min(16, int(16 * 3600 / max(seconds, 1.0))))
            if self.views == "auto"
            else self.views
        )


class MemoryConfig(Settings):
    """Section `prior.memory`: memory of `architecture: memory` and its training."""

    span_seconds: Annotated[float, Field(ge=0.1, le=7200)]
    shard_length: ShardLength
    chunk_size: ChunkSize
    key_size: KeySize
    polarisation: LossWeight
    polarisation_warmup: Share
    motif_share: Share
    fast_fail: bool


class PriorConfig(Settings):
    """Section `prior`: model of the codes and its training. Only section `split` sets `val_fraction`."""

    architecture: ArchitectureName = Field(description=SUMMARIES)
    hidden_size: Annotated[PriorWidth, BY_TIER]
    num_layers: Annotated[PriorLayers, BY_TIER]
    num_heads: Annotated[Heads, BY_TIER]
    depth_layers: DepthLayers
    pretrained: bool
    count_experts: bool
    dropout: Annotated[Dropout, BY_TIER]
    label_smoothing: Annotated[Share, BY_TIER]
    label_dropout: Share = 0.1
    history_dropout: Annotated[float, Field(ge=0, le=0.5), BY_TIER] = 0.0
    weight_averaging: Dropout
    epochs: Annotated[Epochs, BY_TIER]
    learning_rate: Annotated[Rate, BY_TIER]
    batch_size: Annotated[Count, Field(title="by the number of recordings")]
    context_seconds: Annotated[float, Field(ge=0.1, le=600)]
    transpose: Annotated[int, Field(ge=0, le=12), BY_TIER] = 0
    weight_decay: Share
    gradient_clip: Clip
    warmup_steps: Annotated[int, Field(ge=0)]
    patience: Annotated[Patience, BY_TIER]
    budget_minutes: BudgetMinutes | Auto = 0.0  # as `VQVAEConfig.budget_minutes`
    memorization_perplexity: Annotated[float, Field(ge=1), BY_TIER]
    val_fraction: Fraction
    memory: MemoryConfig | None = None

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.hidden_size % (2 * self.num_heads):  # rotary embeddings rotate pairs of features
            raise ValueError(
                f"num_heads: expected heads of an even size, found {self.num_heads} for hidden_size {self.hidden_size}; "
                "change one of the two"
            )
        if ("memory" in ARCHITECTURES[self.architecture].settings) != (self.memory is not None):
            raise ValueError(
                f"memory: expected a section for architecture memory alone, found {self.memory}"
            )
        return self

    @property
    def fits_pretrained(self) -> bool:
        """Whether training can start from the pretrained weights, which have these sizes."""
        sizes = {name: getattr(self, name) for name in PRETRAINED_SIZES}
        can_read = "pretrained" in ARCHITECTURES[self.architecture].settings and self.count_experts
        return self.pretrained and can_read and sizes == PRETRAINED_SIZES


class BundleConfig(Settings):
    """Section `bundle`: model file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    reference: bool


class AuditionConfig(Settings):
    """Section `audition`: sounds of the last stage and their sampling."""

    count: Annotated[int, Field(ge=1, le=1000)]
    max_seconds: Annotated[float, Field(ge=0.1, le=600)]
    temperature: Temperature
    top_k: TopK
    top_p: TopP
    guidance: Guidance


SomeVQVAE: Any = some_of(VQVAEConfig)
SomePrior: Any = some_of(PriorConfig, "val_fraction")


class Tier(Settings):
    """Values of `auto` for corpora of up to `max_recordings` recordings; the last tier has no limit.

    `frame` overrides `prior` for architectures with depth layers; `pretrained` overrides both with pretrained weights.
    """

    max_recordings: Count | None
    vqvae: SomeVQVAE
    prior: SomePrior
    frame: SomePrior
    pretrained: SomePrior


class Params(Settings):
    """All of `params.yaml`; missing values come from the file that ships."""

    seed: Seed
    tier: Literal["auto", TierName]
    corpus: CorpusConfig
    vqvae: SomeVQVAE
    split: SplitConfig
    codes: CodesConfig
    prior: SomePrior
    bundle: BundleConfig
    audition: AuditionConfig
    qualities: dict[QualityName, SomeVQVAE]  # values of `auto` by `vqvae.quality`
    tiers: dict[TierName, Tier]  # values of every other `auto` of codec and prior

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        return _laid_over(default_values(), values)

    @model_validator(mode="after")
    def _check_tiers(self) -> Self:
        """Raise ValueError if codec and prior settings are invalid in every tier."""
        refused = None
        for name in get_args(TierName) if self.tier == "auto" else (self.tier,):
            chosen = self.model_copy(update={"tier": name})
            try:
                chosen.vqvae_config(1)
                chosen.prior_config(1)
                return self
            except ParamsError as error:
                refused = error
        raise ValueError(refused)

    def tier_name(self, recordings: int) -> TierName:
        """Name of the tier of a corpus of `recordings` usable recordings."""
        if self.tier != "auto":
            return self.tier
        bounds: dict[TierName, int] = {
            name: self.tiers[name].max_recordings or 0 for name in get_args(TierName)
        }
        return next((name for name, most in bounds.items() if recordings <= most), "large")

    def vqvae_config(self, recordings: int) -> VQVAEConfig:
        """Codec settings for a corpus of `recordings` usable recordings. Raises ParamsError."""
        tier, own = self.tiers[self.tier_name(recordings)], self.vqvae.given
        quality = self.qualities[own.get("quality", "standard")]
        trial = {"least_gain": 0.0} if "epochs" in own else {}
        return validated(
            VQVAEConfig, {**tier.vqvae.given, **trial, **quality.given, **own}, "vqvae."
        )

    def prior_config(self, recordings: int) -> PriorConfig:
        """Prior settings for a corpus of `recordings` usable recordings. Raises ParamsError."""
        tier, own = self.tiers[self.tier_name(recordings)], self.prior.given
        taken = ARCHITECTURES[own.get("architecture", DEFAULT)].settings
        batch_size = min(32, max(1, recordings * 5 // 4))
        values = {
            "batch_size": batch_size,
            "val_fraction": self.split.resolve(recordings),
            **tier.prior.given,
        }
        if "depth_layers" in taken:
            values |= tier.frame.given
        own["memory"] = own.get("memory") if "memory" in taken else None
        plain = validated(PriorConfig, {**values, **own}, "prior.")
        if not plain.fits_pretrained:
            return plain
        return validated(PriorConfig, {**values, **tier.pretrained.given, **own}, "prior.")


def load_params(path: Path) -> Params:
    """Read and validate `params.yaml`. Raises ParamsError that names the file, the key and the nearest known key."""
    return validated(Params, read_yaml(path), f"{path}: ")


def default_params(**sections: Any) -> Params:
    """Settings that ship, with the given values by section. Raises ParamsError."""
    return validated(Params, sections)


def get_adaptive_vqvae_config(n: int, **changes: Any) -> VQVAEConfig:
    """Default codec settings with `changes`, for a corpus of `n` usable recordings. Raises ParamsError."""
    return default_params(vqvae=changes).vqvae_config(n)


def get_adaptive_prior_config(n: int, **changes: Any) -> PriorConfig:
    """Default prior settings with `changes`, for a corpus of `n` usable recordings. Raises ParamsError."""
    return default_params(prior=changes).prior_config(n)


def setting(path: str) -> Setting:
    """Describe a setting such as "vqvae.epochs"; no help and default if the file of a checkout is broken."""
    *_, field = field_at(Params, path.split("."))
    assert field is not None, path
    try:
        default = reduce(getitem, path.split("."), default_values())
        return setting_of(field, comments().get(path, ""), default)
    except (ParamsError, KeyError, TypeError):
        return setting_of(field)


def _laid_over(lower: Any, upper: Any) -> Any:
    """Merge two nested dicts; `upper` overrides `lower`."""
    if not (isinstance(lower, dict) and isinstance(upper, dict)):
        return upper
    return {**lower, **{key: _laid_over(lower.get(key), value) for key, value in upper.items()}}
