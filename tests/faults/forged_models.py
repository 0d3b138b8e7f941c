"""Model files that are forged and signed again, so that their hashes fit: `python -m faults.forged_models FOLDER N`.

Each is loaded and used as commands use it: its card, encoding, decoding, sampling, variations, kits. It is refused with a
sentence, or what it makes is finite and not endless.
"""

import contextlib
import io
import json
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faults.hostile import parts
from faults.programs import defect
from safetensors.torch import load, save
from torch import Tensor
from unit.tiny import FLAT, MEMORY, PRIOR, SPECTROGRAM, TRAINED, write_model, write_prior_model

from distill.api import Model
from distill.codec.coordinates import codewords_of
from distill.codec.model import VQVAE, VQVAEArchitecture
from distill.errors import DistillError
from distill.model_file.card import card_text, describe
from distill.model_file.format import BundleMetadata, codec_shape, load_bundle, save_bundle
from distill.model_file.library import list_models
from distill.model_file.verify import verify
from distill.novelty.reference import make_reference
from distill.novelty.scoring import with_scores
from distill.prior.base import build_prior
from distill.storage.weights import tensors_sha256, under

NUMBERS = (0.0, -0.0, 1e-45, 1.0, -1.0, 1e4, -1e4, 1e18, -1e18, 1e30, 3.4e38, -3.4e38, float("nan"), float("inf"))
KIT_EVERY = 20  # forgeries: kits take long
FIELDS = (
    ("prior_config", "labels", ([], ["a"], ["a", "b", "c"], ["\x1b[31m"], ["<img src=x onerror=y>"], ["[red]"], ["x" * 1000])),
    ("prior_config", "architecture", ("frame", "memory", "flat")),
    ("prior_config", "num_heads", (1, 2, 8, 16)),
    ("prior_config", "count_experts", (True, False)),
    ("prior_config", "calibrated", (True, False)),
    ("prior_config", "codeword_size", (0, 1, 8, 1024)),
    ("prior_config", "hidden_size", (8, 8192, 1 << 31)),
    ("prior_config", "num_layers", (1, 2, 128)),
    ("prior_config", "depth_layers", (0, 1, 64)),
    ("prior_config", "shard_length", (8, 1 << 20)),
    ("prior_config", "chunk_size", (1, 4096)),
    ("prior_config", "key_size", (1, 256)),
    ("prior_config", "span_frames", (1, 1 << 24)),
    ("spectrogram_config", "sample_rate", (4000, 192_000)),
    ("spectrogram_config", "hop_length", (16, 32, 4096)),
    ("spectrogram_config", "n_fft", (64, 8192)),
    ("spectrogram_config", "n_mels", (8, 512)),
    ("spectrogram_config", "stack", (1, 8)),
    ("spectrogram_config", "envelope_steps", (1, 64)),
    ("vqvae_config", "gain_shape", (True, False)),
    ("vqvae_config", "stochastic", (True, False)),
    ("vqvae_config", "quantizer", ("residual", "overlapping")),
    ("vqvae_config", "latent_size", (2, 1024, 1 << 31)),
    ("vqvae_config", "hidden_size", (8, 4096, 1 << 31)),
    ("vqvae_config", "num_layers", (1, 2, 64)),
)  # fmt: skip


def bases(folder: Path) -> dict[str, bytes]:
    """Good models of each kind."""
    path, found = folder / "base.distill", {}
    makers: dict[str, Callable[[], Any]] = {
        "codec": lambda: write_model(path),
        "frame": lambda: write_prior_model(path, labels=["a", "b"]),
        "experts": lambda: write_prior_model(path, ["a", "b"], of=PRIOR.model_copy(update={"count_experts": True})),
        "memory": lambda: write_prior_model(path, of=MEMORY),
        "flat": lambda: write_prior_model(path, of=FLAT),
        "calibrated": lambda: _write_calibrated(path),
    }  # fmt: skip
    for name, make in makers.items():
        make()
        found[name] = path.read_bytes()
        path.unlink()
    return found


def _write_calibrated(path: Path) -> None:
    """A model with every feature of the format."""
    torch.manual_seed(0)
    spectrogram = SPECTROGRAM.model_copy(update={"envelope_steps": 2})
    size = {"codebook_size": 8, "num_quantizers": 2, "latent_size": 8, "hidden_size": 16, "num_layers": 1}
    codec = VQVAE(
        VQVAEArchitecture(spectrogram=spectrogram, gain_shape=True, stochastic=True, quantizer="residual", **size)
    ).eval()  # type: ignore[arg-type]
    codec.quantizer.load_state_dict(tiny_codec_of(codec))
    vectors = codewords_of(codec).vectors
    features = {"count_experts": True, "calibrated": True}
    shape = PRIOR.model_copy(update={**features, "labels": ["a", "b"], "codeword_size": vectors.shape[2]})
    prior = build_prior(shape, vectors).eval()
    draw = np.random.default_rng(0)
    reference = make_reference(
        [f"{number}.wav" for number in range(3)],
        [draw.integers(0, 8, (20, 2)) for _ in range(3)],
        [draw.integers(0, 8, (30, 2))],
    )
    metadata = BundleMetadata(
        vqvae_config=codec_shape(codec),
        spectrogram_config=codec.spectrogram,
        training_config={"split": {"seed": 0, "val_fraction": 0.5}},
        prior_config=shape,
        prior_metadata=TRAINED,
    )
    save_bundle(path, codec, prior, metadata, with_scores(reference, codec))


