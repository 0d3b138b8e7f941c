"""ViSQOL, a predicted listening test, in audio mode at 48 kHz, for short sounds."""

import functools
import math
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

SAMPLE_RATE = 48_000  # the only sample rate of audio mode
WINDOW, HOP = 3840, 960  # samples of a gammatone frame: 80 ms every 20 ms
PATCH_FRAMES = 30  # frames of a patch
FIRST_FRAME = 14  # start of the first patch: nothing before it is compared
LEAD = SAMPLE_RATE // 2  # samples of silence before the sound, as ViSQOL's guidelines ask

Samples = NDArray[np.float32]


def visqol_scores(
    pairs: Sequence[tuple[Samples, Samples]], rate: int, workers: int | None = None
) -> list[float]:
    """The predicted mean opinion score, 1 to about 4.75, of each (original `[N]`, reconstruction `[N]`) at `rate` Hz.

    NaN where one of the two is silent or not finite. `workers` processes (by default one per core) share the work.
    """
    workers = min(len(pairs), workers or os.cpu_count() or 1)
    jobs = [
        (np.asarray(original), np.asarray(reconstruction), rate)
        for original, reconstruction in pairs
    ]
    if workers <= 1:
        return [_score(job) for job in jobs]
    # Forking a process that runs threads, as PyTorch and soxr do, can hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(_score, jobs))


def padded(sound: Samples, rate: int) -> Samples:
    """Resample `[N]` at `rate` Hz to 48 kHz, and pad with silence to whole patches.

    ViSQOL skips the first 0.28 s and an incomplete last patch of 0.6 s. Silence counts as perfect: none more is added.
    """
    resampled = np.asarray(soxr.resample(sound, rate, SAMPLE_RATE, quality="HQ"), dtype=np.float32)
    patches = max(1, math.ceil((LEAD + len(resampled) - FIRST_FRAME * HOP) / (PATCH_FRAMES * HOP)))
    frames = patches * PATCH_FRAMES + FIRST_FRAME + 2
    result = np.zeros(WINDOW + (frames - 1) * HOP, dtype=np.float32)
    result[LEAD : LEAD + len(resampled)] = resampled
    return result


def _score(job: tuple[Samples, Samples, int]) -> float:
    original, reconstruction, rate = job
    if not (np.isfinite(reconstruction).all() and original.any() and reconstruction.any()):
        return math.nan
    length = min(len(original), len(reconstruction))
    reference, degraded = (padded(sound[:length], rate) for sound in (original, reconstruction))
    return float(_api().measure_from_arrays(reference, degraded, SAMPLE_RATE).moslqo)


@functools.cache
def _api() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="audio")
    return api
