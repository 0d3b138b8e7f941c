"""Settings: `params.yaml` as frozen, validated classes, and the tiers that fill in every `auto`.

One class per section holds what the user wrote (`PriorParams`), one class holds what a stage works with once the
tier is known (`PriorConfig`). The tier table is stated once, here.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distill.errors import ParamsError
from distill.text import shown

Auto = Literal["auto"]
TierName = Literal["small", "medium", "large"]
Architecture = Literal["frame", "flat", "delay", "memory"]
WITH_DEPTH = ("frame", "memory")  # architectures with one position a frame and a network that goes through its levels
Labels = Literal["none", "folder"]

GUIDANCE = 2.0  # of sounds that are asked for by a label

Count = Annotated[int, Field(ge=1)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
Rate = Annotated[float, Field(gt=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
HistoryShare = Annotated[float, Field(ge=0, le=0.5)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Averaging = Annotated[float, Field(ge=0, lt=1)]
CodebookSize = Annotated[int, Field(ge=2, le=65_536)]
Levels = Annotated[int, Field(ge=1, le=16)]
Patience = Annotated[int, Field(ge=0)]
LatentSize = Annotated[int, Field(ge=2, le=1024)]
CodecWidth = Annotated[int, Field(ge=8, le=4096)]
CodecLayers = Annotated[int, Field(ge=1, le=64)]
PriorWidth = Annotated[int, Field(ge=8, le=8192)]
PriorLayers = Annotated[int, Field(ge=1, le=128)]
Heads = Annotated[int, Field(ge=1, le=128)]
DepthLayers = Annotated[int, Field(ge=0, le=64)]
CodewordSize = Annotated[int, Field(ge=0, le=1024)]
Folds = Annotated[int, Field(ge=0, le=20)]
ShardLength = Annotated[int, Field(ge=8, le=1 << 20)]
ChunkSize = Annotated[int, Field(ge=1, le=4096)]
KeySize = Annotated[int, Field(ge=1, le=256)]


class Settings(BaseModel):
    """Base of every settings class: frozen, strict about types, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with settings read from a file, as `key: what`."""
    first = error.errors()[0]
    return shown(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")


class VQVAEConfig(Settings):
    """The codec and its training with every `auto` resolved."""

    codebook_size: CodebookSize
    num_quantizers: Levels
    epochs: Epochs
    learning_rate: Rate
    dropout: Dropout
    ema_decay: Fraction
    commitment_weight: Annotated[float, Field(ge=0, le=100)]
    batch_size: Count
    crop_seconds: Annotated[float, Field(ge=0.1, le=60)]
    hidden_size: CodecWidth
    num_layers: CodecLayers
    latent_size: LatentSize
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    gradient_clip: Annotated[float, Field(gt=0)]
    encoder_rate: Share
    patience: Patience


class MemoryParams(Settings):
    """Section `prior.memory`: what `architecture: memory` remembers. Lengths are in frames."""

    span_seconds: Annotated[float, Field(ge=0.1, le=7200)] = 87.4
    shard_length: ShardLength = 2048
    chunk_size: ChunkSize = 64
    key_size: KeySize = 32
    polarisation: Annotated[float, Field(ge=0, le=100)] = 0.01
    polarisation_warmup: Share = 0.1
    motif_share: Share = 0.05
    fast_fail: bool = True


class PriorConfig(Settings):
    """The prior and its training with every `auto` resolved. `memorization_perplexity` is the tier's warning level."""

    architecture: Architecture
    hidden_size: PriorWidth
    num_layers: PriorLayers
    num_heads: Heads
    depth_layers: DepthLayers
    geometry: bool
    dropout: Dropout
    label_smoothing: Share
    label_dropout: Share = 0.1
    history_dropout: HistoryShare = 0.0
    weight_averaging: Averaging
    epochs: Epochs
    learning_rate: Rate
    batch_size: Count
    context_seconds: Annotated[float, Field(ge=0.1, le=600)]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    gradient_clip: Annotated[float, Field(gt=0)]
    warmup_steps: Annotated[int, Field(ge=0)]
    patience: Patience
    folds: Folds
    val_fraction: Fraction
    memorization_perplexity: Annotated[float, Field(ge=1)]
    memory: MemoryParams | None = None  # of `memory` only


