"""Tiny models and recordings for tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.audio.measure import row_count
from distill.audio.noise_floor import BANDS, STEPS
from distill.audio.side_info import SideInfo
from distill.audio.write import write_audio
from distill.codec.coordinates import codewords_of
from distill.codec.model import VQVAE, VQVAEArchitecture
from distill.codec.spectral import SpectrogramConfig, spectrogram_config_for
from distill.codec.tones.atoms import PartialSet, set_partials
from distill.codes.store import Codes
from distill.execution import Execution
from distill.model_file.build import measured
from distill.model_file.format import BundleMetadata, LevelHealth, PriorMetadata, save_bundle
from distill.novelty.memorization import Memorization
from distill.novelty.reference import make_reference
from distill.params import Quantizer, get_adaptive_prior_config
from distill.prior.architectures import ArchitectureName
from distill.prior.artifact import SHAPES, PriorArtifact, build_prior
from distill.prior.base import Prior, PriorShape
from distill.storage.weights import round_weights

RATE = 16_000
SIZES = (71, 128, 16, 7, 8, 8)  # of the levels of `tiny_codec`: loudness, note, tuning, atom, and two of the shape
LONGEST = 12  # frames
TINY_SHAPE = {
    "codebook_sizes": SIZES,
    "context_frames": 10,
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
    "labels": [],
    "depth_layers": 1,
    "codeword_size": 64,
    "count_experts": False,
    "shard_length": 16,
    "chunk_size": 4,
    "key_size": 3,
    "span_frames": 40,
}  # of a prior for `tiny_codec`; an architecture takes what it has


def prior_shape(architecture: ArchitectureName = "frame", **changes: Any) -> PriorShape:
    """A tiny shape of an architecture."""
    kind = SHAPES[architecture]
    values = {name: value for name, value in TINY_SHAPE.items() if name in kind.model_fields}
    return kind.model_validate({"architecture": architecture, **values, **changes})


PRIOR, MEMORY, FLAT = prior_shape(), prior_shape("memory"), prior_shape("flat")
SPECTROGRAM = spectrogram_config_for(RATE)
TRAINED = PriorMetadata(
    epochs_trained=3,
    final_perplexity=5.0,
    best_perplexity=4.0,
    training_date=None,
    memorization=Memorization(was_memorizing=False, val_perplexity=4.0, threshold=2.0, codebook_size=8, recordings=5),
)


def tiny_codec(seed: int = 0, quantizer: Quantizer = "overlapping", codebook_size: int = 8) -> VQVAE:
    """An untrained codec at 16 kHz with the levels `SIZES`, whose sets of partials are empty."""
    torch.manual_seed(seed)
    shape = {"codebook_size": codebook_size, "num_quantizers": 6, "latent_size": 8, "hidden_size": 16, "num_layers": 1}
    codec = VQVAE(VQVAEArchitecture(**shape, quantizer=quantizer, partial_sets=2), SPECTROGRAM)
    codec.quantizer.fit([torch.randn(200, 8) * 3], torch.Generator().manual_seed(seed))
    return round_weights(codec.eval())


def whole_codec() -> VQVAE:
    """An untrained codec at 8 kHz with an input gain and layers that are as small as can be."""
    spectrogram = SpectrogramConfig(sample_rate=8000, n_fft=128, hop_length=32, n_mels=16, stack=2, envelope_steps=4)
    shape = {"codebook_size": 8, "num_quantizers": 6, "latent_size": 6, "hidden_size": 8, "num_layers": 2}
    return VQVAE(VQVAEArchitecture(**shape, quantizer="overlapping", partial_sets=2, input_gain=4), spectrogram)


def any_codes(frames: int, generator: np.random.Generator) -> Codes:
    """Random codes `[frames, Q]` of `tiny_codec`."""
    return generator.integers(0, SIZES, (frames, len(SIZES)))


def any_side_info(seconds: float, seed: int) -> SideInfo:
    """A random noise floor of a mono sound that lasts so long."""
    steps = np.random.default_rng(seed).integers(0, len(STEPS), (row_count(seconds), BANDS), np.uint8)
    return SideInfo(noise=steps)


def write_model(path: Path, seed: int = 0, codebook_size: int = 8) -> VQVAE:
    """A model file with that codec and no prior."""
    codec = tiny_codec(seed, codebook_size=codebook_size)
    metadata = BundleMetadata(
        vqvae_config=codec.architecture,
        spectrogram_config=codec.spectrogram,
        training_config={"split": {"seed": 0, "val_fraction": 0.5}},
    )
    save_bundle(path, codec, None, metadata)
    return codec


def networks() -> tuple[VQVAE, Prior]:
    """`tiny_codec` and an untrained prior of its codes."""
    codec = tiny_codec()
    return codec, untrained_prior(codec, PRIOR)


def untrained_prior(codec: VQVAE, shape: PriorShape) -> Prior:
    """An untrained prior of a codec's codes, which knows of recordings of at most `LONGEST` frames."""
    torch.manual_seed(0)
    prior = build_prior(shape, codewords_of(codec)).eval()
    prior.longest.fill_(LONGEST)
    return round_weights(prior)


