"""Recordings as training hears them: samples, and views of them that are shifted, louder, softer, faster or slower."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.audio.corpus import Corpus, CorpusEntry
from distill.seeds import Stream, derive_seed

PCM_SCALE = 32768.0


VIEW_GAINS_DB = (-8.0, 2.0)  # of the views


@dataclass(frozen=True)
class View:
    """A way to hear a recording: `shift` samples left out at its beginning, times `gain`. 0 is the recording as it is."""

    number: int = 0
    shift: int = 0
    gain: float = 1.0


AS_IS = View()


def views_of(entry: CorpusEntry, count: int, samples_per_frame: int, seed: int) -> list[View]:
    """`count` views: as it is, then shifted by less than a frame and 8 dB softer to 2 dB louder. Very short ones keep
    their beginning."""
    generator = np.random.default_rng(derive_seed(seed, Stream.VIEWS, int(entry.recording_id[:15], 16)))
    views = [AS_IS]
    for number in range(1, count):
        shift, level = int(generator.integers(samples_per_frame)), generator.uniform(*VIEW_GAINS_DB)
        views.append(View(number, shift if entry.samples > 2 * shift else 0, float(10 ** (level / 20))))
    return views


def waveform(
    corpus: Corpus, entry: CorpusEntry, start: int = 0, length: int | None = None, view: View = AS_IS
) -> Tensor:
    """Samples `[N]` in [-1, 1], fp32, of a view from `start` on."""
    samples = samples_of(corpus.pcm(entry, start + view.shift, length))
    return samples if view.gain == 1.0 else (samples * view.gain).clamp_(-1.0, 1.0)


def samples_of(pcm: NDArray[np.int16]) -> Tensor:
    """int16 samples `[N]` to `[N]` in [-1, 1), fp32."""
    return torch.from_numpy(pcm).float() / PCM_SCALE


VARISPEED_SEMITONES = 3.0


def varispeed(audio: Tensor, speed: float) -> Tensor:
    """`[N]` played at `speed`: `[max(1, N / speed)]`, pitch and length change together; linear interpolation."""
    length = max(1, round(len(audio) / speed))
    return nn.functional.interpolate(audio[None, None], size=length, mode="linear", align_corners=False)[0, 0]