class Tier(Settings):
    """One row of the tier table: what corpora up to `max_recordings` start from."""

    name: TierName
    max_recordings: int | None
    vqvae: dict[str, int | float]
    prior: dict[str, int | float]
    frame: dict[str, int | float] = {}  # what `frame` and `memory` have otherwise, by measurement (docs/decisions.md)


TIERS = (
    Tier(
        name="small",
        max_recordings=20,
        vqvae={"codebook_size": 64, "epochs": 100, "learning_rate": 5e-4, "dropout": 0.4, "ema_decay": 0.99},
        prior={
            "hidden_size": 128,
            "num_layers": 2,
            "num_heads": 4,
            "dropout": 0.3,
            "label_smoothing": 0.4,
            "history_dropout": 0.3,
            "epochs": 50,
            "learning_rate": 3e-4,
            "memorization_perplexity": 2.0,
        },
    ),
    Tier(
        name="medium",
        max_recordings=100,
        vqvae={"codebook_size": 128, "epochs": 200, "learning_rate": 1e-3, "dropout": 0.2, "ema_decay": 0.99},
        prior={
            "hidden_size": 256,
            "num_layers": 4,
            "num_heads": 4,
            "dropout": 0.2,
            "label_smoothing": 0.4,
            "history_dropout": 0.3,
            "epochs": 100,
            "learning_rate": 1e-3,
            "memorization_perplexity": 3.0,
        },
        frame={"hidden_size": 128, "num_layers": 3},
    ),
    Tier(
        name="large",
        max_recordings=None,
        vqvae={"codebook_size": 256, "epochs": 300, "learning_rate": 1e-3, "dropout": 0.1, "ema_decay": 0.99},
        prior={
            "hidden_size": 512,
            "num_layers": 6,
            "num_heads": 8,
            "dropout": 0.1,
            "label_smoothing": 0.1,
            "history_dropout": 0.0,
            "epochs": 150,
            "learning_rate": 1e-3,
            "memorization_perplexity": 5.0,
        },
        frame={"hidden_size": 128, "num_layers": 3, "num_heads": 4, "dropout": 0.2, "learning_rate": 2e-3},
    ),
)


def tier_for(recordings: int, name: TierName | Auto = "auto") -> Tier:
    """The tier called `name`, or for "auto" the first whose bound holds `recordings` usable recordings."""
    for tier in TIERS:
        if name == tier.name or (name == "auto" and (tier.max_recordings is None or recordings <= tier.max_recordings)):
            return tier
    raise ParamsError(f"tier: expected small, medium, large or auto, found {name!r}")


def val_fraction_for(recordings: int) -> float:
    """The share of recordings to hold out: small corpora need more of them for the figure to mean anything."""
    for bound, fraction in ((10, 0.5), (50, 0.3), (200, 0.2)):
        if recordings < bound:
            return fraction
    return 0.1


