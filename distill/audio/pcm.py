"""Stored samples: 16-bit PCM with a power-of-two exponent, so that soft recordings keep their resolution."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FULL_SCALE = 32768

F32 = NDArray[np.float32]
Pcm = NDArray[np.int16]


def pcm_of(parts: Sequence[F32], peak: float) -> tuple[Pcm, int]:
    """Convert parts of samples with a joint `peak` to PCM `[N]` or `[N, 2]`, and the exponent for `samples_of`.

    Samples that 16 bits hold exactly have the exponent 0. A peak above full scale is scaled down for good. A peak below
    half of full scale is raised by a power of two, which `samples_of` undoes.
    """
    exponent, scale = 0, np.float32(FULL_SCALE / max(1.0, peak))
    if peak < 0.5 and not all(is_whole(part * np.float32(FULL_SCALE)) for part in parts):
        exponent = int(np.frexp(peak)[1])
        scale = np.float32(FULL_SCALE * 2.0**-exponent)
    pcm = np.empty((sum(map(len, parts)), *parts[0].shape[1:]) if parts else 0, dtype=np.int16)
    start = 0
    for part in parts:
        pcm[start : start + len(part)] = whole(part * scale, 16)
        start += len(part)
    return pcm, exponent


def samples_of(pcm: Pcm, exponent: int) -> F32:
    """Samples `[N]` in [-1, 1] from PCM `[N]`."""
    return np.multiply(pcm, 2.0**exponent / FULL_SCALE, dtype=np.float32)


def pcm_sha256(pcm: Pcm, exponent: int) -> str:
    """Hex SHA-256 of PCM and exponent; of the PCM bytes alone if the exponent is 0."""
    digest = hashlib.sha256(np.ascontiguousarray(pcm, dtype="<i2").data)
    digest.update(str(exponent).encode() if exponent else b"")
    return digest.hexdigest()


def whole(values: NDArray[np.floating], bits: int) -> NDArray[np.int32]:
    """Round to integers, clipped to the range of `bits` bits."""
    full_scale = 1 << (bits - 1)
    made: NDArray[np.int32] = np.rint(values).clip(-full_scale, full_scale - 1).astype(np.int32)
    return made


def is_whole(values: F32) -> bool:
    """Whether all values are whole numbers, as 16-bit samples times full scale are."""
    return bool((values == np.rint(values)).all())
