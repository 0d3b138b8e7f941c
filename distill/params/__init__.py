"""Settings: `params.yaml` as frozen, validated classes, one a section, and the tiers that fill in every `auto`.

A field states type, range and help once: files, flags, the page and the docs are checked by it and made from it. The
sections `vqvae` and `prior`, the tiers and the qualities are some values of a class each. `Params.vqvae_config` and
`Params.prior_config` lay them over each other: a section's own values win over the quality's, and those over the tier's.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import Field, model_validator

from distill.errors import ParamsError
from distill.params import settings
from distill.params.settings import AutoBy, Section, SomeOf, read_yaml
from distill.params.settings import Setting as Setting
from distill.params.settings import Settings as Settings
from distill.params.settings import default_values as default_values
from distill.params.settings import first_problem as first_problem
from distill.params.settings import validated as validated
from distill.prior.architectures import ARCHITECTURES, DEFAULT, ArchitectureName, summaries

MOST_VIEWS = 16
VIEWED_SECONDS = 16 * 3600.0  # most seconds of sound to encode, over all views
MOST_BATCH_SECONDS = 600.0  # of sound in a batch of the codec, in which training takes about 36 GB

Auto = Literal["auto"]
TierName = Literal["small", "medium", "large"]
QualityName = Literal["small", "standard", "high"]
Quantizer = Literal["overlapping", "residual"]
Labels = Literal["none", "folder"]
BY_TIER, BY_QUALITY = AutoBy("by the tier"), AutoBy("by the quality")
BY_RECORDINGS = AutoBy("by the number of recordings")

# Ranges that sections share with each other, with shapes in model files and with arguments of commands.
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
Levels = Annotated[int, Field(ge=1, le=16)]
LatentSize = Annotated[int, Field(ge=2, le=1024)]
CodecWidth = Annotated[int, Field(ge=8, le=4096)]
CodecLayers = Annotated[int, Field(ge=1, le=64)]
PriorWidth = Annotated[int, Field(ge=8, le=8192)]
PriorLayers = Annotated[int, Field(ge=1, le=128)]
Heads = Annotated[int, Field(ge=1, le=128)]
DepthLayers = Annotated[int, Field(ge=0, le=64)]
CodewordSize = Annotated[int, Field(ge=0, le=1024)]
ShardLength = Annotated[int, Field(ge=8, le=1 << 20)]
ChunkSize = Annotated[int, Field(ge=1, le=4096)]
KeySize = Annotated[int, Field(ge=1, le=256)]
Sounds = Annotated[int, Field(ge=1, le=10_000)]
Seconds = Annotated[float, Field(ge=0.01, le=3600)]
SamplingSeed = Annotated[int, Field(ge=0, lt=2**63)]
Temperature = Annotated[float, Field(ge=0.01, le=10)]
TopK = Annotated[int, Field(ge=0)]
TopP = Annotated[float, Field(ge=0.001, le=1)]
Guidance = Annotated[float, Field(ge=0, le=20)]
Strength = Annotated[float, Field(ge=0, le=1)]


class CorpusConfig(Section):
    """Section `corpus`: the recordings."""

    path: Annotated[str, Field(min_length=1)]
    """your own folder of recordings goes here"""
    sample_rate: Annotated[int, Field(ge=8_000, le=96_000)] | Auto
    """Hz; auto: 44100 or 48000 where the recordings have sound above 10 kHz, else 24000"""
    labels: Labels
    """folder: sounds can be asked for by the folder that the recordings lie in"""
    max_rejected: Share
    """give up when a larger share of the audio files is unusable"""


class VQVAEConfig(Section):
    """Section `vqvae`: the codec and its training."""

    quality: QualityName = "standard"
    """about 1.5, 3 and 6 kbit/s: higher sounds finer, costs more time and is more to learn"""
    codebook_size: Annotated[CodebookSize, BY_TIER]
    """codewords of each level"""
    num_quantizers: Annotated[Levels, BY_QUALITY]
    """residual levels: fewer are faster and easier for a prior, more have finer detail"""
    quantizer: Quantizer = "overlapping"
    """residual: ResidualVQ of vector-quantize-pytorch, to compare with"""
    epochs: Annotated[Epochs, BY_TIER]
    """maximum number of epochs"""
    learning_rate: Annotated[Rate, BY_TIER]
    """of AdamW, with a cosine schedule"""
    dropout: Annotated[Dropout, BY_TIER]
    """share of channels"""
    ema_decay: Annotated[Fraction, BY_TIER]
    """of the codebooks' moving averages"""
    commitment_weight: LossWeight
    """weight of the commitment loss"""
    batch_size: Count
    """crops in a step; ten minutes of sound at most"""
    crop_seconds: Annotated[float, Field(ge=0.1, le=60)]
    """length of a crop"""
    hidden_size: CodecWidth
    """width of the decoder; the encoder has half of it"""
    num_layers: CodecLayers
    """ConvNeXt blocks of the decoder"""
    latent_size: LatentSize
    """numbers that describe a frame before it is quantised"""
    weight_decay: Share
    """of AdamW"""
    gradient_clip: Clip
    """largest norm of the gradient"""
    encoder_rate: Share
    """the encoder learns at this share of the learning rate; 0 keeps it and the codebooks as fitted"""
    patience: Patience
    """so many epochs without improvement on held-out sound: lower the rate, the third time stop; 0: never"""
    budget_minutes: BudgetMinutes | Auto = 0.0  # `auto` is decided when training begins, by the number of steps
    """of training at most; 0: any; auto: 480 where all epochs are more than 200,000 steps, else any"""

    @model_validator(mode="after")
    def _check_batch(self) -> Self:
        most = int(MOST_BATCH_SECONDS / self.crop_seconds)
        if self.batch_size > most:
            raise ValueError(
                f"batch_size: expected at most {most}, ten minutes of sound at crop_seconds {self.crop_seconds:g}, found "
                f"{self.batch_size}; lower one of the two"
            )
        return self