def batch_size_for(recordings: int) -> int:
    """Sequences per training step of the prior."""
    return min(32, max(1, recordings * 5 // 4))


class CorpusParams(Settings):
    """Section `corpus`: where the recordings are and at which sample rate everything works."""

    path: Annotated[str, Field(min_length=1)]
    sample_rate: Annotated[int, Field(ge=8_000, le=96_000)] = 24_000
    max_rejected: Annotated[float, Field(ge=0, le=1)] = 0.5
    labels: Labels = "none"


class VQVAEParams(Settings):
    """Section `vqvae`: `auto` takes the tier's value."""

    codebook_size: CodebookSize | Auto = "auto"
    num_quantizers: Levels | Auto = "auto"
    epochs: Epochs | Auto = "auto"
    learning_rate: Rate | Auto = "auto"
    dropout: Dropout | Auto = "auto"
    ema_decay: Fraction | Auto = "auto"
    commitment_weight: Annotated[float, Field(ge=0, le=100)] = 0.25
    batch_size: Count = 8
    crop_seconds: Annotated[float, Field(ge=0.1, le=60)] = 0.68
    hidden_size: CodecWidth = 256
    num_layers: CodecLayers = 6
    latent_size: LatentSize = 64
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    gradient_clip: Annotated[float, Field(gt=0)] = 5.0
    encoder_rate: Share = 0.1
    patience: Patience = 10

    def resolve(self, recordings: int, tier: TierName | Auto = "auto") -> VQVAEConfig:
        """Fill every `auto` for a corpus of `recordings` usable recordings."""
        defaults = {**tier_for(recordings, tier).vqvae, "num_quantizers": DEFAULT_NUM_QUANTIZERS}
        return VQVAEConfig(**_fill(self, defaults))


class SplitParams(Settings):
    """Section `split`: how many recordings are held out; shared by the codec and the prior."""

    val_fraction: Fraction | Auto = "auto"

    def resolve(self, recordings: int) -> float:
        """The share of recordings to hold out."""
        return val_fraction_for(recordings) if self.val_fraction == "auto" else self.val_fraction


class PriorParams(Settings):
    """Section `prior`: `auto` takes the tier's value."""

    architecture: Architecture = "frame"
    hidden_size: PriorWidth | Auto = "auto"
    num_layers: PriorLayers | Auto = "auto"
    num_heads: Heads | Auto = "auto"
    depth_layers: DepthLayers = 2
    geometry: bool = True
    dropout: Dropout | Auto = "auto"
    label_smoothing: Share | Auto = "auto"
    label_dropout: Share = 0.1
    history_dropout: HistoryShare | Auto = "auto"
    weight_averaging: Averaging = 0.999
    epochs: Epochs | Auto = "auto"
    learning_rate: Rate | Auto = "auto"
    batch_size: Count | Auto = "auto"
    context_seconds: Annotated[float, Field(ge=0.1, le=600)] = 4.0
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.1
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    patience: Patience = 15
    folds: Folds = 0
    memory: MemoryParams = MemoryParams()

    def resolve(self, recordings: int, tier: TierName | Auto = "auto", split: SplitParams | None = None) -> PriorConfig:
        """Fill every `auto` for a corpus of `recordings` usable recordings."""
        row = tier_for(recordings, tier)
        defaults = {
            **row.prior,
            **(row.frame if self.architecture in WITH_DEPTH else {}),
            "batch_size": batch_size_for(recordings),
            "val_fraction": (split or SplitParams()).resolve(recordings),
        }
        values = _fill(self, defaults)
        values["memory"] = self.memory if self.architecture == "memory" else None
        if values["hidden_size"] % values["num_heads"]:
            raise ParamsError(_indivisible(values["hidden_size"], values["num_heads"]))
        return PriorConfig(**values)


class CodesParams(Settings):
    """Section `codes`: how often each training recording is coded."""

    views: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"

    def resolve(self, seconds: float) -> int:
        """How many views of each recording: many of little sound, one from half a day on."""
        return max(1, min(MOST_VIEWS, int(VIEWED_SECONDS / max(seconds, 1.0)))) if self.views == "auto" else self.views


class BundleParams(Settings):
    """Section `bundle`: the name of the model file, `models/<name>.distill`, and whether it knows the recordings' codes."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = "demo"
    reference: bool = True


class AuditionParams(Settings):
    """Section `audition`: what is generated to listen to after training."""

    count: Annotated[int, Field(ge=1, le=1000)] = 8
    max_seconds: Annotated[float, Field(ge=0.1, le=600)] = 4.0
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    guidance: Annotated[float, Field(ge=0, le=20)] = GUIDANCE


class Params(Settings):
    """The whole of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    tier: TierName | Auto = "auto"
    corpus: CorpusParams
    vqvae: VQVAEParams = VQVAEParams()
    split: SplitParams = SplitParams()
    codes: CodesParams = CodesParams()
    prior: PriorParams = PriorParams()
    bundle: BundleParams = BundleParams()
    audition: AuditionParams = AuditionParams()


DEFAULT_NUM_QUANTIZERS = 4
MOST_VIEWS = 16
VIEWED_SECONDS = 16 * 3600.0  # of sound are coded, all views together


def get_adaptive_vqvae_config(n: int) -> VQVAEConfig:
    """The codec's settings for a corpus of `n` usable recordings, nothing overridden."""
    return VQVAEParams().resolve(n)


def get_adaptive_prior_config(n: int) -> PriorConfig:
    """The prior's settings for a corpus of `n` usable recordings, nothing overridden."""
    return PriorParams().resolve(n)


def load_params(path: Path) -> Params:
    """Read and check `params.yaml`. Raises ParamsError with file, key, expectation, finding and the nearest known key."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: expected a settings file, found none; run from the repository's root") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: expected a UTF-8 settings file, found one that cannot be read ({error})") from error
    try:
        values = yaml.load(text, Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ParamsError(f"{path}: expected YAML, found a syntax error: {reason}") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: expected sections such as `corpus:` and `prior:`, found {_shown(values)}")
    params = validated(Params, values, str(path))
    prior = params.prior
    if isinstance(prior.hidden_size, int) and isinstance(prior.num_heads, int) and prior.hidden_size % prior.num_heads:
        raise ParamsError(f"{path}: {_indivisible(prior.hidden_size, prior.num_heads)}")
    return params


S = TypeVar("S", bound=Settings)


def validated(kind: type[S], values: dict[str, Any], where: str) -> S:
    """Build `kind` from `values`, turning the first validation error into one ParamsError sentence that starts with `where`."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        # An `X | "auto"` value reports one error per branch; the branch that names the number's range says most.
        first = error.errors()[0]
        keys = [str(part) for part in first["loc"] if not _is_branch(str(part))]
        key = ".".join(keys)
        if first["type"] == "extra_forbidden":
            raise ParamsError(
                f"{where}: {key}: expected a known key, found an unknown one{_nearest(kind, keys)}"
            ) from error
        if first["type"] == "missing":
            raise ParamsError(f"{where}: {key}: expected a value, found none; add it") from error
        takes_auto = any(
            part["loc"][:-1] == first["loc"][:-1] and "auto" in str(part["msg"]) for part in error.errors()
        )
        expected = _expectation(first["msg"]) + (" or auto" if takes_auto else "")
        raise ParamsError(f"{where}: {key}: expected {expected}, found {_shown(first['input'])}") from error


def _indivisible(hidden_size: int, num_heads: int) -> str:
    return f"prior.num_heads: expected a divisor of hidden_size {hidden_size}, found {num_heads}; change one of the two"


def _fill(section: Settings, defaults: dict[str, int | float]) -> dict[str, Any]:
    written = {key: value for key, value in section.model_dump().items() if value != "auto"}
    return {**defaults, **written}


def _is_branch(part: str) -> bool:
    return part in {"int", "float", "str"} or part.startswith(("literal[", "constrained-", "function-"))


def _expectation(message: str) -> str:
    if message.startswith("Input should be a valid dictionary"):
        return "a section of `key: value` lines"
    return message.removeprefix("Input should be ").removeprefix("String should ").removeprefix("a valid ").rstrip(".")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _nearest(kind: type[Settings], keys: list[str]) -> str:
    known = kind
    for key in keys[:-1]:
        known = known.model_fields[key].annotation  # type: ignore[assignment]
    names = list(known.model_fields)
    match = difflib.get_close_matches(keys[-1], names, n=1, cutoff=0.5)
    prefix = ".".join(keys[:-1])
    if match:
        return f"; did you mean {'.'.join([*keys[:-1], match[0]])}?"
    return f"; {prefix or 'the file'} knows {', '.join(names)}"


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice (YAML would silently keep the last) and reads 1e-3 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(getattr(key_node, "value", key_node))
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
