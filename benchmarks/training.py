"""Training of our codec within a time budget, and what a step of it takes."""

import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lightning_fabric import Fabric
from torch import Tensor

from benchmarks.measures import Way
from distill.audio.corpus import Corpus
from distill.audio.measure import row_count
from distill.audio.noise_floor import BANDS, STEPS, noise_floor
from distill.audio.side_info import SideInfo
from distill.codec.model import VQVAE
from distill.codec.streaming import decode, decode_each, encode, encode_each, noise_of
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


class Coded(NamedTuple):
    """What our codec keeps of a mono sound: codes `[F, Q]`, and its noise floor."""

    codes: Tensor
    side_info: SideInfo


@dataclass(frozen=True, eq=False)
class OurCodec:
    """Adapter of our codec; it decodes in the precision of `distill decode`."""

    model: VQVAE
    fabric: Fabric

    def bits_per_second(self, sounds: Sequence[Tensor]) -> float:
        """Bitrate of fixed-length codes, and of the noise floors of sounds `[N]`."""
        seconds = [len(sound) / self.model.spectrogram.sample_rate for sound in sounds]
        floors = sum(map(row_count, seconds)) * BANDS * math.log2(len(STEPS)) / sum(seconds)
        codes = self.model.spectrogram.frame_rate * sum(
            map(math.log2, self.model.architecture.codebook_sizes)
        )
        return codes + floors

    def encode(self, sound: Tensor) -> Coded:
        """Encode samples `[N]`."""
        return Coded(encode(self.model, sound[None])[0], self._side_info(sound))

    def decode(self, coded: Coded) -> Tensor:
        """Decode to whole frames of samples."""
        with self.fabric.autocast():
            codes, about = coded
            return decode(self.model, codes[None], noise_of(self.model, about, len(codes)))[0]

    def together(self) -> Way[Coded]:
        """Batch functions of `distill encode` and `distill decode`."""

        def encode_together(sounds: Sequence[Tensor]) -> list[Coded]:
            return list(map(Coded, encode_each(self.model, sounds), map(self._side_info, sounds)))

        def decode_together(coded: Sequence[Coded]) -> list[Tensor]:
            with self.fabric.autocast():
                return list(decode_each(self.model, *zip(*coded, strict=True)))

        return Way(encode_together, decode_together)

    def _side_info(self, sound: Tensor) -> SideInfo:
        return SideInfo(noise=noise_floor(sound.numpy(), self.model.spectrogram.sample_rate))


class Clock:
    """Callback of `train_vqvae` that times steps and epochs, in seconds since its construction."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.elapsed = 0.0
        self.first_step = 0.0  # when it ended
        self.intervals: list[
            float
        ] = []  # from the end of a step or a validation to the end of the next step
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
    return Trained(
        OurCodec(training.model, task.fabric),
        taken,
        len(result.history),
        planned,
        result.best_epoch,
        clock,
    )
