"""The `.distill` model file: one safetensors file with the codec, the prior and all that is known about them.

The header's `__metadata__` has one key, `distill`, with canonical JSON. Metadata never chooses code: a fixed table
says which class a `model_type` or `architecture` is, and every number in it is checked before anything is built.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from distill.errors import ArtifactError
from distill.files import canonical_json, write_bytes
from distill.headers import read_header
from distill.models.prior import Prior
from distill.models.priors import PriorShape, build_prior
from distill.models.spectral import SpectrogramConfig
from distill.models.vqvae import VQVAE, CodecShape, VQVAEArchitecture
from distill.params import Settings, first_problem
from distill.weights import tensors_sha256, weights_sha256

FORMAT = "distill_model"
VERSION = (2, 0)
MAX_METADATA_BYTES = 1 << 20
CODEC_PREFIX, PRIOR_PREFIX = "codec.", "prior."


class LevelHealth(Settings):
    """Use of one codebook on held-out sound."""

    utilization: float
    perplexity: float
    dead_codes: float


class PriorMetadata(Settings):
    """How the prior was trained. `training_date` is None where equal inputs must give an equal file."""

    epochs_trained: int
    final_perplexity: float
    best_perplexity: float
    training_date: str | None = None


class Provenance(Settings):
    """Where a model comes from. Fingerprints are tags of the MLflow runs; ids and times would make equal runs differ."""

    data_sha256: str = ""
    code_sha256: str = ""
    params_sha256: str = ""
    codec_fingerprint: str = ""
    prior_fingerprint: str = ""
    dvc_rev: str | None = None
    mlflow_run_ids: list[str] = []


class BundleMetadata(Settings):
    """The JSON of a `.distill` file."""

    format: Literal["distill_model"] = "distill_model"
    version: list[int] = list(VERSION)
    required_features: list[str] = []
    model_type: Literal["vqvae"] = "vqvae"
    has_prior: bool
    vqvae_config: CodecShape
    spectrogram_config: SpectrogramConfig
    training_config: dict[str, Any] = {}
    codebook_health_snapshot: dict[str, LevelHealth] = {}
    loss_curve_history: dict[str, list[float]] = {}
    prior_config: PriorShape | None = None
    prior_metadata: PriorMetadata | None = None
    codebook_size: int
    seq_len: int | None = None
    num_quantizers: int
    metadata: dict[str, Any] = {}
    provenance: Provenance = Provenance()
    payload_sha256: str = ""
    codec_sha256: str = ""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        codec, prior = self.vqvae_config, self.prior_config
        shapes = {(self.codebook_size, self.num_quantizers), (codec.codebook_size, codec.num_quantizers)}
        if prior is not None:
            shapes.add((prior.codebook_size, prior.num_quantizers))
        if len(shapes) > 1:
            raise ValueError("expected codec, prior and file to name the same codebook_size and num_quantizers")
        if self.has_prior != (prior is not None):
            raise ValueError("expected prior_config exactly where has_prior is true")
        if prior is not None and self.seq_len != prior.seq_len:
            raise ValueError("expected seq_len to be that of prior_config")
        if codec.latent_size > self.spectrogram_config.features:
            raise ValueError("expected latent_size to be no larger than the features of a frame")
        return self


@dataclass(frozen=True)
class Bundle:
    """A loaded model: networks in eval mode on the CPU, and the metadata they came with."""

    codec: VQVAE
    prior: Prior | None
    metadata: BundleMetadata


def codec_shape(codec: VQVAE) -> CodecShape:
    """The `vqvae_config` of a codec."""
    return CodecShape(**codec.architecture.model_dump(exclude={"spectrogram"}))


def build_codec(shape: CodecShape, spectrogram: SpectrogramConfig) -> VQVAE:
    """An empty codec of that shape."""
    return VQVAE(VQVAEArchitecture(spectrogram=spectrogram, **shape.model_dump()))


def save_bundle(path: Path, codec: VQVAE, prior: Prior | None, metadata: BundleMetadata) -> BundleMetadata:
    """Write a model file atomically; hashes are filled in. Returns the metadata as written."""
    tensors = {CODEC_PREFIX + key: value for key, value in codec.state_dict().items()}
    if prior is not None:
        tensors |= {PRIOR_PREFIX + key: value for key, value in prior.state_dict().items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    written = metadata.model_copy(
        update={"payload_sha256": tensors_sha256(tensors), "codec_sha256": weights_sha256(codec)}
    )
    write_bytes(path, save(tensors, {"distill": canonical_json(written.model_dump(mode="json"))}))
    return written


def load_bundle(path: Path) -> Bundle:
    """Read and check a model file. Raises ArtifactError that says what is wrong with it."""
    metadata = read_metadata(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: expected a Distill model, found a damaged file ({error}); get it again"
        ) from error
    found = tensors_sha256(tensors)
    if found != metadata.payload_sha256:
        raise ArtifactError(
            f"{path}: expected weights with SHA-256 {metadata.payload_sha256[:12]}…, found {found[:12]}…: "
            "the file was changed after it was written; get it again"
        )
    codec = _filled(build_codec(metadata.vqvae_config, metadata.spectrogram_config), tensors, CODEC_PREFIX, path)
    prior = None
    if metadata.prior_config is not None:
        if 4 * metadata.prior_config.parameters > path.stat().st_size:
            raise ArtifactError(
                f"{path}: expected the weights of its prior_config, found too small a file; get it again"
            )
        prior = _filled(build_prior(metadata.prior_config), tensors, PRIOR_PREFIX, path)
    return Bundle(codec, prior, metadata)


def read_metadata(path: Path) -> BundleMetadata:
    """Read and check the metadata alone. Raises ArtifactError."""
    values = read_header(path, "distill", "a Distill model", MAX_METADATA_BYTES)
    _check_version(path, values)
    try:
        return BundleMetadata.model_validate(values)
    except ValidationError as error:
        raise ArtifactError(
            f"{path}: expected valid metadata, found {first_problem(error)}; get the file again"
        ) from error


def _check_version(path: Path, values: Any) -> None:
    found = values.get("format", FORMAT) if isinstance(values, dict) else None
    if found != FORMAT or "version" not in values:
        raise ArtifactError(f"{path}: expected a Distill model, found another kind of safetensors file; check the path")
    version = values["version"]
    major = _major(version)
    if major != VERSION[0] or not isinstance(version, list):
        remedy = "make the model again, or use the version of Distill that wrote it"
        if major is not None and major < VERSION[0]:
            remedy = "older models cannot be converted: train again with `distill train` or `dvc repro`"
        elif major is not None and major > VERSION[0]:
            remedy = "upgrade Distill"
        raise ArtifactError(f"{path}: expected format version {VERSION[0]}, found {repr(version)[:80]}; {remedy}")
    features = values.get("required_features")
    if features:
        raise ArtifactError(f"{path}: needs {features!r}, which this version of Distill lacks; upgrade Distill")


def _major(version: Any) -> int | None:
    """The first number of 1, [1, 0] or "1.0"; None where there is none."""
    first = version[0] if isinstance(version, list) and version else version
    found = re.match(r"v?(\d{1,9})(\.|$)", str(first))
    return int(found[1]) if found and not isinstance(first, bool) else None


M = TypeVar("M", bound=nn.Module)


def _filled(module: M, tensors: Mapping[str, Tensor], prefix: str, path: Path) -> M:
    state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    for key, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ArtifactError(f"{path}: expected finite weights, found others in {prefix}{key}; train again")
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ArtifactError(
            f"{path}: expected the tensors that its metadata describes, found others: {reason}"
        ) from error
    return module.eval()
