"""Build a prior of any architecture; save and load the artefact `artifacts/prior`."""

from collections.abc import Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor

from distill.errors import ArtifactError
from distill.novelty.memorization import Memorization
from distill.novelty.reference import Reference, read_reference
from distill.params import PriorConfig, Settings
from distill.prior.architectures import ARCHITECTURES, ArchitectureName
from distill.prior.base import Prior, PriorShape
from distill.storage.files import write_bytes
from distill.storage.weights import load_weights
from distill.training.checkpoints import WEIGHTS, load_config

SHAPES: Mapping[ArchitectureName, type[PriorShape]] = {
    name: resolve_name(entry.shape) for name, entry in ARCHITECTURES.items()
}
if TYPE_CHECKING:
    AnyShape = PriorShape
else:
    AnyShape = Annotated[reduce(or_, SHAPES.values()), Field(discriminator="architecture")]
REFERENCE = "reference.safetensors"


def build_prior(
    shape: PriorShape,
    codewords: Tensor | None = None,
    dropout: float = 0.0,
    history_dropout: float = 0.0,
) -> Prior:
    """Build a prior of this shape, with random weights from torch's global generator.

    `codewords` are `[Q, V, C]`; zeros if omitted, to be filled from a state dict.
    """
    prior: Prior = resolve_name(ARCHITECTURES[shape.architecture].network)(
        shape, codewords, dropout, history_dropout
    )
    return prior


class PriorArtifact(Settings):
    """`artifacts/prior/config.json`."""

    shape: AnyShape
    training: PriorConfig
    recordings: int
    best_epoch: int
    epochs_trained: int
    final_perplexity: float
    best_perplexity: float
    val_bits_per_second: float
    codec_sha256: str
    fingerprint: str = ""  # of the training run, empty outside a stage
    memorization: Memorization


def load_prior(folder: Path) -> tuple[Prior, PriorArtifact]:
    """Read `artifacts/prior`, on the CPU, in eval mode. Raises ArtifactError."""
    config = load_config(folder, PriorArtifact)
    return load_weights(folder / WEIGHTS, build_prior(config.shape)), config


def save_reference(folder: Path, reference: Reference) -> None:
    """Write the codes of both sides of the split, the reference for the novelty of generated sounds."""
    write_bytes(folder / REFERENCE, save(reference.tensors()))


def load_reference(folder: Path, shape: PriorShape) -> Reference:
    """Read the reference that `save_reference` wrote. Raises ArtifactError."""
    path = folder / REFERENCE
    try:
        return read_reference(load_file(path), shape.codebook_sizes)
    except (OSError, SafetensorError, ValueError) as error:
        raise ArtifactError(
            f"{path}: expected the codes of the training recordings, found none that can be read ({error}); "
            "train the prior again"
        ) from error