class SplitConfig(Section):
    """Section `split`: which recordings are held out, for codec and prior."""

    val_fraction: Fraction | Auto
    """share of recordings held out, by recording, near-duplicates together"""

    def resolve(self, recordings: int) -> float:
        """The share to hold out; by default larger for small corpora, whose held-out metrics are noisy."""
        if self.val_fraction != "auto":
            return self.val_fraction
        return next((share for bound, share in ((10, 0.5), (50, 0.3), (200, 0.2)) if recordings < bound), 0.1)


class CodesConfig(Section):
    """Section `codes`: the codes that the prior learns from."""

    views: Annotated[int, Field(ge=1, le=256)] | Auto
    """how often each training recording is coded, shifted and louder or softer; auto: 16, less above an hour of sound"""

    def resolve(self, seconds: float) -> int:
        """Number of views of each recording, inversely proportional to the corpus's length in seconds."""
        return max(1, min(MOST_VIEWS, int(VIEWED_SECONDS / max(seconds, 1.0)))) if self.views == "auto" else self.views


class MemoryConfig(Section):
    """Section `prior.memory`: the memory of `architecture: memory` and its training."""

    span_seconds: Annotated[float, Field(ge=0.1, le=7200)]
    """the longest stretch that is learnt in one piece"""
    shard_length: ShardLength
    """frames after which the memory starts again, but for what it carries on; at least 8 contexts"""
    chunk_size: ChunkSize
    """frames that are computed together; changes the speed alone"""
    key_size: KeySize
    """numbers that a moment is known again by; the state grows with its square"""
    polarisation: LossWeight
    """weight of the loss that makes gates decide, falling to a hundredth"""
    polarisation_warmup: Share
    """share of the training before it falls"""
    motif_share: Share
    """of the steps also teach to remember random motifs among real frames"""
    fast_fail: bool
    """stop where the gates show that the memory is not used"""


class PretrainedSizes(NamedTuple):
    """Sizes that a prior must have for the pretrained weights."""

    hidden_size: int = 128
    num_layers: int = 3
    num_heads: int = 4
    depth_layers: int = 2


PRETRAINED_SIZES = PretrainedSizes()


