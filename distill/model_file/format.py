"""The `.distill` model file: one safetensors file with the codec, the prior and their metadata.

The header's `__metadata__` has one key, `distill`, with canonical JSON. Metadata never chooses code: a fixed table maps
an `architecture` to its class. Every number in it, and the name, type and shape of every tensor, is checked before a
tensor is read, so that a file costs at most twice its own size in memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from distill.codec.envelope import GAIN_STEPS
from distill.codec.model import VQVAE, CodecShape, VQVAEArchitecture
from distill.codec.spectral import SpectrogramConfig
from distill.errors import ArtifactError
from distill.novelty.memorization import Memorization, Perplexity
from distill.novelty.reference import TENSORS, Reference, read_reference
from distill.params import Settings, Share, first_problem
from distill.prior.artifact import AnyShape, build_prior
from distill.prior.base import Prior
from distill.storage.files import canonical_json, identity, write_bytes
from distill.storage.safetensors_header import Header, Limits, StoredTensor, read_header
from distill.storage.weights import tensors_sha256, under, weights_sha256
from distill.text import one_line

FORMAT, MODEL_TYPE = "distill_model", "vqvae"
VERSION = (2, 0)
VERSION_TEXT = ".".join(map(str, VERSION))
KEY, WHAT = "distill", "a Distill model"
REMEDY = "download it again; if an earlier version of Distill wrote it, train again with `distill train` or `dvc repro`"
ATTEMPTS = 5  # to read a file that is replaced meanwhile
LIMITS = Limits(header_bytes=1 << 20, tensors=4096, json_bytes=256 << 10, depth=8)
CODEC_PREFIX, PRIOR_PREFIX, REFERENCE_PREFIX = "codec.", "prior.", "reference."
DTYPES = {torch.float32: "F32"}  # of weights, as safetensors names them
SIZES = ("codebook_size", "num_quantizers")  # of codec and prior: they stand once in a file


Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]  # empty where unknown


class LevelHealth(Settings):
    """Use of one codebook on held-out recordings."""

    utilization: Share
    perplexity: Perplexity
    dead_codes: Annotated[float, Field(ge=0, le=65_536)]


class PriorMetadata(Settings):
    """Training of the prior. `training_date` is None where equal inputs must give an equal file."""

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

    vqvae_config: CodecShape
    spectrogram_config: SpectrogramConfig
    training_config: dict[str, Any] = {}
    codebook_health_snapshot: dict[str, LevelHealth] = {}
    loss_curve_history: dict[str, list[float]] = {}
    prior_config: AnyShape | None = None
    prior_metadata: PriorMetadata | None = None
    metadata: dict[str, Any] = {}
    provenance: Provenance = Provenance()
    payload_sha256: Sha256 = ""
    codec_sha256: Sha256 = ""

    @property
    def has_prior(self) -> bool:
        """Whether the file has a prior."""
        return self.prior_config is not None

    @property
    def codec_bits_per_second(self) -> float:
        """Bits of a second of audio when every code of a level costs the same."""
        codec = self.vqvae_config
        return self.spectrogram_config.frame_rate * codec.num_quantizers * (codec.codebook_size - 1).bit_length()

    def file_json(self) -> dict[str, Any]:
        """The JSON as it stands in a file: every key, and the sizes of the codes once."""
        values = self.model_dump(mode="json")
        codec, prior = values["vqvae_config"], values["prior_config"]
        values |= {key: codec.pop(key) for key in SIZES}
        seq_len = None
        if prior is not None:
            seq_len = prior.pop("context_frames") * values["num_quantizers"]
            values["prior_config"] = {key: value for key, value in prior.items() if key not in SIZES}
        own = {"format": FORMAT, "version": list(VERSION), "model_type": MODEL_TYPE}
        return {**own, "has_prior": self.has_prior, "seq_len": seq_len, **values}

    @classmethod
    def of_file(cls, found: Mapping[str, Any]) -> Self:
        """The metadata of a file's JSON. Raises ValueError (of pydantic, too) where it is not as `file_json` writes it."""
        derived = ("format", "version", "model_type", "has_prior", "seq_len", *SIZES)
        values = {key: value for key, value in found.items() if key not in derived}
        sizes = {key: found.get(key) for key in SIZES}
        for part in ("vqvae_config", "prior_config"):
            if isinstance(values.get(part), dict):
                values[part] = {**values[part], **sizes}
        seq_len, levels = found.get("seq_len"), sizes["num_quantizers"]
        if isinstance(values.get("prior_config"), dict) and isinstance(seq_len, int) and isinstance(levels, int):
            values["prior_config"]["context_frames"] = seq_len // max(1, levels)
        metadata = cls.model_validate(values)
        if (place := _first_difference(metadata.file_json(), found)) is not None:
            raise ValueError(f"{place} is missing, or not as this version writes it")
        return metadata

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        codec = self.vqvae_config
        if (self.prior_config is None) != (self.prior_metadata is None):
            raise ValueError("expected prior_metadata exactly where there is prior_config")
        if codec.latent_size > self.spectrogram_config.features:
            raise ValueError("expected latent_size to be no larger than the features of a frame")
        if codec.stochastic and self.spectrogram_config.hop_length % GAIN_STEPS:
            raise ValueError(f"expected hop_length to be a multiple of {GAIN_STEPS} where stochastic is true")
        return self


