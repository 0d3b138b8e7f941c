"""From a bundle and a seed to finished sounds: codes, waveform, clean ends, sane peak."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.bundle import Bundle
from distill.codes.store import Codes
from distill.errors import ArtifactError
from distill.generate.sampler import Sampling, sample_codes
from distill.models.vqvae import VQVAE
from distill.seeds import derive_seed

BATCH = 64
FADE_SECONDS = 0.005
PEAK = 0.98


@dataclass(frozen=True)
class Sound:
    """A generated sound: its codes `[F, Q]` and its samples `[N]` in [-1, 1]."""

    codes: Codes
    samples: NDArray[np.float32]


def frames_for_seconds(codec: VQVAE, seconds: float) -> int:
    """The frames that cover `seconds`, at least one."""
    return max(1, math.ceil(seconds * codec.spectrogram.frame_rate))


def generate_sounds(
    bundle: Bundle,
    count: int,
    max_seconds: float,
    seed: int,
    sampling: Sampling,
    natural_ending: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Sound]:
    """Draw `count` sounds that end by themselves within `max_seconds`, or are `max_seconds` long to the sample.

    Sounds are drawn `BATCH` at a time, each batch from a seed of its own. Raises ArtifactError when the bundle has no
    prior.
    """
    if bundle.prior is None:
        raise ArtifactError(
            "the model holds a codec and no prior: expected one with a prior; train one with `dvc repro`"
        )
    frames = frames_for_seconds(bundle.codec, max_seconds)
    samples = None if natural_ending else max(1, round(max_seconds * bundle.codec.spectrogram.sample_rate))
    sounds = []
    for first in range(0, count, BATCH):
        size, batch_seed = min(BATCH, count - first), derive_seed(seed, first)
        codes = sample_codes(bundle.prior, size, frames, batch_seed, sampling, natural_ending, progress)
        decoded = decode_sounds(bundle.codec, codes, samples)
        sounds += [Sound(*pair) for pair in zip(codes, decoded, strict=True)]
    return sounds


def decode_sounds(codec: VQVAE, sounds: Iterable[Codes], length: int | None = None) -> list[NDArray[np.float32]]:
    """Codes `[F, Q]` of each sound to samples that start and end at zero and do not clip: all, or the first `length`.

    Raises ArtifactError when the codec gives no numbers.
    """
    fade = int(FADE_SECONDS * codec.spectrogram.sample_rate)
    decoded = codec.decode_each(torch.from_numpy(codes) for codes in sounds)
    return [_finished(audio[:length], fade) for audio in decoded]


def _finished(audio: Tensor, fade: int) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = audio.cpu().numpy().copy()
    if not np.isfinite(samples).all():
        raise ArtifactError("expected a codec that gives sound, found one that gives no numbers; train it again")
    fade = min(fade, len(samples) // 2)
    ramp = np.linspace(0.0, 1.0, fade, endpoint=False, dtype=np.float32)
    samples[:fade] *= ramp
    samples[len(samples) - fade :] *= ramp[::-1]
    peak = float(np.abs(samples).max(initial=0.0))
    return samples * np.float32(PEAK / peak) if peak > PEAK else samples
