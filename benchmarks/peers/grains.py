"""Grains of recordings, as a granular synthesiser plays them: no training, and nothing but what was recorded."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]  # [N]

GRAIN_SECONDS = 0.1
JITTER_SECONDS = 0.01  # by which a grain is read before or after its place


def grains(
    recordings: Sequence[Samples], count: int, rate: int, rng: np.random.Generator
) -> list[Samples]:
    """Sounds `[N]`, each of the grains of one of the recordings `[N]`, which are drawn at random."""
    chosen = rng.integers(len(recordings), size=count)
    size, jitter = (2 * round(seconds * rate / 2) for seconds in (GRAIN_SECONDS, JITTER_SECONDS))
    return [granulated(recordings[number], size, jitter, rng) for number in chosen]


def granulated(recording: Samples, size: int, jitter: int, rng: np.random.Generator) -> Samples:
    """A recording `[N]` from grains of `size` samples, each up to `jitter` before or after its place, crossfaded.

    Grains overlap by half and are faded by Hann windows, whose sum is 1.
    """
    hop = size // 2
    count = -(-len(recording) // hop) + 1
    fade = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    padded = np.pad(recording, (hop + jitter, 2 * size + jitter))
    sound = np.zeros((count + 1) * hop)
    for grain in range(count):
        moved = int(rng.integers(-jitter, jitter + 1))
        start = grain * hop + jitter + moved
        sound[grain * hop : grain * hop + size] += fade * padded[start : start + size]
    return sound[hop : hop + len(recording)].astype(np.float32)