def tiny_codec_of(codec: VQVAE) -> dict[str, Tensor]:
    """Random codewords for a codec."""
    return {
        key: torch.randn_like(value) if value.is_floating_point() else value
        for key, value in codec.quantizer.state_dict().items()
    }


def resigned(tensors: dict[str, Tensor], values: dict[str, Any]) -> bytes:
    """A file whose hashes fit."""
    values["payload_sha256"] = tensors_sha256(tensors)
    values["codec_sha256"] = tensors_sha256(under("codec.", tensors))
    return save(tensors, {"distill": json.dumps(values)})


def forged(data: bytes, draw: random.Random) -> bytes:
    """A random forgery with hashes that fit: numbers, types and shapes of tensors, and settings."""
    tensors = dict(load(data))
    values = json.loads(parts(data)[0]["__metadata__"]["distill"])
    for _ in range(draw.choice((1, 1, 2, 4))):
        name = draw.choice(sorted(tensors))
        kind = draw.randrange(9)
        if kind < 5:
            tensors[name] = _renumbered(tensors[name], draw)
        elif kind == 5:
            shape = list(tensors[name].shape)
            changed = draw.choice((shape[::-1], [*shape, 1], shape[1:], [max(0, size - 1) for size in shape], [0]))
            tensors[name] = torch.zeros(changed, dtype=tensors[name].dtype)
        elif kind == 6:
            tensors[name] = tensors[name].to(draw.choice((torch.float64, torch.float16, torch.int64, torch.bool)))
        else:
            _refield(values, draw)
    return resigned(tensors, values)


def _renumbered(tensor: Tensor, draw: random.Random) -> Tensor:
    """The tensor with other numbers: one of them, a row or all."""
    changed = tensor.clone()
    flat = changed.view(-1)
    if not len(flat):
        return changed
    start = draw.randrange(len(flat))
    stop = draw.choice((start + 1, start + 8, len(flat)))
    if tensor.is_floating_point():
        number = draw.choice((*NUMBERS[:-2], *NUMBERS[:-2], *NUMBERS))
        flat[draw.choice((start, 0)) : stop] = draw.choice((number, number * draw.random()))
        return changed
    limit = torch.iinfo(torch.uint8 if tensor.dtype == torch.bool else tensor.dtype)
    flat[start:stop] = torch.tensor(draw.choice((limit.min, limit.max, 0, 1, 7, 8)), dtype=torch.int64).to(tensor.dtype)
    return changed


def _refield(values: dict[str, Any], draw: random.Random) -> None:
    """Change a setting that other tensors may or may not follow from."""
    section, key, choices = draw.choice(FIELDS)
    if values.get(section) is None:
        return
    values[section][key] = draw.choice(choices)
    if key == "hop_length":
        values[section]["n_fft"] = 4 * values[section][key]
    if draw.random() < 0.1:
        values["seq_len"] = draw.choice((1, 2, 9, 1 << 20)) * values["num_quantizers"]


def use(path: Path, also_kit: bool) -> Iterator[str]:
    """Do with a model what commands do; faults of the results."""
    metadata = load_bundle(path).metadata  # raises for one that is refused
    text = f"{card_text(path.name, metadata)}{list_models(path.parent)[0]}"
    if any(character in text for character in "\x1b\x07\x9b"):
        yield "control characters in a card or list"
    describe(path, metadata, 80)
    with contextlib.suppress(DistillError):
        verify(path)
    model = Model(path)
    tone = 0.5 * np.sin(np.arange(3000) * 0.2).astype(np.float32)
    for name, made in (
        ("decode", lambda: [model.decode(model.encode(tone, model.sample_rate))]),
        ("generate", lambda: model.generate(n=1, seconds=0.2, seed=0).sounds if model.prior is not None else []),
        ("generate to the end", lambda: model.generate(n=1, seed=0).sounds if model.prior is not None else []),
        (
            "vary",
            lambda: (
                model.vary(tone, n=1, seed=0, recording_rate=model.sample_rate).sounds
                if model.prior is not None
                else []
            ),
        ),
    ):
        with contextlib.suppress(DistillError):
            for sound in made():
                if not np.isfinite(sound).all():
                    yield f"{name} gives NaN or infinite samples"
                if len(sound) > 60 * model.sample_rate:
                    yield f"{name} gives {len(sound)} samples"
    if also_kit and model.prior is not None:
        with contextlib.suppress(DistillError), contextlib.redirect_stderr(io.StringIO()):
            model.kit(path.parent / "kit", per_label=1, seconds=0.2, seed=0, replace=True)
        shutil.rmtree(path.parent / "kit", ignore_errors=True)


def main(folder: Path, count: int, seed: int) -> None:
    """Forge and use as many models and print the counts of outcomes as JSON."""
    torch.set_num_threads(1)
    made = bases(folder)
    (folder / "models").mkdir()
    path, draw = folder / "models" / "x.distill", random.Random(seed)
    used, refused, slowest, wrong = 0, 0, 0.0, dict[str, str]()
    for number in range(count):
        kind = draw.choice(sorted(made))
        path.write_bytes(forged(made[kind], draw))
        began = time.process_time()
        try:
            faults = list(use(path, also_kit=number % KIT_EVERY == 0))
            used += 1
        except DistillError as error:
            refused += 1
            faults = [] if str(error).isprintable() else [f"unprintable: {str(error)!a}"]
        except Exception as error:
            faults = [defect(error)]
        wrong |= {fault: f"{kind} {number}" for fault in faults if fault not in wrong}
        slowest = max(slowest, time.process_time() - began)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({"used": used, "refused": refused, "wrong": wrong, "slowest": slowest, "megabytes": most}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
