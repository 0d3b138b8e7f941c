"""Metrics of a codec: mel distance, ViSQOL, speed, and bootstrap intervals."""

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.visqol import visqol_scores
from distill.codec.losses import REPORT_WINDOWS, MultiScaleMelLoss

RESAMPLES = 10_000


class Codec(Protocol):
    """Interface of our codec and its peers."""

    @property
    def bits_per_second(self) -> float:
        """Bitrate of a fixed-length code."""

    def encode(self, sound: Tensor) -> Tensor:
        """Encode samples `[N]` to codes `[F, Q]`."""

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes `[F, Q]` to at least as many samples as were encoded."""


@dataclass(frozen=True)
class Difference:
    """Mean of ours - peer over recordings, its bootstrap 95 % interval, and the ratio of the two means."""

    mean: float
    low: float
    high: float
    ratio: float


@dataclass(frozen=True)
class Speed:
    """Real-time factors of encoding and decoding."""

    encode: float
    decode: float


@dataclass(frozen=True)
class Way:
    """Batch functions: sounds `[N]` to codes `[F, Q]`, and codes to sounds."""

    encode: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    decode: Callable[[Sequence[Tensor]], Sequence[Tensor]]


def one_by_one(codec: Codec) -> Way:
    """Batch functions that call the codec for each sound."""
    return Way(lambda sounds: [codec.encode(one) for one in sounds], lambda codes: [codec.decode(one) for one in codes])


def reconstruct(codec: Codec, sound: Tensor) -> Tensor:
    """Encode and decode samples `[N]` to `[N]`."""
    with torch.no_grad():
        return codec.decode(codec.encode(sound))[: len(sound)]


def mel_distance(loss: MultiScaleMelLoss, sound: Tensor, reconstruction: Tensor) -> float:
    """7-scale log10-mel L1 of two sounds `[N]`, `loss` being `mel_loss(rate)`."""
    with torch.no_grad():
        return float(loss(reconstruction[None], sound[None]))


def mel_loss(sample_rate: int) -> MultiScaleMelLoss:
    """The reported mel distance, equal to that of training."""
    return MultiScaleMelLoss(sample_rate, REPORT_WINDOWS)


def padded(sound: Tensor, multiple: int) -> Tensor:
    """Zero-pad `[N]` at the end to a multiple of `multiple`."""
    return nn.functional.pad(sound, (0, -len(sound) % multiple))


def opinions(sounds: Sequence[Tensor], reconstructions: Sequence[Tensor], sample_rate: int) -> list[float]:
    """ViSQOL of each pair of sounds `[N]`. NaN where it has no score, and everywhere if it is not installed."""
    if importlib.util.find_spec("visqol") is None:
        return [float("nan")] * len(sounds)
    pairs = [(one.numpy(), other.numpy()) for one, other in zip(sounds, reconstructions, strict=True)]
    return visqol_scores(pairs, sample_rate)


def bootstrap_interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Bootstrap 95 % interval of the mean of `values` `[n]`."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def paired_difference(ours: Sequence[float], peer: Sequence[float], seed: int) -> Difference:
    """Paired bootstrap over recordings with a finite value for both; NaN if there is none."""
    pairs = np.array([ours, peer], dtype=np.float64)  # [2, n]
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    if not pairs.size:
        return Difference(*[float("nan")] * 4)
    differences = pairs[0] - pairs[1]
    ratio = pairs[0].mean() / pairs[1].mean()
    return Difference(float(differences.mean()), *bootstrap_interval(differences, seed), float(ratio))


def interleaved_speeds(
    ways: Mapping[str, Way], sounds: Sequence[Tensor], sample_rate: int, rounds: int
) -> dict[str, Speed]:
    """Median real-time factors over interleaved rounds on equal sounds `[N]`, after one warm-up round."""
    seconds = sum(len(sound) for sound in sounds) / sample_rate
    encoding: dict[str, list[float]] = {name: [] for name in ways}
    decoding: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad():
        for _ in range(rounds + 1):
            for name, way in ways.items():
                began = time.perf_counter()
                codes = way.encode(sounds)
                encoded = time.perf_counter()
                way.decode(codes)
                encoding[name].append(encoded - began)
                decoding[name].append(time.perf_counter() - encoded)
    return {
        name: Speed(seconds / statistics.median(encoding[name][1:]), seconds / statistics.median(decoding[name][1:]))
        for name in ways
    }