class PriorConfig(Section):
    """Section `prior`: the model of the codes and its training. Only `split` sets `val_fraction`."""

    architecture: ArchitectureName = Field(description=summaries())
    hidden_size: Annotated[PriorWidth, BY_TIER]
    """width; a multiple of num_heads"""
    num_layers: Annotated[PriorLayers, BY_TIER]
    """transformer blocks"""
    num_heads: Annotated[Heads, BY_TIER]
    """attention heads"""
    depth_layers: DepthLayers
    """of the network that goes through the levels of a frame (frame and memory)"""
    geometry: bool
    """codes are known by their codewords' vectors, not as numbers alone"""
    pretrained: bool
    """begin with what was learnt from synthetic recordings; false: from nothing (frame and memory)"""
    count_experts: bool
    """what counts of the training recordings say is weighed against the network (frame and memory)"""
    dropout: Annotated[Dropout, BY_TIER]
    """share of features"""
    label_smoothing: Annotated[Share, BY_TIER]
    """share of what is to be learnt that is spread over all codes; less in the coarse levels"""
    label_dropout: Share = 0.1
    """with labels: share of what is learnt that is learnt without them, for guidance"""
    history_dropout: Annotated[float, Field(ge=0, le=0.5), BY_TIER] = 0.0
    """with labels: share of past frames heard in coarse levels only, so that labels tell more (frame and memory)"""
    weight_averaging: Dropout
    """decay of the moving average of the weights, which is what is kept; 0: the weights as they are"""
    epochs: Annotated[Epochs, BY_TIER]
    """maximum number of epochs"""
    learning_rate: Annotated[Rate, BY_TIER]
    """of AdamW, with a cosine schedule"""
    batch_size: Annotated[Count, BY_RECORDINGS]
    """windows in a step"""
    context_seconds: Annotated[float, Field(ge=0.1, le=600)]
    """what the next frame is guessed from; with a memory what is seen beside it"""
    weight_decay: Share
    """of AdamW"""
    gradient_clip: Clip
    """largest norm of the gradient"""
    warmup_steps: Annotated[int, Field(ge=0)]
    """steps in which the learning rate rises"""
    patience: Annotated[Patience, BY_TIER]
    """so many epochs without improvement on held-out sound: stop, or lower the rate twice first; 0: never"""
    budget_minutes: BudgetMinutes | Auto = 0.0  # as for the codec
    """of training at most; 0: any; auto: 480 where all epochs are more than 200,000 steps, else any"""
    folds: Annotated[int, Field(ge=0, le=20)]
    """under 20 recordings: also train on so many other splits, to say how sure the held-out figure is"""
    memorization_perplexity: Annotated[float, Field(ge=1), BY_TIER]
    """held-out perplexity below which training warns that the prior memorises"""
    val_fraction: Fraction
    memory: MemoryConfig | None = None
    """architecture memory only: for recordings of minutes in which things return"""

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads: expected a divisor of hidden_size {self.hidden_size}, found {self.num_heads}; "
                "change one of the two"
            )
        if ("memory" in ARCHITECTURES[self.architecture].settings) != (self.memory is not None):
            raise ValueError(f"memory: expected a section for architecture memory alone, found {self.memory}")
        return self

    @property
    def fits_pretrained(self) -> bool:
        """Whether pretrained weights may be the start and have these sizes."""
        sizes = {name: getattr(self, name) for name in PRETRAINED_SIZES._fields}
        can_read = "pretrained" in ARCHITECTURES[self.architecture].settings and self.geometry and self.count_experts
        return self.pretrained and can_read and sizes == PRETRAINED_SIZES._asdict()


