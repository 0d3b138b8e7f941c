"""The codec's artefact on disk, `artifacts/vqvae`."""

from pathlib import Path

from distill.codec.model import VQVAE, VQVAEArchitecture
from distill.codec.spectral import SpectrogramConfig
from distill.params import Fraction, Settings, VQVAEConfig
from distill.storage.weights import load_weights
from distill.training.checkpoints import WEIGHTS, load_config


class CodecArtifact(Settings):
    """Fields of `artifacts/vqvae/config.json`."""

    architecture: VQVAEArchitecture
    spectrogram: SpectrogramConfig
    training: VQVAEConfig
    recordings: int
    trim: bool  # of the corpus
    stereo: bool = False  # whether recordings of the corpus have stereo images
    seed: int
    val_fraction: Fraction
    by_label: bool = False  # whether the split keeps a recording of each label for training
    best_epoch: int
    epochs_trained: int
    codebook_health: dict[str, dict[str, float]]
    corpus_sha256: str
    codec_sha256: str
    fingerprint: str
    tier: str


def load_codec(folder: Path) -> tuple[VQVAE, CodecArtifact]:
    """Load the codec of `artifacts/vqvae` on the CPU, in eval mode. Raises ArtifactError."""
    config = load_config(folder, CodecArtifact)
    return load_weights(folder / WEIGHTS, VQVAE(config.architecture, config.spectrogram)), config
