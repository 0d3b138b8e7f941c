"""Training of our codec within a time budget, and profile of a training step."""

import math
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from lightning_fabric import Fabric
from torch import Tensor

from benchmarks.measures import Way
from distill.audio.corpus import Corpus
from distill.codec.data import CropSampler
from distill.codec.model import VQVAE
from distill.codec.training import train_vqvae
from distill.params import VQVAEConfig
from distill.training.events import RollbackEvent, VQEpochMetrics, VQStepMetrics, WatchMetrics

WARM_STEPS = 3  # warm-up: memory is still being allocated
PACE_STEPS, PACE_SECONDS = 20, 15.0
UNENDING = 100_000  # epochs


@dataclass(frozen=True, eq=False)
class OurCodec:
    """Adapter of our codec; it decodes in the precision of `distill decode`."""

    model: VQVAE
    fabric: Fabric

    @property
    def bits_per_second(self) -> float:
        """Bitrate of a fixed-length code."""
        shape = self.model.architecture
        return shape.spectrogram.frame_rate * shape.num_quantizers * math.log2(shape.codebook_size)

    def encode(self, sound: Tensor) -> Tensor:
        """Encode samples `[N]` to codes `[F, Q]`."""
        return self.model.encode(sound[None])[0]

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes `[F, Q]` to whole frames of samples."""
        with self.fabric.autocast():
            return self.model.decode(codes[None])[0]

    def together(self) -> Way:
        """Batch functions of `distill encode` and `distill decode`."""
        return Way(lambda sounds: list(self.model.encode_each(sounds)), self._decode_together)

    def _decode_together(self, codes: Sequence[Tensor]) -> list[Tensor]:
        with self.fabric.autocast():
            return list(self.model.decode_each(codes))


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained codec with its seconds, its epochs and the epochs of its schedule."""

    codec: OurCodec
    seconds: float  # initialisation included
    epochs: int
    planned: int
    best_epoch: int


@dataclass(frozen=True)
class StepProfile:
    """Means over the steps of a training run, validation left out."""

    steps: int
    milliseconds: float
    sampling: float  # share of a step in which batches are drawn
    other: float  # share outside network, loss, optimiser and sampling: transfers, logging, checks


class _Clock:
    """Callback of `train_vqvae` that times steps and epochs, in seconds since its construction."""

    def __init__(self, epochs: int) -> None:
        self.planned = epochs
        self.began = time.perf_counter()
        self.elapsed = 0.0
        self.first_step = 0.0  # when it ended
        self.intervals: list[float] = []  # from the end of a step or a validation to the end of the next step
        self.inside: list[float] = []  # part of an interval in network, loss and optimiser
        self.epochs: list[float] = []  # when they ended, validation included
        self.steps_per_epoch = 0

    def __call__(self, event: VQStepMetrics | VQEpochMetrics | WatchMetrics | RollbackEvent) -> None:
        if isinstance(event, WatchMetrics | RollbackEvent):
            return
        before, self.elapsed = self.elapsed, time.perf_counter() - self.began
        if isinstance(event, VQEpochMetrics):
            self.epochs.append(self.elapsed)
            return
        if not self.intervals:
            self.first_step = self.elapsed
        self.intervals.append(self.elapsed - before)
        self.inside.append(event.step_time_s)
        self.steps_per_epoch = event.total_steps // self.planned

    def epoch_seconds(self) -> float:
        """Seconds of an epoch with validation; before the second has ended, an estimate without."""
        if len(self.epochs) > 1:
            return (self.epochs[-1] - self.epochs[0]) / (len(self.epochs) - 1)
        return self.steps_per_epoch * statistics.mean(self.intervals[WARM_STEPS:])


def train_within(
    corpus: Corpus,
    config: VQVAEConfig,
    val_fraction: float,
    seed: int,
    fabric: Fabric,
    seconds: float,
    most_epochs: int = UNENDING,
) -> Trained:
    """Train with a whole learning-rate schedule within `seconds`, initialisation included.

    The time of an epoch is measured first, in a run of its own.
    """
    pace = _train_for(corpus, config, val_fraction, seed, fabric, PACE_SECONDS, PACE_STEPS)
    planned = min(most_epochs, max(1, int((seconds - pace.first_step) / pace.epoch_seconds())))
    config = config.model_copy(update={"epochs": planned})
    clock, cancel = _Clock(planned), threading.Event()

    def watch(event: VQStepMetrics | VQEpochMetrics | WatchMetrics | RollbackEvent) -> None:
        clock(event)
        if clock.elapsed >= seconds:
            cancel.set()

    training = train_vqvae(corpus, config, val_fraction, seed, fabric, callback=watch, cancel_event=cancel)
    taken = time.perf_counter() - clock.began
    return Trained(
        OurCodec(training.model, fabric), taken, len(training.result.history), planned, training.result.best_epoch
    )


def profile_steps(
    corpus: Corpus, config: VQVAEConfig, val_fraction: float, seed: int, fabric: Fabric, seconds: float
) -> StepProfile:
    """Train for `seconds` and measure the share of a step outside of network, loss and optimiser."""
    drawing: list[float] = []
    with _timed_sampler(drawing):
        clock = _train_for(corpus, config, val_fraction, seed, fabric, seconds, UNENDING)
    whole, inside = statistics.mean(clock.intervals[WARM_STEPS:]), statistics.mean(clock.inside[WARM_STEPS:])
    sampling = statistics.mean(drawing[WARM_STEPS:])
    steps = len(clock.intervals) - WARM_STEPS
    return StepProfile(steps, 1000 * whole, sampling / whole, max(0.0, whole - inside - sampling) / whole)


def _train_for(
    corpus: Corpus, config: VQVAEConfig, val_fraction: float, seed: int, fabric: Fabric, seconds: float, steps: int
) -> _Clock:
    """Train for two epochs and `steps` steps, or for `seconds` from the first step on."""
    config = config.model_copy(update={"epochs": UNENDING, "patience": 0})
    clock, cancel = _Clock(UNENDING), threading.Event()

    def watch(event: VQStepMetrics | VQEpochMetrics | WatchMetrics | RollbackEvent) -> None:
        clock(event)
        counted = len(clock.intervals) - WARM_STEPS
        late = clock.elapsed - clock.first_step >= seconds
        if counted > 0 and (late or (counted >= steps and len(clock.epochs) > 1)):
            cancel.set()

    train_vqvae(corpus, config, val_fraction, seed, fabric, callback=watch, cancel_event=cancel)
    return clock


@contextmanager
def _timed_sampler(drawing: list[float]) -> Iterator[None]:
    """Time the sampling of every batch, in seconds."""
    untimed = CropSampler.batches

    def batches(self: CropSampler, *arguments: Any) -> Iterator[Tensor]:
        drawn = untimed(self, *arguments)
        while True:
            began = time.perf_counter()
            batch = next(drawn, None)
            if batch is None:
                return
            drawing.append(time.perf_counter() - began)
            yield batch

    with patch.object(CropSampler, "batches", batches):
        yield