def write_prior_model(
    path: Path,
    labels: Sequence[str] = (),
    reference: bool = True,
    of: PriorShape = PRIOR,
    side_info: Sequence[SideInfo] = (),
) -> BundleMetadata:
    """A model file with these networks, values in all fields of the metadata but `metadata`, and a reference.

    Its five recordings have `side_info`, if any.
    """
    codec, prior = networks()
    shape = of.model_copy(update={"labels": list(labels)})
    if shape != PRIOR:
        prior = untrained_prior(codec, shape)
    generator = np.random.default_rng(0)
    unmeasured = make_reference(
        [f"{number}.wav" for number in range(5)],
        [any_codes(20 + number, generator) for number in range(5)],
        [any_codes(30, generator) for _ in range(3)],
        side_info,
    )
    metadata = BundleMetadata(
        vqvae_config=codec.architecture,
        spectrogram_config=codec.spectrogram,
        training_config={"split": {"seed": 0, "val_fraction": 0.5}},
        codebook_health_snapshot={
            f"level_{level}": LevelHealth(utilization=share, perplexity=3.0, dead_codes=2.0)
            for level, share in enumerate([0.25] * 4 + [0.5] * 2)
        },
        loss_curve_history={"vqvae/train_loss": [2.0, 1.5]},
        prior_config=shape,
        prior_metadata=TRAINED,
    )
    return save_bundle(path, codec, prior, metadata, measured(unmeasured, codec) if reference else None)


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
    codec = {"codebook_size": 8, "num_quantizers": 6, "latent_size": 8, "crop_seconds": 0.25}
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


# Note, tuning and atom of frames: notes that last and glide and fall, other atoms and sets, silence between, partials that are
# not heard, notes or atoms alone, which are no tones, and anything.
TONES = (
    *((60, 8, 1), (60, 8, 1), (60, 9, 2), (60, 14, 2), (61, 4, 2)),
    *((61, 4, 4), (61, 4, 4), (73, 4, 4), (73, 3, 1), (0, 3, 1), (62, 3, 0)),
    *((73, 3, 1), (108, 3, 6), (12, 0, 5), (0, 0, 0), (12, 0, 5), (12, 15, 5), (13, 12, 5), (14, 12, 5)),
    *((50, 1, 3), (127, 15, 6), (9, 9, 4), (81, 0, 6)),
    *((0, 0, 0), (55, 3, 1), (43, 1, 1), (40, 9, 2), (49, 8, 1), (30, 8, 1), (30, 8, 1)),  # drums fall
    *((36, 2, 1), (36, 3, 1), (28, 3, 1), (28, 3, 1), (28, 4, 1), (28, 4, 1), (25, 4, 1)),
)


def tonal_codec() -> VQVAE:
    """Every weight drawn, so that nothing passes because it is zero."""
    torch.manual_seed(0)
    model = whole_codec()
    model.load_state_dict({name: torch.randn_like(value) * 0.3 for name, value in model.state_dict().items()})
    model.components.mul_(0.05)  # amplitudes as of sounds: of others the tonal share of a band is told to fewer digits
    bell = PartialSet(np.array([0.5, 1.0, 1.2, 1.51, 2.0, 2.67]), np.array([0.4, 1.0, 0.3, 0.7, 0.5, 0.2]))
    string = PartialSet(1.003 * np.arange(1.0, 30), 1 / np.arange(1.0, 30))
    set_partials(model.tone, [bell, string])
    return round_weights(model).eval()


def tonal_codes(codec: VQVAE) -> Codes:
    """Codes `[F, Q]` whose tones are `TONES`."""
    sizes = codec.architecture.codebook_sizes
    codes = np.random.default_rng(0).integers(0, sizes, (len(TONES), len(sizes)))
    codes[:, 1:4] = TONES
    return codes