class BundleConfig(Section):
    """Section `bundle`: the model file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    """of the model file, without .distill"""
    reference: bool
    """it holds the codes of the recordings it learnt, to say how new sounds are; false: not, to pass it on"""


class AuditionConfig(Section):
    """Section `audition`: the sounds of the last stage, and how they are sampled."""

    count: Annotated[int, Field(ge=1, le=1000)]
    """how many sounds"""
    max_seconds: Annotated[float, Field(ge=0.1, le=600)]
    """length of a sound at most"""
    temperature: Temperature
    """below 1 tamer, above 1 wilder"""
    top_k: TopK
    """the so many most probable codes; 0 = all"""
    top_p: TopP
    """the most probable codes that have this share together; 1 = all"""
    guidance: Guidance
    """with labels: classifier-free guidance: 1 as learnt, above 1 more of what is special about each"""


SomeVQVAE = Annotated[dict[str, Any], SomeOf(VQVAEConfig)]
SomePrior = Annotated[dict[str, Any], SomeOf(PriorConfig, without=("val_fraction",))]


class Qualities(Section):
    """Section `qualities`: what `auto` stands for by `vqvae.quality`."""

    small: SomeVQVAE
    standard: SomeVQVAE
    high: SomeVQVAE


class Tier(Section):
    """What `auto` stands for in corpora of up to `max_recordings` recordings, of any size where that is None.

    `frame` is laid over `prior` for the architectures with depth layers, and `pretrained` where they begin pretrained.
    """

    max_recordings: Count | None
    vqvae: SomeVQVAE
    prior: SomePrior
    frame: SomePrior
    pretrained: SomePrior


class Tiers(Section):
    """Section `tiers`: what every other `auto` of codec and prior stands for."""

    small: Tier
    medium: Tier
    large: Tier

    @model_validator(mode="after")
    def _check_growth(self) -> Self:
        small, medium, large = self.small.max_recordings, self.medium.max_recordings, self.large.max_recordings
        if small is None or medium is None or small >= medium or large is not None:
            found = f"{small}, {medium} and {large}"
            raise ValueError(
                f"max_recordings: expected to grow from small to medium, and null for large, found {found}"
            )
        return self


class Params(Section):
    """The whole of `params.yaml`; what is left out is as in the file that ships."""

    seed: Seed
    """another seed: another split, other weights, other sounds"""
    tier: Literal["auto", TierName]
    """default settings: small (up to 20 recordings), medium (up to 100) or large; auto: by their number"""
    corpus: CorpusConfig
    vqvae: SomeVQVAE
    split: SplitConfig
    codes: CodesConfig
    prior: SomePrior
    bundle: BundleConfig
    audition: AuditionConfig
    qualities: Qualities
    tiers: Tiers

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        shipped = default_values()
        if isinstance(shipped.get("corpus"), dict):
            shipped = {**shipped, "corpus": {key: value for key, value in shipped["corpus"].items() if key != "path"}}
        replaced = {key: values[key] for key in ("qualities", "tiers") if key in values}
        return {**_laid_over(shipped, values), **replaced}

    def tier_name(self, recordings: int) -> TierName:
        """Name of the tier of a corpus of `recordings` usable recordings."""
        if self.tier != "auto":
            return self.tier
        bounds = {name: getattr(self.tiers, name).max_recordings for name in get_args(TierName)}
        chosen: TierName = next(name for name, most in bounds.items() if most is None or recordings <= most)
        return chosen

    def vqvae_config(self, recordings: int) -> VQVAEConfig:
        """The codec's settings for a corpus of `recordings` usable recordings. Raises ParamsError."""
        tier = self.tier_name(recordings)
        quality = getattr(self.qualities, self.vqvae.get("quality", "standard"))
        values = {**getattr(self.tiers, tier).vqvae, **quality, **self.vqvae}
        return validated(VQVAEConfig, values, within="vqvae", source=f"tiers.{tier}.vqvae")

    def prior_config(self, recordings: int) -> PriorConfig:
        """The prior's settings for a corpus of `recordings` usable recordings. Raises ParamsError."""
        name, taken = self.tier_name(recordings), ARCHITECTURES[self.prior.get("architecture", DEFAULT)].settings
        tier: Tier = getattr(self.tiers, name)
        batch_size = min(32, max(1, recordings * 5 // 4))
        defaults = {"batch_size": batch_size, "val_fraction": self.split.resolve(recordings), **tier.prior}
        if "depth_layers" in taken:
            defaults |= tier.frame
        own = {**self.prior, "memory": self.prior.get("memory") if "memory" in taken else None}
        plain = validated(PriorConfig, {**defaults, **own}, within="prior", source=f"tiers.{name}.prior")
        if not plain.fits_pretrained:
            return plain
        return validated(PriorConfig, {**defaults, **tier.pretrained, **own}, within="prior")

    def check(self) -> Self:
        """These settings, if codec and prior can be resolved in one of the tiers. Raises ParamsError."""
        for name in get_args(TierName) if self.tier == "auto" else (self.tier,):
            chosen = self.model_copy(update={"tier": name})
            try:
                chosen.vqvae_config(1)
                chosen.prior_config(1)
                return self
            except ParamsError as error:
                refused = error
        raise refused


def load_params(path: Path) -> Params:
    """Read and validate `params.yaml`. Raises ParamsError that names the file, the key and the nearest known key."""
    params = validated(Params, read_yaml(path), str(path))
    try:
        return params.check()
    except ParamsError as error:
        raise ParamsError(f"{path}: {error}") from error


def default_params(**sections: Any) -> Params:
    """The settings that ship, but for the given values, by section. Raises ParamsError."""
    return validated(Params, _laid_over({"corpus": {"path": "."}}, sections))


def get_adaptive_vqvae_config(n: int, **changes: Any) -> VQVAEConfig:
    """Default settings of the codec for a corpus of `n` usable recordings, but for `changes`. Raises ParamsError."""
    return default_params(vqvae=changes).vqvae_config(n)


def get_adaptive_prior_config(n: int, **changes: Any) -> PriorConfig:
    """Default settings of the prior for a corpus of `n` usable recordings, but for `changes`. Raises ParamsError."""
    return default_params(prior=changes).prior_config(n)


def setting(path: str) -> Setting:
    """What is shown of a setting, such as "vqvae.epochs"; without a default where the file of a checkout is broken."""
    try:
        return settings.setting(Params, path, default_values())
    except ParamsError:
        return settings.setting(Params, path, {})


def _laid_over(lower: Any, upper: Any) -> Any:
    """Values of a tree over those of another, key by key."""
    if not (isinstance(lower, dict) and isinstance(upper, dict)):
        return upper
    return {**lower, **{key: _laid_over(lower.get(key), value) for key, value in upper.items()}}
