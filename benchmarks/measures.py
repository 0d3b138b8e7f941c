"""What a codec is judged by: distance and predicted opinion of each held-out recording, speed, and how sure that is."""

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.visqol import visqol_scores
from distill.codec.losses import REPORT_WINDOWS, MultiScaleMelLoss

RESAMPLES = 10_000


class Codec(Protocol):
    """Ours and its peers alike."""

    @property
    def bits_per_second(self) -> float:
        """Of a code with fixed length."""

    def encode(self, sound: Tensor) -> Tensor:
        """`[N]` samples to codes `[F, Q]`."""

    def decode(self, codes: Tensor) -> Tensor:
        """Codes `[F, Q]` to at least as many samples as were encoded."""


@dataclass(frozen=True)
class Difference:
    """Mean of ours - peer over recordings, its bootstrap 95 % interval, and the ratio of the two means."""

    mean: float
    low: float
    high: float
    ratio: float


@dataclass(frozen=True)
class Speed:
    """Seconds of sound for each second of work."""

    encode: float
    decode: float


@dataclass(frozen=True)
class Way:
    """How many sounds `[N]` are turned into codes `[F, Q]`, and how these are decoded."""

    encode: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    decode: Callable[[Sequence[Tensor]], Sequence[Tensor]]


def one_by_one(codec: Codec) -> Way:
    """A call for each sound."""
    return Way(lambda sounds: [codec.encode(one) for one in sounds], lambda codes: [codec.decode(one) for one in codes])


def reconstruct(codec: Codec, sound: Tensor) -> Tensor:
    """`[N]` samples through the codes and back to `[N]`."""
    with torch.no_grad():
        return codec.decode(codec.encode(sound))[: len(sound)]


def mel_distance(loss: MultiScaleMelLoss, sound: Tensor, reconstruction: Tensor) -> float:
    """7-scale log10-mel L1 of two sounds `[N]`, `loss` being `mel_loss(rate)`."""
    with torch.no_grad():
        return float(loss(reconstruction[None], sound[None]))


def mel_loss(sample_rate: int) -> MultiScaleMelLoss:
    """The distance that is reported, which is what training reports, too."""
    return MultiScaleMelLoss(sample_rate, REPORT_WINDOWS)


def padded(sound: Tensor, multiple: int) -> Tensor:
    """`[N]` with silence at the end, so that N is a multiple of `multiple`."""
    return nn.functional.pad(sound, (0, -len(sound) % multiple))


def opinions(sounds: Sequence[Tensor], reconstructions: Sequence[Tensor], sample_rate: int) -> list[float]:
    """ViSQOL of each pair of sounds `[N]`. NaN where it cannot say, which is everywhere if it is not installed."""
    if importlib.util.find_spec("visqol") is None:
        return [float("nan")] * len(sounds)
    pairs = [(one.numpy(), other.numpy()) for one, other in zip(sounds, reconstructions, strict=True)]
    return visqol_scores(pairs, sample_rate)


def paired_difference(ours: Sequence[float], peer: Sequence[float], seed: int) -> Difference:
    """Bootstrap over recordings; those without a figure for both are left out. All NaN if none is left."""
    pairs = np.array([ours, peer], dtype=np.float64)  # [2, n]
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    if not pairs.size:
        return Difference(*[float("nan")] * 4)
    differences = pairs[0] - pairs[1]
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.percentile(differences[drawn].mean(axis=1), (2.5, 97.5))
    ratio = pairs[0].mean() / pairs[1].mean()
    return Difference(float(differences.mean()), float(low), float(high), float(ratio))


def interleaved_speeds(
    ways: Mapping[str, Way], sounds: Sequence[Tensor], sample_rate: int, rounds: int
) -> dict[str, Speed]:
    """Medians over rounds in which every way takes its turn on the same sounds `[N]`; one round before does not count."""
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
