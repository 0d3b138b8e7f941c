"""Robustness of our codec: signals that break codecs, and discontinuities between decoded chunks."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.codec.model import VQVAE

CHUNK_FRAMES = 64


@dataclass(frozen=True)
class SoundResult:
    """Result of one sound. Jumps are the largest absolute differences of neighbouring samples."""

    name: str
    peak: float  # of the original
    reconstructed_peak: float
    finite: bool
    jump_at_seams: float  # NaN for a sound of one chunk
    jump_elsewhere: float
    chunking: float  # largest difference of the samples decoded in chunks from those decoded at once


def breaking_sounds(sample_rate: int, seed: int) -> dict[str, Tensor]:
    """Synthesised test signals `[N]` in [-1, 1], by name."""
    generator = np.random.default_rng(seed)

    def times(seconds: float) -> NDArray[np.float64]:
        return np.arange(round(seconds * sample_rate)) / sample_rate

    click = np.zeros(sample_rate)
    click[sample_rate // 2] = 1.0
    swell = np.sin(np.pi * times(15.0) / 15.0)
    pad = sum(
        np.sin(2 * np.pi * pitch * detune * times(15.0)) for pitch in (110, 165, 220) for detune in (0.997, 1.003)
    )
    clipped = np.clip(
        4.0 * np.sin(2 * np.pi * 196.0 * times(3.0)) + 2.0 * np.sin(2 * np.pi * 311.0 * times(3.0)), -1, 1
    )
    sounds = {
        "click": click,
        "silence": np.zeros(3 * sample_rate),
        "30 Hz sine": 0.9 * np.sin(2 * np.pi * 30.0 * times(5.0)),
        "white noise": np.clip(0.25 * generator.standard_normal(5 * sample_rate), -1, 1),
        "15 s pad": 0.12 * swell * pad,
        "clipped recording": clipped,
    }
    return {name: torch.from_numpy(sound).float() for name, sound in sounds.items()}


def judge(model: VQVAE, name: str, sound: Tensor) -> SoundResult:
    """Reconstruct a sound, decoded in chunks of `CHUNK_FRAMES` and at once."""
    codes = model.encode(sound[None])
    chunked, whole = (model.decode(codes, chunk)[0] for chunk in (CHUNK_FRAMES, codes.shape[1]))
    jumps = chunked.diff().abs()
    chunk = CHUNK_FRAMES * model.spectrogram.samples_per_frame
    seams = torch.zeros(len(jumps), dtype=torch.bool)
    seams[chunk - 1 :: chunk] = True
    return SoundResult(
        name=name,
        peak=float(sound.abs().max()),
        reconstructed_peak=float(chunked.abs().max()),
        finite=bool(chunked.isfinite().all()),
        jump_at_seams=float(jumps[seams].max()) if seams.any() else float("nan"),
        jump_elsewhere=float(jumps[~seams].max()),
        chunking=float((chunked - whole).abs().max()),
    )
