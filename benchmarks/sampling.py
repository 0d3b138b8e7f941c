"""Sampling speed against other libraries, in interleaved processes, and speed of generation from a model file."""

import importlib
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.prior_peers import OURS, Shape, x_transformers
from benchmarks.turns import Turn, in_turn, serve
from distill.codec.model import VQVAE
from distill.generate.sampling import Sampling, sample_codes
from distill.generate.sounds import Wanted, generate_sounds
from distill.model_file.format import load_bundle
from distill.novelty.reference import make_reference
from distill.novelty.scoring import with_scores
from distill.novelty.verdict import Judge
from distill.prior.flat.config import FlatShape
from distill.prior.flat.network import FlatPrior

LLAMA, X_TRANSFORMERS = "transformers, Llama", "x-transformers"
BATCHES = (1, 16)
LEVELS = 4
LLAMA_MLP = 688  # three matrices of this width have as many weights as two of width 4 x 256
ROUNDS, TIMES, FIRST = 9, 2, 2
SECONDS = 4.0  # length of a generated sound
JUDGED, MINUTES = 64, 1000  # sounds to judge, and minutes of training recordings

Way = Callable[[int], Callable[[], object]]  # from a batch size to a function that samples


@dataclass(frozen=True)
class Drawn:
    """Tokens per second by batch size, and the speed of ours relative to it."""

    name: str
    tokens: dict[int, float]
    ours: dict[int, float]


@dataclass(frozen=True)
class Made:
    """Generation from a model file: real-time factors by batch size, and seconds.

    `cold_start` is from the start of the command to a file, `judging` for JUDGED sounds and MINUTES of recordings.
    """

    model: str
    real_time: dict[int, float]
    cold_start: float
    judging: float


def measure_drawing(say: Callable[[str], None]) -> tuple[Drawn, ...]:
    """Median speed of sampling 188 tokens with a KV cache in fp32, for the shape of `Shape`."""
    say("sampling tokens")
    names = list(_ways())
    turns = {(name, batch): Turn("benchmarks.sampling", name, str(batch)) for name in names for batch in BATCHES}
    seconds = in_turn(turns, ROUNDS, TIMES, FIRST)
    speed = {key: TIMES * key[1] * Shape.tokens / statistics.median(times) for key, times in seconds.items()}
    ratios = {
        (name, batch): statistics.median(its / mine for its, mine in zip(times, seconds[OURS, batch], strict=True))
        for (name, batch), times in seconds.items()
    }
    return tuple(
        Drawn(name, {batch: speed[name, batch] for batch in BATCHES}, {batch: ratios[name, batch] for batch in BATCHES})
        for name in names
    )


def measure_making(model: Path, say: Callable[[str], None]) -> Made:
    """Median speed of generation with a loaded model, and of `distill generate` from a cold start."""
    say(f"generating with {model.name}")
    bundle, real_time = load_bundle(model), {}
    for batch in BATCHES:
        seconds = []
        for seed in range(ROUNDS):
            began = time.perf_counter()
            generate_sounds(bundle.codec, bundle.prior, Wanted(batch, SECONDS, natural_ending=False), seed)
            seconds.append(time.perf_counter() - began)
        real_time[batch] = batch * SECONDS / statistics.median(seconds[1:])
    starts = []
    for seed in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            command = ["generate", str(model), "--seed", str(seed), "--seconds", "1", "--out", folder, "--json"]
            began = time.perf_counter()
            done = subprocess.run([sys.executable, "-m", "distill", *command], capture_output=True, check=True)
            starts.append(time.perf_counter() - began)
            assert Path(json.loads(done.stdout)["sounds"][0]["file"]).exists()
    return Made(model.name, real_time, statistics.median(starts), measure_judging(bundle.codec))


def measure_judging(codec: VQVAE) -> float:
    """Seconds to judge the novelty of JUDGED sounds of 4 s against MINUTES of recordings, from codes in memory."""
    rng, shape, rate = np.random.default_rng(0), codec.architecture, codec.spectrogram.frame_rate
    sizes = (round(60 * rate), shape.num_quantizers)
    known = [rng.integers(0, shape.codebook_size, sizes, dtype=np.uint16) for _ in range(MINUTES)]
    few = with_scores(make_reference(["a"], known[:1], known[1:3]), codec)
    sounds = [rng.integers(0, shape.codebook_size, (round(4 * rate), sizes[1])) for _ in range(JUDGED)]
    began = time.perf_counter()
    Judge(replace(few, names=[str(number) for number in range(MINUTES)], codes=known), codec).judge(sounds)
    return time.perf_counter() - began


def _ways() -> dict[str, Way]:
    """For each network a builder of its sampling function."""
    found: dict[str, Way] = {OURS: _ours}
    if importlib.util.find_spec("transformers") is not None:
        found[LLAMA] = _llama
    if importlib.util.find_spec("x_transformers") is not None:
        found[X_TRANSFORMERS] = _x_transformers
    return found


def _ours(batch: int) -> Callable[[], object]:
    shape = Shape()
    frames = shape.tokens // LEVELS
    flat = FlatShape(
        codebook_size=shape.codes,
        num_quantizers=LEVELS,
        context_frames=frames + 1,
        hidden_size=shape.width,
        num_layers=shape.layers,
        num_heads=shape.heads,
        labels=[],
    )
    prior = FlatPrior(flat).eval()
    return lambda: sample_codes(prior, batch, frames, 0, Sampling(), natural_ending=False)


def _llama(batch: int) -> Callable[[], None]:
    """Llama of transformers with its KV cache in a minimal loop: its own `generate` is no faster."""
    library, shape = importlib.import_module("transformers"), Shape()
    config = library.LlamaConfig(
        vocab_size=shape.codes,
        hidden_size=shape.width,
        intermediate_size=LLAMA_MLP,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=2 * shape.tokens,
    )
    model = library.LlamaForCausalLM(config).eval()

    @torch.inference_mode()
    def draw() -> None:
        tokens, past = torch.zeros(batch, 1, dtype=torch.long), None
        for _ in range(shape.tokens):
            found = model(input_ids=tokens, past_key_values=past, use_cache=True)
            tokens, past = torch.multinomial(found.logits[:, -1].softmax(-1), 1), found.past_key_values

    return draw


def _x_transformers(batch: int) -> Callable[[], None]:
    library, shape = importlib.import_module("x_transformers"), Shape()
    model = library.AutoregressiveWrapper(x_transformers(shape, 2 * shape.tokens)).eval()

    @torch.inference_mode()
    def draw() -> None:
        found: Tensor = model.generate(torch.zeros(batch, 1, dtype=torch.long), shape.tokens, cache_kv=True)
        assert found.shape[1] == shape.tokens

    return draw


if __name__ == "__main__":
    torch.manual_seed(0)
    serve(_ways()[sys.argv[1]](int(sys.argv[2])))
