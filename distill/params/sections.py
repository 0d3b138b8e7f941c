"""Sections of `params.yaml` as frozen, validated classes. Missing keys take the packaged defaults."""

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from distill.errors import ParamsError
from distill.params.bounds import (
    Auto,
    Averaging,
    BudgetMinutes,
    Clip,
    CodebookSize,
    CodecLayers,
    CodecWidth,
    ContextSeconds,
    Count,
    CropSeconds,
    DepthLayers,
    Dropout,
    Epochs,
    Folds,
    Fraction,
    Guidance,
    Heads,
    HistoryShare,
    Labels,
    LatentSize,
    Levels,
    LossWeight,
    ModelName,
    Patience,
    PriorLayers,
    PriorWidth,
    QualityName,
    Quantizer,
    Rate,
    SampleRate,
    Seed,
    Settings,
    Share,
    Temperature,
    TierName,
    TopK,
    TopP,
    Views,
    WarmupSteps,
    WeightDecay,
)
from distill.params.configs import MemoryConfig, PriorConfig, VQVAEConfig
from distill.params.qualities import Qualities, default_qualities
from distill.params.tiers import Tiers, batch_size_for, default_tiers, val_fraction_for
from distill.params.yaml_file import default_values
from distill.prior.architectures import ARCHITECTURES, ArchitectureName

MOST_VIEWS = 16
VIEWED_SECONDS = 16 * 3600.0  # most seconds of sound to encode, over all views
MOST_BATCH_SECONDS = 600.0  # of sound in a batch of the codec, in which training takes about 36 GB


class Section(Settings):
    """Base of a section: missing keys take the packaged defaults, except `required` ones."""

    section: ClassVar[str]
    required: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        defaults = default_values()[cls.section]
        return {key: value for key, value in defaults.items() if key not in cls.required} | values


class CorpusParams(Section):
    """Section `corpus`: folder, sample rate in Hz or `auto`, labels, and the largest share of rejected recordings."""

    section, required = "corpus", frozenset({"path"})

    path: Annotated[str, Field(min_length=1)]
    sample_rate: SampleRate | Auto
    labels: Labels
    max_rejected: Share


class VQVAEParams(Section):
    """Section `vqvae`: `auto` takes the value of the tier; for `num_quantizers` that of the quality."""

    section = "vqvae"

    quality: QualityName
    codebook_size: CodebookSize | Auto
    num_quantizers: Levels | Auto
    quantizer: Quantizer
    epochs: Epochs | Auto
    learning_rate: Rate | Auto
    dropout: Dropout | Auto
    ema_decay: Fraction | Auto
    commitment_weight: LossWeight
    batch_size: Count
    crop_seconds: CropSeconds
    hidden_size: CodecWidth
    num_layers: CodecLayers
    latent_size: LatentSize
    weight_decay: WeightDecay
    gradient_clip: Clip
    encoder_rate: Share
    patience: Patience
    budget_minutes: BudgetMinutes | Auto

    def resolve(
        self,
        recordings: int,
        tier: TierName | Auto = "auto",
        tiers: Tiers | None = None,
        qualities: Qualities | None = None,
    ) -> VQVAEConfig:
        """Fill every `auto` for a corpus of `recordings` usable recordings. Raises ParamsError."""
        self.check_batch()
        _, row = (tiers or default_tiers()).choose(recordings, tier)
        quality = (qualities or default_qualities()).choose(self.quality)
        values = _resolved(self, {**row.vqvae.model_dump(), **quality.model_dump()})
        del values["quality"]
        return VQVAEConfig(**values)

    def check_batch(self) -> None:
        """Refuse a batch of more sound than is held in memory. Raises ParamsError."""
        most = int(MOST_BATCH_SECONDS / self.crop_seconds)
        if self.batch_size > most:
            raise ParamsError(
                f"vqvae.batch_size: expected at most {most}, ten minutes of sound at crop_seconds {self.crop_seconds:g}, found "
                f"{self.batch_size}; lower one of the two"
            )


class SplitParams(Section):
    """Section `split`: the share of held-out recordings, for codec and prior."""

    section = "split"

    val_fraction: Fraction | Auto

    def resolve(self, recordings: int) -> float:
        """The share of recordings to hold out."""
        return val_fraction_for(recordings) if self.val_fraction == "auto" else self.val_fraction


class CodesParams(Section):
    """Section `codes`: the number of views of each training recording."""

    section = "codes"

    views: Views | Auto

    def resolve(self, seconds: float) -> int:
        """Number of views of each recording, inversely proportional to the corpus's length in seconds."""
        return max(1, min(MOST_VIEWS, int(VIEWED_SECONDS / max(seconds, 1.0)))) if self.views == "auto" else self.views


