"""Samples of recordings for training, and augmented views of them: shifted, louder or softer, faster or slower."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.audio.corpus import PCM_SCALE, Corpus, ManifestRow
from distill.seeds import Stream, derive_seed

VARISPEED_SEMITONES = 3.0
VIEW_GAINS_DB = (-8.0, 2.0)


@dataclass(frozen=True)
class View:
    """View of a recording: without its first `shift` samples, times `gain`. View 0 is the recording itself."""

    number: int = 0
    shift: int = 0
    gain: float = 1.0


AS_IS = View()


def views_of(entry: ManifestRow, count: int, samples_per_frame: int, seed: int) -> list[View]:
    """Views of a recording, `count` of them: itself, then shifted by less than a frame and by -8 to 2 dB.

    Very short recordings are not shifted.
    """
    generator = np.random.default_rng(derive_seed(seed, Stream.VIEWS, int(entry.recording_id[:15], 16)))
    views = [AS_IS]
    for number in range(1, count):
        shift, level = int(generator.integers(samples_per_frame)), generator.uniform(*VIEW_GAINS_DB)
        views.append(View(number, shift if entry.samples > 2 * shift else 0, float(10 ** (level / 20))))
    return views


def waveform(
    corpus: Corpus, entry: ManifestRow, start: int = 0, length: int | None = None, view: View = AS_IS
) -> Tensor:
    """Samples `[N]` of a view from `start` on, fp32 in [-1, 1]; to the end if `length` is None."""
    samples = samples_of(corpus.pcm(entry, start + view.shift, length))
    return samples if view.gain == 1.0 else (samples * view.gain).clamp_(-1.0, 1.0)


def samples_of(pcm: NDArray[np.int16]) -> Tensor:
    """Samples `[N]`, fp32 in [-1, 1), of int16 PCM `[N]`."""
    return torch.from_numpy(pcm).float() / PCM_SCALE


def varispeed(audio: Tensor, speed: float) -> Tensor:
    """Audio `[N]` at another `speed`, `[max(1, N / speed)]`: pitch and length change together. Linear interpolation."""
    length = varispeed_length(len(audio), speed)
    return nn.functional.interpolate(audio[None, None], size=length, mode="linear", align_corners=False)[0, 0]


def varispeed_length(samples: int, speed: float) -> int:
    """Number of samples of audio of `samples` at another `speed`."""
    return max(1, round(samples / speed))
