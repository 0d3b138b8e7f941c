"""The sound that strange audio files hold, and what is known of such a file."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE, FRAMES = 16_000, 4_000
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Strange:
    """A file: its name, its bytes, and the samples `[n, C]` that a decoder finds, None where that is not said."""

    name: str
    data: bytes
    samples: F64 | None = None
    rate: int = RATE
    tolerance: float = 2 / 32768  # of each sample of the mono mix
    uncertain: bool = False  # the library may not be able to read it: rejected, or right samples


def sound(channels: int = 1, frames: int = FRAMES) -> F64:
    """A decaying tone, softer in each further channel, `[n, C]` between -1 and 1."""
    time = np.arange(frames)[:, None]
    return 0.6 * np.exp(-time / 1500) * np.sin(0.2 * time) / np.arange(1, channels + 1)