class MemoryParams(MemoryConfig):
    """Section `prior.memory`: the memory of `architecture: memory`. Lengths are in frames."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        return {**default_values()["prior"]["memory"], **values} if isinstance(values, dict) else values


class PriorParams(Section):
    """Section `prior`: `auto` takes the tier's value."""

    section = "prior"

    architecture: ArchitectureName
    hidden_size: PriorWidth | Auto
    num_layers: PriorLayers | Auto
    num_heads: Heads | Auto
    depth_layers: DepthLayers
    geometry: bool
    pretrained: bool
    count_experts: bool
    dropout: Dropout | Auto
    label_smoothing: Share | Auto
    label_dropout: Share
    history_dropout: HistoryShare | Auto
    weight_averaging: Averaging
    epochs: Epochs | Auto
    learning_rate: Rate | Auto
    batch_size: Count | Auto
    context_seconds: ContextSeconds
    weight_decay: WeightDecay
    gradient_clip: Clip
    warmup_steps: WarmupSteps
    patience: Patience | Auto
    budget_minutes: BudgetMinutes | Auto
    folds: Folds
    memory: MemoryParams

    def resolve(
        self,
        recordings: int,
        tier: TierName | Auto = "auto",
        split: SplitParams | None = None,
        tiers: Tiers | None = None,
    ) -> PriorConfig:
        """Fill every `auto` for a corpus of `recordings` usable recordings."""
        _, row = (tiers or default_tiers()).choose(recordings, tier)
        settings = ARCHITECTURES[self.architecture].settings
        rest = {
            "batch_size": batch_size_for(recordings),
            "val_fraction": (split or SplitParams.model_validate({})).resolve(recordings),
        }

        def resolved(pretrained: bool) -> PriorConfig:
            values = _resolved(self, {**row.prior_defaults("depth_layers" in settings, pretrained), **rest})
            values["memory"] = MemoryConfig(**self.memory.model_dump()) if "memory" in settings else None
            if values["hidden_size"] % values["num_heads"]:
                raise ParamsError(indivisible(values["hidden_size"], values["num_heads"]))
            return PriorConfig(**values)

        plain = resolved(pretrained=False)
        return resolved(pretrained=True) if plain.fits_pretrained else plain


class BundleParams(Section):
    """Section `bundle`: the name of the model file `models/<name>.distill`, and whether it has a reference."""

    section = "bundle"

    name: ModelName
    reference: bool


class AuditionParams(Section):
    """Section `audition`: number, length and sampling settings of the audition's sounds."""

    section = "audition"

    count: Annotated[int, Field(ge=1, le=1000)]
    max_seconds: Annotated[float, Field(ge=0.1, le=600)]
    temperature: Temperature
    top_k: TopK
    top_p: TopP
    guidance: Guidance


class Params(Settings):
    """The whole of `params.yaml`."""

    seed: Seed
    tier: TierName | Auto
    corpus: CorpusParams
    vqvae: VQVAEParams
    split: SplitParams
    codes: CodesParams
    prior: PriorParams
    bundle: BundleParams
    audition: AuditionParams
    qualities: Qualities
    tiers: Tiers

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        whole = {key: default_values()[key] for key in ("seed", "tier", "qualities", "tiers")}
        empty: dict[str, Any] = {key: {} for key in cls.model_fields if key not in {*whole, "corpus"}}
        return {**whole, **empty, **values}

    def tier_name(self, recordings: int) -> TierName:
        """Name of the tier of a corpus of `recordings` usable recordings."""
        return self.tiers.choose(recordings, self.tier)[0]

    def vqvae_config(self, recordings: int) -> VQVAEConfig:
        """The codec's settings, resolved."""
        return self.vqvae.resolve(recordings, self.tier, self.tiers, self.qualities)

    def prior_config(self, recordings: int) -> PriorConfig:
        """The prior's settings, resolved."""
        return self.prior.resolve(recordings, self.tier, self.split, self.tiers)


def get_adaptive_vqvae_config(n: int) -> VQVAEConfig:
    """Default settings of the codec for a corpus of `n` usable recordings."""
    return VQVAEParams.model_validate({}).resolve(n)


def get_adaptive_prior_config(n: int) -> PriorConfig:
    """Default settings of the prior for a corpus of `n` usable recordings."""
    return PriorParams.model_validate({}).resolve(n)


def indivisible(hidden_size: int, num_heads: int) -> str:
    """The message for heads that do not divide the width."""
    return f"prior.num_heads: expected a divisor of hidden_size {hidden_size}, found {num_heads}; change one of the two"


def _resolved(section: Settings, defaults: dict[str, Any]) -> dict[str, Any]:
    # The budget's `auto` depends on the number of steps, which training knows.
    written = {key: value for key, value in section.model_dump().items() if value != "auto" or key == "budget_minutes"}
    return {**defaults, **written}