def _first_difference(written: Any, found: Any, place: str = "") -> str | None:
    """The first key, such as prior_metadata.memorization, whose value is not the one that would be written."""
    if not (isinstance(written, dict) and isinstance(found, dict)):
        return None if written == found else place.removeprefix(".")
    for key in sorted(written.keys() | found.keys()):
        if key not in written or key not in found:
            return f"{place}.{key}".removeprefix(".")
        if (below := _first_difference(written[key], found[key], f"{place}.{key}")) is not None:
            return below
    return None


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
        return [] if self.metadata.prior_config is None else self.metadata.prior_config.labels


def codec_shape(codec: VQVAE) -> CodecShape:
    """The `vqvae_config` of a codec."""
    return CodecShape(**codec.architecture.model_dump(exclude={"spectrogram"}))


def save_bundle(
    path: Path, codec: VQVAE, prior: Prior | None, metadata: BundleMetadata, reference: Reference | None = None
) -> BundleMetadata:
    """Write a model file atomically and return its metadata with the hashes filled in. Raises ArtifactError."""
    tensors = {CODEC_PREFIX + key: value for key, value in codec.state_dict().items()}
    if prior is not None:
        tensors |= {PRIOR_PREFIX + key: value for key, value in prior.state_dict().items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    if reference is not None:
        tensors |= {REFERENCE_PREFIX + key: torch.from_numpy(value) for key, value in reference.tensors().items()}
    hashes = {"payload_sha256": tensors_sha256(tensors), "codec_sha256": weights_sha256(codec)}
    written = metadata.model_copy(update=hashes)
    text = canonical_json(written.file_json())
    if len(text.encode()) > LIMITS.json_bytes:
        raise ArtifactError(
            f"{path}: expected at most {LIMITS.json_bytes} bytes of metadata, found {len(text.encode())}"
        )
    write_bytes(path, save(tensors, {KEY: text}))
    return written


def load_bundle(path: Path) -> Bundle:
    """Read and check a model file. Raises ArtifactError for a file that is damaged, changed or of another version.

    One that another process replaces meanwhile is read again.
    """
    for _ in range(ATTEMPTS - 1):
        before = identity(path)
        try:
            return _load(path)
        except ArtifactError:
            if identity(path) in (before, None):
                raise
    return _load(path)


def size_of(path: Path) -> int:
    """Bytes of a model file. Raises ArtifactError where it has gone since it was opened."""
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{path}: expected {WHAT}, found that it was removed while it was read; put it back"
        ) from error


def _load(path: Path) -> Bundle:
    header = read_header(path, KEY, WHAT, LIMITS)
    metadata = _metadata(path, header.values)
    codec, prior = _networks(path, metadata)
    _check_tensors(path, header, codec, prior)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in header.tensors}
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: expected {WHAT}, found a damaged file ({one_line(error)}); download it again"
        ) from error
    _check_hash(path, "weights", metadata.payload_sha256, tensors_sha256(tensors))
    _fill(path, codec, tensors, CODEC_PREFIX)
    _check_hash(path, "a codec", metadata.codec_sha256, weights_sha256(codec))
    if prior is not None:
        _fill(path, prior, tensors, PRIOR_PREFIX)
        if float(prior.smoothing.min()) < 0:
            raise ArtifactError(
                f"{path}: expected label smoothing of 0 or more in {PRIOR_PREFIX}smoothing, found "
                f"{float(prior.smoothing.min()):.3g}; download it again"
            )
    return Bundle(codec, prior, metadata, _reference(path, tensors, metadata))


def read_metadata(path: Path) -> BundleMetadata:
    """Read and check the metadata alone. Raises ArtifactError."""
    return read_contents(path)[0]


def read_contents(path: Path) -> tuple[BundleMetadata, Mapping[str, StoredTensor]]:
    """Read and check the metadata, and read the names and shapes of the tensors. Raises ArtifactError."""
    header = read_header(path, KEY, WHAT, LIMITS)
    return _metadata(path, header.values), header.tensors


