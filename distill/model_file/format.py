"""The `.distill` model file: one safetensors file with the codec, the prior and their metadata.

The header's `__metadata__` has one key, `distill`, with canonical JSON. Metadata never chooses code: a fixed table maps
an `architecture` to its class. Every number in it, and the name, type and shape of every tensor, is checked before a
tensor is read, so that a file costs at most twice its own size in memory.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from distill.codec.model import VQVAE, VQVAEArchitecture
from distill.codec.spectral import SpectrogramConfig
from distill.errors import ArtifactError
from distill.generate.selection.critic import Critic
from distill.novelty.memorization import Memorization, Perplexity
from distill.novelty.reference import SIDE_INFO, TENSORS, Reference, read_reference
from distill.params import Settings, Share, first_problem
from distill.prior.artifact import AnyShape, build_prior
from distill.prior.base import Prior
from distill.storage.files import canonical_json, identity, sha256_json, write_bytes
from distill.storage.weights import (
    AtMost,
    Kind,
    StoredTensor,
    read_header,
    stored_shapes,
    stored_weights,
    tensors_sha256,
    under,
    weights_sha256,
)
from distill.text import one_line
from distill.training.events import by_level

SUFFIX = ".distill"
VERSION = "3.0"  # of the format
OWN = {"format": "distill_model", "version": [*map(int, VERSION.split("."))], "model_type": "vqvae"}
AGAIN = "train again with `distill train` or `dvc repro`"
KIND = Kind(
    "a Distill model",
    "distill",
    OWN,
    AGAIN,
    header_bytes=1 << 20,
    json_bytes=256 << 10,
    depth=8,
)
CODEC_PREFIX, PRIOR_PREFIX, REFERENCE_PREFIX = "codec.", "prior.", "reference."
SIZES = ("codebook_size", "num_quantizers")  # of the codec: the prior's sizes follow from them
HASH = "metadata_sha256"
DERIVED = (*OWN, "has_prior", "seq_len", *SIZES, HASH)  # keys that follow from others

Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]  # empty where unknown


class LevelHealth(Settings):
    """Use of one codebook on held-out recordings."""

    utilization: Share
    perplexity: Perplexity
    dead_codes: Annotated[float, Field(ge=0, le=65_536)]


class PriorMetadata(Settings):
    """Training of the prior. `training_date` is None where the pipeline made the file: equal inputs give an equal file."""

    epochs_trained: Annotated[int, Field(ge=0, le=100_000)]
    final_perplexity: Perplexity
    best_perplexity: Perplexity
    training_date: Annotated[str, Field(pattern=r"^[0-9T:.Z+-]{10,40}$")] | None
    memorization: Memorization


class Provenance(Settings):
    """Provenance of a model. Fingerprints are tags of the MLflow runs; ids and times would make equal runs differ."""

    data_sha256: Sha256 = ""
    code_sha256: Sha256 = ""
    params_sha256: Sha256 = ""
    codec_fingerprint: Sha256 = ""
    prior_fingerprint: Sha256 = ""


class BundleMetadata(Settings):
    """The JSON of a `.distill` file, without what follows from it."""

    vqvae_config: VQVAEArchitecture
    spectrogram_config: SpectrogramConfig
    training_config: dict[str, Any] = {}
    codebook_health_snapshot: dict[
        Annotated[str, Field(pattern=r"^level_\d{1,3}$")], LevelHealth
    ] = {}
    loss_curve_history: dict[str, list[float]] = {}
    prior_config: AnyShape | None = None
    prior_metadata: PriorMetadata | None = None
    critic: Critic | None = None
    metadata: dict[str, Any] = {}
    provenance: Provenance = Provenance()
    payload_sha256: Sha256 = ""
    codec_sha256: Sha256 = ""

    @field_validator("prior_config", mode="before")
    @classmethod
    def _with_sizes(cls, shape: Any, info: ValidationInfo) -> Any:
        """The prior's shape with the sizes of the codec's codes, which a file holds once."""
        codec = info.data.get("vqvae_config")
        return (
            {**shape, "codebook_sizes": codec.codebook_sizes}
            if isinstance(shape, dict) and codec
            else shape
        )

    @field_validator("codebook_health_snapshot")
    @classmethod
    def _sort(cls, health: dict[str, LevelHealth]) -> dict[str, LevelHealth]:
        return {level: health[level] for level in sorted(health, key=by_level)}

    @property
    def trim(self) -> bool:
        """`corpus.trim` of the codec's training. Other samples would have other groups, and so another split."""
        split = self.training_config.get("split")
        return not isinstance(split, dict) or split.get("trim") is not False

    @property
    def is_stereo(self) -> bool:
        """Whether recordings of the codec's training had stereo images."""
        split = self.training_config.get("split")
        return isinstance(split, dict) and split.get("stereo") is True

    @property
    def has_prior(self) -> bool:
        """Whether the file has a prior."""
        return self.prior_config is not None

    @property
    def labels(self) -> list[str]:
        """Labels of the prior, in the order of their indices."""
        return self.prior_config.labels if self.prior_config else []

    def file_json(self) -> dict[str, Any]:
        """The JSON as it stands in a file: every key, and the sizes of the codes once."""
        values = self.model_dump(mode="json")
        sizes = {key: values["vqvae_config"].pop(key) for key in SIZES}
        seq_len = None
        if prior := values["prior_config"]:
            seq_len = prior.pop("context_frames") * sizes["num_quantizers"]
            del prior["codebook_sizes"]
        written = {**OWN, **values, "has_prior": self.has_prior, "seq_len": seq_len, **sizes}
        return {**written, HASH: metadata_sha256(written)}

    @classmethod
    def of_file(cls, stored: Mapping[str, Any]) -> Self:
        """Read the metadata from the JSON of a file: a missing key has its default. Raises ValueError, also of pydantic."""
        if stored.get(HASH) != metadata_sha256(stored):
            raise ValueError("its SHA-256 is another: the file was changed after it was written")
        values = {key: value for key, value in stored.items() if key not in DERIVED}
        with suppress(KeyError, TypeError):  # what is missing or of another type is refused below
            values["vqvae_config"] = {
                **values["vqvae_config"],
                **{key: stored.get(key) for key in SIZES},
            }
            context_frames = stored["seq_len"] // max(1, stored["num_quantizers"])
            values["prior_config"] = {**values["prior_config"], "context_frames": context_frames}
        metadata = cls.model_validate(values)
        written = metadata.file_json()
        for key in sorted({*DERIVED} - {HASH}):
            if written[key] != stored.get(key):
                raise ValueError(f"{key} is missing, or does not follow from the others")
        return metadata

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        codec = self.vqvae_config
        if (self.prior_config is None) != (self.prior_metadata is None):
            raise ValueError("expected prior_metadata exactly where there is prior_config")
        if codec.latent_size > self.spectrogram_config.features:
            raise ValueError("expected latent_size to be no larger than the features of a frame")
        return self


