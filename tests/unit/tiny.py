"""Tiny models and recordings for tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.audio.write import write_audio
from distill.codec.coordinates import codewords_of
from distill.codec.model import VQVAE, VQVAEArchitecture
from distill.codec.spectral import SpectrogramConfig, spectrogram_config_for
from distill.execution import Execution
from distill.model_file.format import BundleMetadata, LevelHealth, PriorMetadata, save_bundle
from distill.novelty.memorization import Memorization
from distill.novelty.reference import make_reference
from distill.novelty.scores import with_scores
from distill.params import get_adaptive_prior_config
from distill.prior.architectures import ArchitectureName
from distill.prior.artifact import SHAPES, PriorArtifact, build_prior
from distill.prior.base import Prior, PriorShape
from distill.storage.weights import round_weights

RATE = 16_000
TINY_SHAPE = {
    "codebook_sizes": (8, 8),
    "context_frames": 10,
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
    "labels": [],
    "depth_layers": 1,
    "codeword_size": 8,
    "count_experts": False,
    "shard_length": 16,
    "chunk_size": 4,
    "key_size": 3,
    "span_frames": 40,
}  # of a prior for a codec with two levels of 8 codewords; an architecture takes what it has


def prior_shape(architecture: ArchitectureName = "frame", **changes: Any) -> PriorShape:
    """A tiny shape of an architecture."""
    kind = SHAPES[architecture]
    values = {name: value for name, value in TINY_SHAPE.items() if name in kind.model_fields}
    return kind.model_validate({"architecture": architecture, **values, **changes})


PRIOR, MEMORY, FLAT = prior_shape(), prior_shape("memory"), prior_shape("flat")
SPECTROGRAM = spectrogram_config_for(RATE)
PLAIN = {"quantizer": "overlapping", "gain_shape": False, "partial_sets": 0}  # loudness is not coded apart
TRAINED = PriorMetadata(
    epochs_trained=3,
    final_perplexity=5.0,
    best_perplexity=4.0,
    training_date=None,
    memorization=Memorization(was_memorizing=False, val_perplexity=4.0, threshold=2.0, codebook_size=8, recordings=5),
)


def tiny_codec(seed: int = 0, gain_shape: bool = False, partial_sets: int = 0) -> VQVAE:
    """An untrained codec at 16 kHz: 3 levels of 8 codewords, with `gain_shape` loudness in place of the first.

    With `partial_sets` there are three levels of tones more.
    """
    torch.manual_seed(seed)
    levels = 6 if partial_sets else 3
    shape = {
        "codebook_size": 8,
        "num_quantizers": levels,
        "latent_size": 8,
        "hidden_size": 16,
        "num_layers": 1,
        **PLAIN,
    }
    kinds = {"gain_shape": gain_shape, "partial_sets": partial_sets}
    codec = VQVAE(VQVAEArchitecture.model_validate({**shape, **kinds}), SPECTROGRAM)
    codec.quantizer.fit([torch.randn(200, 8) * 3], torch.Generator().manual_seed(seed))
    return round_weights(codec.eval())


def whole_codec() -> VQVAE:
    """An untrained codec at 8 kHz with every part that a codec may have: loudness, tones, and 2 levels of 8 codewords."""
    spectrogram = SpectrogramConfig(sample_rate=8000, n_fft=128, hop_length=32, n_mels=16, stack=2, envelope_steps=4)
    shape = {"codebook_size": 8, "num_quantizers": 6, "latent_size": 6, "hidden_size": 8, "num_layers": 2}
    kinds = {"quantizer": "overlapping", "gain_shape": True, "partial_sets": 2, "input_gain": 4}
    return VQVAE(VQVAEArchitecture.model_validate({**shape, **kinds}), spectrogram)


def write_model(path: Path, seed: int = 0) -> VQVAE:
    """A model file with that codec and no prior."""
    codec = tiny_codec(seed)
    metadata = BundleMetadata(
        vqvae_config=codec.architecture,
        spectrogram_config=codec.spectrogram,
        training_config={"split": {"seed": 0, "val_fraction": 0.5}},
    )
    save_bundle(path, codec, None, metadata)
    return codec


def networks() -> tuple[VQVAE, Prior]:
    """An untrained codec of two levels of 8 codewords and a prior of its codes, which short recordings teach by heart."""
    torch.manual_seed(0)
    shape = {"codebook_size": 8, "num_quantizers": 2, "latent_size": 8, "hidden_size": 16, "num_layers": 1, **PLAIN}
    codec = VQVAE(VQVAEArchitecture(**shape), SPECTROGRAM)
    latents = 3 * torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    codec.quantizer.fit([latents], torch.Generator().manual_seed(0))
    return round_weights(codec.eval()), round_weights(build_prior(PRIOR, codewords_of(codec)).eval())


def write_prior_model(
    path: Path, labels: Sequence[str] = (), reference: bool = True, of: PriorShape = PRIOR
) -> BundleMetadata:
    """A model file with these networks, values in all fields of the metadata but `metadata`, and a reference."""
    codec, prior = networks()
    shape = of.model_copy(update={"labels": list(labels)})
    if shape != PRIOR:
        prior = round_weights(build_prior(shape, codewords_of(codec)).eval())
    generator = np.random.default_rng(0)
    unscored = make_reference(
        [f"{number}.wav" for number in range(5)],
        [generator.integers(0, 8, (20 + number, 2)) for number in range(5)],
        [generator.integers(0, 8, (30, 2)) for _ in range(3)],
    )
    metadata = BundleMetadata(
        vqvae_config=codec.architecture,
        spectrogram_config=codec.spectrogram,
        training_config={"split": {"seed": 0, "val_fraction": 0.5}},
        codebook_health_snapshot={"level_0": LevelHealth(utilization=0.5, perplexity=3.0, dead_codes=2.0)},
        loss_curve_history={"vqvae/train_loss": [2.0, 1.5]},
        prior_config=shape,
        prior_metadata=TRAINED,
    )
    return save_bundle(path, codec, prior, metadata, with_scores(unscored, codec) if reference else None)


def prior_artifact(**changes: Any) -> PriorArtifact:
    """What a training notes of that prior."""
    facts: dict[str, Any] = {
        **{"shape": PRIOR, "training": get_adaptive_prior_config(5), "recordings": 5},
        **{"best_epoch": 1, "epochs_trained": 3, "final_perplexity": 2.0, "best_perplexity": 1.5},
        **{"val_bits_per_second": 9.0, "codec_sha256": "", "fingerprint": "", "memorization": TRAINED.memorization},
    }
    return PriorArtifact(**{**facts, **changes})


def write_tone(path: Path, seconds: float = 0.3, rate: int = RATE, pitch: float = 440.0) -> Path:
    """A decaying tone in the format that the suffix names."""
    time = np.arange(round(seconds * rate)) / rate
    samples = (0.5 * np.sin(2 * np.pi * pitch * time) * np.exp(-4 * time)).astype(np.float32)
    write_audio(path, samples, rate, path.suffix.removeprefix("."))  # type: ignore[arg-type]
    return path


def train_in(folder: Path) -> None:
    """Write recordings below `folder / "sounds"`, in two folders, and train a codec and a prior: `folder / "a.distill"`."""
    from distill.params import default_params
    from distill.pipeline.train import train_model
    from distill.storage.work import Executor

    for number in range(5):
        write_tone(folder / f"sounds/{'ab'[number % 2]}/{number}.wav", 0.4 + 0.1 * number, pitch=200.0 * (number + 1))
    codec = {"codebook_size": 8, "num_quantizers": 2, "latent_size": 8, "crop_seconds": 0.25}
    prior = {"depth_layers": 1, "batch_size": 2, "num_heads": 2, "context_seconds": 0.5}
    small = {"epochs": 2, "hidden_size": 16, "num_layers": 1}
    params = default_params(
        corpus={"sample_rate": RATE, "labels": "folder"},
        vqvae={**codec, **small},
        prior={**prior, **small},
        codes={"views": 2},
    )
    execution = Execution("cpu", "fp32", 1)
    train_model(folder / "sounds", folder / "a.distill", params, execution, Executor(1), True, folder / "state")
