"""Our prior beside the original plan's and beside counting, on equal codes of the recordings of a folder."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from lightning_fabric import Fabric

from benchmarks.arguments import say
from benchmarks.report import MISSING, Table
from benchmarks.training import CodecTask, train_within
from distill.audio.corpus import Corpus
from distill.codec.model import VQVAE
from distill.codes.store import uniform_bits
from distill.execution import Execution
from distill.params import Params, default_params
from distill.pipeline.train import code_folder
from distill.prior.counting_baseline import counting_bits_per_second
from distill.prior.data import PriorData
from distill.prior.training import fit_prior
from distill.training.distributed import make_fabric
from distill.training.events import Epoch
from distill.training.run import Run

COLUMNS = (
    *("corpus", "prior", "weights", "bits/s", "of counting", "before training"),
    *("perplexity by level", "best after s", "of s"),
)


def measure_prior(
    folder: Path,
    params: Params,
    codec_seconds: float,
    most_seconds: float,
    seeds: int,
    execution: Execution,
) -> Table:
    """Train a codec, encode the recordings, and train priors on these codes, each for `most_seconds` at most.

    Bits per second are those of held-out recordings. Raises AudioError.
    """
    fabric = make_fabric(execution)

    def train(corpus: Corpus) -> VQVAE:
        count = len(corpus.entries)
        say(f"codec, {codec_seconds:.0f} s")
        task = CodecTask(
            corpus, params.vqvae_config(count), params.split.resolve(count), params.seed, fabric
        )
        return train_within(task, codec_seconds).codec.model

    with tempfile.TemporaryDirectory() as temporary:
        data = code_folder(folder, Path(temporary), params, execution, train)
    codes = data.codes
    uniform = codes.frame_rate * uniform_bits(codes.codebook_sizes)
    counting = counting_bits_per_second(data)
    rows = [_row("uniform code", uniform, counting), _row("counting", counting, counting)]
    say("prior of the original plan")
    unaugmented = replace(
        data, train=[replace(recording, views=recording.views[:1]) for recording in data.train]
    )
    settings = {"architecture": "flat", "context_seconds": 1.0, "weight_decay": 0.01}
    unlike_ours = default_params(
        prior={**settings, "label_smoothing": 0.0, "weight_averaging": 0.0}
    )
    plan = params.model_copy(update={"prior": unlike_ours.prior})
    rows.append(_trained("original plan", unaugmented, plan, fabric, most_seconds, counting))
    for seed in range(params.seed, params.seed + seeds):
        say(f"our prior, seed {seed}")
        seeded = params.model_copy(update={"seed": seed})
        rows.append(_trained(f"ours, seed {seed}", data, seeded, fabric, most_seconds, counting))
    return Table("prior", COLUMNS, tuple((folder.resolve().name, *row) for row in rows))


def _row(
    name: str, bits: float, counting: float, weights: str = MISSING, *more: str
) -> tuple[str, ...]:
    missing = (MISSING,) * (4 - len(more))
    return (name, weights, f"{bits:.0f}", f"{bits / counting:.2f}", *more, *missing)


def _trained(
    name: str, data: PriorData, params: Params, fabric: Fabric, most_seconds: float, counting: float
) -> tuple[str, ...]:
    """Row of a prior at its best epoch; where its start takes part in the choice, that counts as an epoch at 0 s."""
    config = params.prior_config(data.recordings)
    curve: list[tuple[float, float]] = []  # bits per second, seconds
    began = time.perf_counter()

    def add(event: object) -> None:
        if isinstance(event, Epoch):
            curve.append((event.metrics["val_bits_per_second"], time.perf_counter() - began))

    run = Run(fabric, observers=[add], cancel=lambda: bool(curve) and curve[-1][1] > most_seconds)
    training = fit_prior(data, config, params.seed, run)
    start = training.result.start_metrics.get("val_bits_per_second")
    bits, seconds = min(curve if start is None else [(start, 0.0), *curve])
    best = training.result.best_metrics
    levels = [best[f"level_{level}/val_perplexity"] for level in range(data.codes.num_quantizers)]
    weights = sum(parameter.numel() for parameter in training.model.parameters())
    before, by_level = (
        MISSING if start is None else f"{start:.0f}",
        ", ".join(f"{value:.1f}" for value in levels),
    )
    times = f"{seconds:.0f}", f"{curve[-1][1]:.0f}"
    return _row(name, bits, counting, f"{weights / 1e6:.2f} M", before, by_level, *times)