def metadata_sha256(values: Mapping[str, Any]) -> str:
    """Hex SHA-256 of the canonical JSON of a file, without the hash itself."""
    return sha256_json({key: value for key, value in values.items() if key != HASH})


@dataclass(frozen=True)
class Bundle:
    """A loaded model: networks in eval mode on the CPU, metadata, and the reference, None where the file has none."""

    codec: VQVAE
    prior: Prior | None
    metadata: BundleMetadata
    reference: Reference | None = None

    @property
    def labels(self) -> list[str]:
        """Labels of the prior, in the order of their indices."""
        return self.metadata.labels

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks by the prefixes of their tensors in a file."""
        return {CODEC_PREFIX: self.codec} | ({PRIOR_PREFIX: self.prior} if self.prior else {})

    def weights(self) -> dict[str, Tensor]:
        """The weights of all networks by their names in a file."""
        weights: dict[str, Tensor] = {}
        for prefix, network in self.networks.items():
            weights |= stored_weights(network, prefix)
        return weights


def save_bundle(
    path: Path,
    codec: VQVAE,
    prior: Prior | None,
    metadata: BundleMetadata,
    reference: Reference | None = None,
) -> BundleMetadata:
    """Write a model file atomically and return its metadata with the hashes filled in. Raises ArtifactError."""
    weights = Bundle(codec, prior, metadata).weights()
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    if reference:
        tensors |= {
            REFERENCE_PREFIX + key: torch.from_numpy(value)
            for key, value in reference.tensors().items()
        }
    hashes = {"payload_sha256": tensors_sha256(tensors), "codec_sha256": weights_sha256(codec)}
    written = metadata.model_copy(update=hashes)
    text = canonical_json(written.file_json())
    if (size := len(text.encode())) > KIND.json_bytes:
        raise ArtifactError(
            f"{path}: expected at most {KIND.json_bytes} bytes of metadata, found {size}"
        )
    write_bytes(path, save(tensors, {KIND.key: text}))
    return written


def load_bundle(path: Path) -> Bundle:
    """Read and check a model file. Raises ArtifactError for a file that is damaged, changed or of another version.

    One that another process replaces meanwhile is read again.
    """
    before = identity(path)
    try:
        return _load(path)
    except ArtifactError:
        if identity(path) in (before, None):
            raise
    return load_bundle(path)


def read_contents(path: Path) -> tuple[BundleMetadata, Mapping[str, StoredTensor]]:
    """Read and check the metadata, and read the names and shapes of the tensors. Raises ArtifactError."""
    values, tensors = read_header(path, KIND)
    try:
        return BundleMetadata.of_file(values), tensors
    except ValueError as error:
        problem = (
            first_problem(error)
            if isinstance(error, ValidationError)
            else f"that {one_line(error)}"
        )
        raise ArtifactError(
            f"{path}: expected valid metadata, found {problem}; copy or download it again; if an earlier version of Distill wrote "
            f"it, {AGAIN}"
        ) from error


def size_of(path: Path) -> int:
    """Bytes of a model file. Raises ArtifactError where it has gone since it was opened."""
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{path}: expected {KIND.name}, found that it was removed while it was read; put it back"
        ) from error


def _load(path: Path) -> Bundle:
    metadata, stored = read_contents(path)
    architecture, spectrogram = metadata.vqvae_config, metadata.spectrogram_config
    if REFERENCE_PREFIX + "codes" in stored and REFERENCE_PREFIX + "limits" not in stored:
        raise ArtifactError(
            f"{path}: expected noise floors of its recordings and measures to compare sounds with, found a model made before "
            f"they were kept; {AGAIN}"
        )
    numbers = sum(math.prod(tensor.shape) for tensor in stored.values())
    try:
        with AtMost(
            numbers + numbers // 2 + (1 << 18)
        ):  # a network has some numbers that no file needs
            codec = VQVAE(architecture, spectrogram)
            prior = build_prior(metadata.prior_config) if metadata.prior_config else None
        _check_tensors(stored, Bundle(codec, prior, metadata))
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in stored}
        _check_values(metadata, tensors)
        reference = _reference_of(tensors, codec)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: expected {KIND.name}, found a damaged file ({one_line(error)}); copy or download it again"
        ) from error
    except ValueError as error:
        raise ArtifactError(
            f"{path}: expected codes of recordings to compare new sounds with, found that {error}; copy or download it again"
        ) from error
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}; copy or download it again") from error
    bundle = Bundle(codec, prior, metadata, reference)
    for prefix, network in bundle.networks.items():
        network.eval().load_state_dict(under(prefix, tensors))
    return bundle


def _reference_of(tensors: Mapping[str, Tensor], codec: VQVAE) -> Reference | None:
    """The reference among the tensors of a file. Raises ValueError where it is not as it should be."""
    arrays = {key: value.numpy() for key, value in under(REFERENCE_PREFIX, tensors).items()}
    if not arrays:
        return None
    reference = read_reference(arrays, codec.architecture.codebook_sizes)
    reference.expect_measures(bands=codec.spectrogram.n_mels + 1)
    return reference


def _check_tensors(stored: Mapping[str, StoredTensor], bundle: Bundle) -> None:
    """Compare the tensors of a file with the weights of its networks, before any is read; a reference may have any length."""
    expected: dict[str, StoredTensor] = {}
    for prefix, network in bundle.networks.items():
        expected |= stored_shapes(network, prefix)
    for key, kind in {**{key: kind for key, (kind, _) in TENSORS.items()}, **SIDE_INFO}.items():
        if (name := REFERENCE_PREFIX + key) in stored:
            expected[name] = StoredTensor(kind, stored[name].shape)
    for name in sorted(expected.keys() | stored.keys()):
        if expected.get(name) != stored.get(name):
            raise ArtifactError(
                f"expected the tensors that its metadata describes, found others: {one_line(name, 80)} should be "
                f"{_described(expected.get(name))} and is {_described(stored.get(name))}"
            )


def _described(tensor: StoredTensor | None) -> str:
    return (
        f"{one_line(tensor.dtype, 20)} {one_line(list(tensor.shape), 80)}" if tensor else "missing"
    )


def _check_values(metadata: BundleMetadata, tensors: Mapping[str, Tensor]) -> None:
    """Compare the weights with their hashes, and refuse those that no network has."""
    hashes = (
        ("weights", metadata.payload_sha256, ""),
        ("a codec", metadata.codec_sha256, CODEC_PREFIX),
    )
    for what, expected, prefix in hashes:
        actual = tensors_sha256(under(prefix, tensors))
        if expected != actual:
            raise ArtifactError(
                f"expected {what} with SHA-256 {expected[:12]}…, found {actual[:12]}…: the file was changed after it was written"
            )
    for name, value in tensors.items():
        if (
            not name.startswith(REFERENCE_PREFIX)
            and value.is_floating_point()
            and not bool(value.isfinite().all())
        ):
            raise ArtifactError(f"expected finite weights, found NaN or infinite values in {name}")
    least = float(tensors.get(f"{PRIOR_PREFIX}smoothing", torch.zeros(1)).min())
    if least < 0:
        raise ArtifactError(
            f"expected label smoothing of 0 or more in prior.smoothing, found {least:.3g}"
        )
