"""`artifacts/prior`: a trained prior on disk."""

from pathlib import Path

from distill.models.prior import Prior
from distill.models.priors import PriorShape, build_prior
from distill.params import PriorConfig, Settings
from distill.training.artifacts import WEIGHTS, load_config
from distill.weights import load_weights


class PriorArtifact(Settings):
    """`artifacts/prior/config.json`."""

    shape: PriorShape
    training: PriorConfig
    recordings: int
    best_epoch: int
    epochs_trained: int
    final_perplexity: float
    best_perplexity: float
    val_bits_per_second: float
    codec_sha256: str
    fingerprint: str


def load_prior(folder: Path) -> tuple[Prior, PriorArtifact]:
    """Read `artifacts/prior`, on the CPU, in eval mode. Raises ArtifactError."""
    config = load_config(folder, PriorArtifact)
    return load_weights(folder / WEIGHTS, build_prior(config.shape)), config
