"""Training of our codec within a time budget, and what a step of it takes."""

import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_fabric import Fabric
from torch import Tensor

from benchmarks.measures import Way
from distill.audio.corpus import Corpus
from distill.codec.model import VQVAE
from distill.codec.streaming import decode, decode_each, encode, encode_each
from distill.codec.training import CodecTraining, train_vqvae
from distill.params import VQVAEConfig
from distill.training.events import RollbackEvent, VQEpochMetrics, VQStepMetrics, WatchMetrics

WARM_STEPS = 3
PACE_STEPS, PACE_SECONDS = 20, 15.0
UNENDING = 100_000  # epochs

Event = VQStepMetrics | VQEpochMetrics | WatchMetrics | RollbackEvent


@dataclass(frozen=True, eq=False)
class CodecTask:
    """What our codec is trained on, and how."""

    corpus: Corpus
    config: VQVAEConfig
    val_fraction: float
    seed: int
    fabric: Fabric

    def train(
        self, epochs: int, watch: Callable[[Event], None], cancel: threading.Event, **changes: int
    ) -> CodecTraining:
        """Train for so many epochs or until it is cancelled; `changes` override settings."""
        config = self.config.model_copy(update={"epochs": epochs, **changes})
        given = (self.corpus, config, self.val_fraction, self.seed, self.fabric)
        return train_vqvae(*given, callback=watch, cancel_event=cancel)


@dataclass(frozen=True, eq=False)
class OurCodec:
    """Adapter of our codec; it decodes in the precision of `distill decode`."""

    model: VQVAE
    fabric: Fabric

    @property
    def bits_per_second(self) -> float:
        """Bitrate of a fixed-length code."""
        return self.model.spectrogram.frame_rate * sum(map(math.log2, self.model.architecture.codebook_sizes))

    def encode(self, sound: Tensor) -> Tensor:
        """Encode samples `[N]` to codes `[F, Q]`."""
        return encode(self.model, sound[None])[0]

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes `[F, Q]` to whole frames of samples."""
        with self.fabric.autocast():
            return decode(self.model, codes[None])[0]

    def together(self) -> Way:
        """Batch functions of `distill encode` and `distill decode`."""

        def decode_together(codes: Sequence[Tensor]) -> list[Tensor]:
            with self.fabric.autocast():
                return list(decode_each(self.model, codes))

        return Way(lambda sounds: list(encode_each(self.model, sounds)), decode_together)


class Clock:
    """Callback of `train_vqvae` that times steps and epochs, in seconds since its construction."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.elapsed = 0.0
        self.first_step = 0.0  # when it ended
        self.intervals: list[float] = []  # from the end of a step or a validation to the end of the next step
        self.inside: list[float] = []  # part of an interval in network, loss and optimiser
        self.epochs: list[float] = []  # when they ended, validation included
        self.steps_per_epoch = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, WatchMetrics | RollbackEvent):
            return
        before, self.elapsed = self.elapsed, time.perf_counter() - self.began
        if isinstance(event, VQEpochMetrics):
            self.epochs.append(self.elapsed)
            return
        self.first_step = self.first_step or self.elapsed
        self.intervals.append(self.elapsed - before)
        self.inside.append(event.step_time_s)
        self.steps_per_epoch = event.total_steps

    @property
    def warm(self) -> list[float]:
        """Seconds of the steps after the first ones, in which memory is still being allocated."""
        return self.intervals[WARM_STEPS:] or self.intervals

    def epoch_seconds(self) -> float:
        """Seconds of an epoch with validation; before the second has ended, an estimate without."""
        if len(self.epochs) > 1:
            return (self.epochs[-1] - self.epochs[0]) / (len(self.epochs) - 1)
        return self.steps_per_epoch * statistics.mean(self.warm)

    def outside(self) -> float:
        """Share of the steps outside of network, loss and optimiser: batches, transfers, logging, checks."""
        inside = sum(self.inside[-len(self.warm) :])
        return max(0.0, 1 - inside / sum(self.warm))


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained codec with its seconds, its epochs and the epochs of its schedule, and the clock of its steps."""

    codec: OurCodec
    seconds: float  # initialisation included
    epochs: int
    planned: int
    best_epoch: int
    clock: Clock


def train_within(task: CodecTask, seconds: float, most_epochs: int = UNENDING) -> Trained:
    """Train with a whole learning-rate schedule within `seconds`, initialisation included.

    The time of an epoch is measured first, in a run of its own: of two epochs, or of 15 s.
    """
    pace, ended = Clock(), threading.Event()

    def watch_pace(event: Event) -> None:
        pace(event)
        counted = len(pace.intervals) - WARM_STEPS
        is_late = pace.elapsed - pace.first_step >= PACE_SECONDS
        if counted > 0 and (is_late or (counted >= PACE_STEPS and len(pace.epochs) > 1)):
            ended.set()

    task.train(UNENDING, watch_pace, ended, patience=0)
    planned = min(most_epochs, max(1, int((seconds - pace.first_step) / pace.epoch_seconds())))
    clock, cancel = Clock(), threading.Event()

    def watch(event: Event) -> None:
        clock(event)
        if clock.elapsed >= seconds:
            cancel.set()

    training = task.train(planned, watch, cancel)
    taken, result = time.perf_counter() - clock.began, training.result
    return Trained(OurCodec(training.model, task.fabric), taken, len(result.history), planned, result.best_epoch, clock)
