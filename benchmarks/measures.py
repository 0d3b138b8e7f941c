"""Measures of a codec on held-out recordings: mel distance, ViSQOL, fidelity, tone, telling apart and speed."""

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.telling_apart import telling_apart
from benchmarks.visqol import visqol_scores
from distill.audio.partial_noise import PartialNoise
from distill.audio.partials import Tone
from distill.codec.fidelity import Fidelity, attack_ms, envelope
from distill.codec.losses import REPORT_WINDOWS, MultiScaleMelLoss

C = TypeVar("C")


@dataclass(frozen=True)
class Quality:
    """Measures of one codec, a value for each held-out recording; NaN where there is none."""

    mel: tuple[float, ...]
    visqol: tuple[float, ...]
    fidelity: tuple[Fidelity, ...]
    tone: tuple[Tone, ...]
    partial_noise: tuple[PartialNoise, ...]
    told: tuple[
        float, ...
    ]  # share of right answers of a classifier that tells originals from decodes


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out recordings `[N]` to judge codecs by, also zero-padded to whole frames of our codec."""

    names: tuple[str, ...]
    groups: tuple[str, ...]  # of near-duplicates, told apart by what is known of other groups
    sounds: tuple[Tensor, ...]
    padded: tuple[Tensor, ...]
    sample_rate: int

    def attacks(self) -> list[float]:
        """Attack of each recording in milliseconds, NaN for silence."""
        return [attack_ms(envelope(sound.numpy(), self.sample_rate)) for sound in self.sounds]

    def judge(self, decoded: Sequence[Tensor]) -> Quality:
        """Quality of decodes `[N]` of the padded recordings."""
        loss = MultiScaleMelLoss(self.sample_rate, REPORT_WINDOWS)
        originals = [sound.numpy().astype(np.float32) for sound in self.sounds]
        cut = [
            made[: len(sound)].float().numpy()
            for sound, made in zip(self.sounds, decoded, strict=True)
        ]
        pairs = list(zip(originals, cut, strict=True))
        return Quality(
            mel=tuple(mel_distance(loss, *pair) for pair in zip(self.padded, decoded, strict=True)),
            visqol=tuple(opinions(self.sounds, decoded, self.sample_rate)),
            fidelity=tuple(Fidelity.measure(*pair, self.sample_rate) for pair in pairs),
            tone=tuple(Tone.measure(*pair, self.sample_rate) for pair in pairs),
            partial_noise=tuple(
                PartialNoise.measure(one, self.sample_rate, other) for one, other in pairs
            ),
            told=telling_apart(originals, cut, self.sample_rate, self.groups, seed=0),
        )


def padded(sound: Tensor, multiple: int) -> Tensor:
    """Zero-pad `[N]` at the end to a multiple of `multiple`."""
    return nn.functional.pad(sound, (0, -len(sound) % multiple))


def mel_distance(loss: MultiScaleMelLoss, sound: Tensor, reconstruction: Tensor) -> float:
    """7-scale log10-mel L1 of two sounds `[N]`, as training reports it."""
    with torch.no_grad():
        return float(loss(reconstruction[None], sound[None]))


def opinions(
    sounds: Sequence[Tensor], reconstructions: Sequence[Tensor], sample_rate: int
) -> list[float]:
    """ViSQOL of each pair of sounds `[N]`. NaN where it has no score, and everywhere if it is not installed."""
    if importlib.util.find_spec("visqol") is None:
        return [float("nan")] * len(sounds)
    pairs = [
        (sound.numpy(), other.numpy()) for sound, other in zip(sounds, reconstructions, strict=True)
    ]
    return visqol_scores(pairs, sample_rate)


class Way(NamedTuple, Generic[C]):
    """Batch functions: sounds `[N]` to what a codec keeps of them, and back."""

    encode: Callable[[Sequence[Tensor]], Sequence[C]]
    decode: Callable[[Sequence[C]], Sequence[Tensor]]


def interleaved_speeds(
    ways: Mapping[str, Way[C]], sounds: Sequence[Tensor], sample_rate: int, rounds: int
) -> dict[str, tuple[float, float]]:
    """Median real-time factors of encoding and decoding equal sounds `[N]`, interleaved, after one warm-up round."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with torch.no_grad():
        for _ in range(rounds + 1):
            for name, way in ways.items():
                began = time.perf_counter()
                codes = way.encode(sounds)
                encoded = time.perf_counter()
                way.decode(codes)
                took[name].append((encoded - began, time.perf_counter() - encoded))
    seconds = sum(map(len, sounds)) / sample_rate
    medians = {name: np.median(times[1:], axis=0) for name, times in took.items()}
    return {
        name: (seconds / encoding, seconds / decoding)
        for name, (encoding, decoding) in medians.items()
    }
