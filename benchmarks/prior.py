"""Our prior against the original plan's on equal codes, and the overhead of training."""

import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lightning_fabric import Fabric

from benchmarks.training import train_within
from distill.audio.corpus import Corpus
from distill.codec.model import VQVAE
from distill.execution import Execution
from distill.params import Params, PriorParams
from distill.pipeline.coded_folder import CodedFolder, code_folder
from distill.prior.counting_baseline import counting_bits_per_second
from distill.prior.data import PriorData
from distill.prior.training import fit_prior
from distill.training.checkpoints import CheckpointStore
from distill.training.events import PriorStepMetrics
from distill.training.fabric import make_fabric
from distill.training.tracking import tracked
from distill.training.trainer import Trainer

PLAN = "original plan"
PLAN_SETTINGS = {
    "architecture": "flat",
    "context_seconds": 1.0,
    "weight_decay": 0.01,
    "label_smoothing": 0.0,
    "weight_averaging": 0.0,
}
OURS = "ours"
COST_SECONDS = 45.0  # length of the run whose overhead is measured

Say = Callable[[str], None]


@dataclass(frozen=True)
class PriorTrained:
    """Training curve of a prior: seconds since the start and held-out bits per second, by epoch."""

    name: str
    parameters: int
    curve: tuple[tuple[float, float], ...]  # seconds, bits a second
    perplexities: tuple[float, ...]  # of the best epoch, level by level
    start: float | None = None  # bits per second before the first step, where these weights take part

    @property
    def points(self) -> tuple[tuple[float, float], ...]:
        """The curve, from 0 seconds on where the start takes part."""
        return self.curve if self.start is None else ((0.0, self.start), *self.curve)

    @property
    def best(self) -> tuple[float, float]:
        """Seconds and bits per second of the best epoch; 0 seconds for the start."""
        return min(self.points, key=lambda point: point[1])

    def seconds_to(self, bits: float) -> float:
        """Seconds until held-out bits per second are at most `bits`; infinite if never."""
        return next((seconds for seconds, found in self.points if found <= bits), math.inf)


@dataclass(frozen=True)
class PriorReport:
    """Measurements on a corpus."""

    corpus: str
    tier: str
    recordings: int
    train_frames: int
    val_frames: int
    uniform: float  # bits per second of a uniform prediction
    codec_seconds: float
    trained: tuple[PriorTrained, ...]  # the plan's, then ours with one seed after another
    first_step: float  # seconds from codes in memory
    overhead: float  # share of a run in probes, snapshots, checkpoints and tracking
    counting: float  # bits per second of prediction from counts alone


def measure_prior(
    folder: Path, params: Params, codec_seconds: float, plan_minutes: float, seeds: int, execution: Execution, say: Say
) -> PriorReport:
    """Train a codec, encode the recordings, and train priors on these codes. Raises AudioError."""
    fabric = make_fabric(execution)
    with tempfile.TemporaryDirectory() as temporary:
        coded = code_folder_within(folder, params, codec_seconds, Path(temporary), execution, say)
        data = coded.data
        plain = PriorParams.model_validate(PLAN_SETTINGS)
        say("prior of the original plan")
        unaugmented = replace(data, train=[views[:1] for views in data.train])
        trained = [_train(PLAN, unaugmented, plain, params, fabric, plan_minutes * 60)]
        for seed in range(seeds):
            say(f"our prior, seed {seed}")
            seeded = params.model_copy(update={"seed": params.seed + seed})
            trained.append(_train(f"{OURS}, seed {seed}", data, params.prior, seeded, fabric, plan_minutes * 60))
        first_step, overhead = _costs(data, params, fabric, Path(temporary))
    codes = data.codes
    return PriorReport(
        corpus=folder.resolve().name,
        tier=params.tier_name(data.recordings),
        recordings=data.recordings,
        train_frames=sum(len(views[0]) for views in data.train),
        val_frames=sum(map(len, data.held_out)),
        uniform=codes.frame_rate * codes.num_quantizers * math.log2(codes.codebook_size),
        codec_seconds=codec_seconds,
        trained=tuple(trained),
        first_step=first_step,
        overhead=overhead,
        counting=counting_bits_per_second(data),
    )


def code_folder_within(
    folder: Path, params: Params, codec_seconds: float, work: Path, execution: Execution, say: Say
) -> CodedFolder:
    """Encode a folder with a codec trained for `codec_seconds`. Raises AudioError."""

    def train(corpus: Corpus) -> VQVAE:
        count = len(corpus.entries)
        say(f"codec, {codec_seconds:.0f} s")
        whole = (params.vqvae_config(count), params.split.resolve(count), params.seed, make_fabric(execution))
        return train_within(corpus, *whole, codec_seconds).codec.model

    return code_folder(folder, work, params, execution, train)


def _train(
    name: str, data: PriorData, prior: PriorParams, params: Params, fabric: Fabric, most_seconds: float
) -> PriorTrained:
    config = prior.resolve(data.recordings, params.tier, params.split, params.tiers)
    curve: list[tuple[float, float]] = []
    cancel = threading.Event()
    began = time.perf_counter()

    def note(metrics: Mapping[str, float], _: int) -> None:
        curve.append((time.perf_counter() - began, metrics["val_bits_per_second"]))
        if curve[-1][0] > most_seconds:
            cancel.set()

    training = fit_prior(data, config, params.seed, fabric, on_metrics=note, cancel_event=cancel)
    best = training.result.best_metrics
    levels = tuple(best[f"level_{level}/val_perplexity"] for level in range(data.codes.num_quantizers))
    parameters = sum(p.numel() for p in training.model.parameters())
    return PriorTrained(
        name, parameters, tuple(curve), levels, training.result.start_metrics.get("val_bits_per_second")
    )


def _costs(data: PriorData, params: Params, fabric: Fabric, place: Path) -> tuple[float, float]:
    """Seconds to the first step, and the share of a full run outside of training and validation."""
    config = params.prior_config(data.recordings)
    spent: list[float] = []
    began, first, cancel = time.perf_counter(), [0.0], threading.Event()

    def note(event: Any) -> None:
        if isinstance(event, PriorStepMetrics):
            first[0] = first[0] or time.perf_counter() - began
            if time.perf_counter() - began > COST_SECONDS:
                cancel.set()
            with _clock(spent):
                tracker.step({"train_loss": event.train_loss}, event.overall_step)

    def send(metrics: Mapping[str, float], epoch: int) -> None:
        with _clock(spent):
            tracker.metrics(metrics, epoch)

    with tracked(place, "train_prior", "bench", {}) as tracker, _timed(spent):
        began = time.perf_counter()
        fit_prior(data, config, params.seed, fabric, CheckpointStore(place / "run"), note, send, cancel_event=cancel)
        total = time.perf_counter() - began
    return first[0], sum(spent) / total


@contextmanager
def _clock(spent: list[float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    spent.append(time.perf_counter() - began)


@contextmanager
def _timed(spent: list[float]) -> Iterator[None]:
    """Time the trainer's probes with snapshots, best weights and checkpoints."""

    def timed(name: str) -> Any:
        original = getattr(Trainer, name)

        def method(self: Any, *arguments: Any) -> Any:
            with _clock(spent):
                return original(self, *arguments)

        return patch.object(Trainer, name, method)

    with timed("_probe"), timed("_save"), timed("_keep_best"):
        yield