def _metadata(path: Path, values: Any) -> BundleMetadata:
    if not isinstance(values, dict) or values.get("format", FORMAT) != FORMAT or "version" not in values:
        raise ArtifactError(f"{path}: expected {WHAT}, found another kind of safetensors file; check the path")
    if values["version"] != list(VERSION):
        raise ArtifactError(
            f"{path}: expected format version {VERSION_TEXT}, found {one_line(repr(values['version']), 80)}; train again "
            "with `distill train` or `dvc repro`, or use the version of Distill that wrote it"
        )
    try:
        return BundleMetadata.of_file(values)
    except ValidationError as error:
        raise ArtifactError(f"{path}: expected valid metadata, found {first_problem(error)}; {REMEDY}") from error
    except ValueError as error:
        raise ArtifactError(f"{path}: expected valid metadata, found that {one_line(error)}; {REMEDY}") from error


def _networks(path: Path, metadata: BundleMetadata) -> tuple[VQVAE, Prior | None]:
    """The networks that the metadata describes, without weights. Refuse a file too small to hold those."""
    codec = VQVAEArchitecture(spectrogram=metadata.spectrogram_config, **metadata.vqvae_config.model_dump())
    prior = metadata.prior_config
    if 4 * (codec.parameters + (prior.parameters if prior is not None else 0)) > size_of(path):
        raise ArtifactError(
            f"{path}: expected the weights of the networks it describes, found too small a file; download it again"
        )
    return VQVAE(codec), None if prior is None else build_prior(prior)


def _reference_tensors(header: Header) -> dict[str, StoredTensor]:
    """Expected tensors of a reference, where the file has any; their shapes are those of the file."""
    expected = {}
    for name, (kind, dimensions) in TENSORS.items():
        stored = header.tensors.get(REFERENCE_PREFIX + name)
        shape = () if stored is None or len(stored.shape) != dimensions else stored.shape
        expected[REFERENCE_PREFIX + name] = StoredTensor(kind, shape)
    return expected if expected.keys() & header.tensors.keys() else {}


def _check_tensors(path: Path, header: Header, codec: VQVAE, prior: Prior | None) -> None:
    """Compare the file's tensors with those of its networks, before any is read."""
    expected: dict[str, StoredTensor] = {}
    for prefix, module in ((CODEC_PREFIX, codec), (PRIOR_PREFIX, prior)):
        for key, value in module.state_dict().items() if module is not None else ():
            expected[prefix + key] = StoredTensor(DTYPES[value.dtype], tuple(value.shape))
    expected |= _reference_tensors(header)
    names = sorted(expected.keys() | header.tensors.keys())
    wrong = [name for name in names if expected.get(name) != header.tensors.get(name)]
    if wrong:
        wanted, found = (_described(where.get(wrong[0])) for where in (expected, header.tensors))
        more = f" and {len(wrong) - 1} more that differ" if len(wrong) > 1 else ""
        raise ArtifactError(
            f"{path}: expected the tensors that its metadata describes, found others: {one_line(wrong[0], 80)} should be "
            f"{wanted} and is {found}{more}; download the file again"
        )


def _reference(path: Path, tensors: Mapping[str, Tensor], metadata: BundleMetadata) -> Reference | None:
    arrays = {key: value.numpy() for key, value in under(REFERENCE_PREFIX, tensors).items()}
    if not arrays:
        return None
    try:
        reference = read_reference(arrays, metadata.vqvae_config.codebook_size, metadata.vqvae_config.num_quantizers)
        if not len(reference.scores) or not len(reference.reencoded):
            raise ValueError("scores of the baseline are missing")
        return reference
    except ValueError as error:
        raise ArtifactError(
            f"{path}: expected codes of recordings to compare new sounds with, found that {error}; download it again"
        ) from error


def _described(tensor: StoredTensor | None) -> str:
    return "missing" if tensor is None else f"{one_line(tensor.dtype, 20)} {one_line(list(tensor.shape), 80)}"


def _check_hash(path: Path, what: str, expected: str, found: str) -> None:
    if found != expected:
        raise ArtifactError(
            f"{path}: expected {what} with SHA-256 {one_line(expected[:12])}…, found {found[:12]}…: "
            "the file was changed after it was written; download it again"
        )


def _fill(path: Path, module: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    state = under(prefix, tensors)
    for key, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ArtifactError(
                f"{path}: expected finite weights, found NaN or infinite values in {prefix}{key}; train again"
            )
    module.load_state_dict(state)
    module.eval()
