"""Calibration of a prior: sounds that it draws should begin, go on and end as often as recordings do.

A network learns each frame after frames of recordings. In sounds of its own, small errors add up: some never end, or
never become loud. So sounds are drawn, the changes of their loudness are counted as those of the recordings are, and
the logits of changes that are too rare are raised, several times (Khalifa et al. 2021, "A Distributional Approach to
Controlled Text Generation": the smallest change of a distribution that gives it wanted means).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from distill.codes.store import Codes
from distill.generate.sampling import Sequences, sample_codes
from distill.novelty.reference import evenly
from distill.prior.frame import FramePrior
from distill.prior.loudness_course import SITUATIONS, Table
from distill.progress import Progress
from distill.seeds import Stream, derive_seed

ROUNDS = 3
SOUNDS = 256  # that are drawn in a round, where they are short
FEWEST_SOUNDS = 32
FRAMES = 32_768  # of the sounds of a round, about
MOST_RECORDINGS = 2048  # evenly spaced
MOST_FRAMES = 512  # of a sound: what it does later is not calibrated
TRUST = 3.0  # counts of a state that count as much as what is thought before
POOLED_TRUST = 10.0  # the same where states of all times are one
RARE = 0.1  # counts of each change whatever the time, before any are counted
SHRINKAGE = 0.5  # what is shrunk too much is found again in the next round
EVENTS = 0.5  # added to numbers of events: logarithms of small ones are not that uncertain


def calibrate(model: FramePrior, recordings: Sequence[Codes], seed: int, progress: Progress) -> list[float]:
    """Give a prior a `LoudnessCourse` of its training recordings `[F, Q]`.

    Returns how far drawn sounds were from the recordings before each round and at the end: the sum of absolute
    differences of how often they change in each way from each state, to the number of changes of a recording. The
    table of the lowest distance is kept.
    """
    recordings = evenly(recordings, MOST_RECORDINGS)
    course = model.begin_calibration()
    course.hear(recordings)
    most_frames = min(model.most_frames, MOST_FRAMES)
    wanted = course.count(recordings, most_frames)
    mean_frames = np.mean([min(len(codes), most_frames) for codes in recordings])
    count = int(np.clip(FRAMES // mean_frames, FEWEST_SOUNDS, SOUNDS))
    distances: list[float] = []
    tables: list[Tensor] = []

    def show(done: int, of: int, text: str) -> None:
        progress(len(tables) * of + done, (ROUNDS + 1) * of, f"calibration: {text}")

    for number in range(ROUNDS + 1):
        generator = torch.Generator().manual_seed(derive_seed(seed, Stream.CALIBRATION, number))
        drawn = sample_codes(model, Sequences(count, most_frames), generator, progress=show)
        found = course.count(drawn, most_frames) * (len(recordings) / count)
        distances.append(float(np.abs(wanted - found).sum() / wanted.sum()))
        tables.append(course.table.clone())
        step = table_step(wanted, found, len(recordings) / count)
        course.table += step.to(course.table) / math.sqrt(1 + number)
    course.table.copy_(tables[int(np.argmin(distances))])
    return distances


def table_step(wanted: Table, found: Table, scale: float) -> Tensor:
    """What to add to the table, given what `LoudnessCourse.count` counted in recordings and in sounds that were drawn.

    `found` is multiplied by `scale`, the recordings to a drawn sound. First all times are corrected alike, then each by
    what remains.
    """
    pooled = _log_ratios(_pooled(wanted), _pooled(found), scale, POOLED_TRUST)
    step = _at_each_time(pooled, wanted)
    corrected = found * np.exp(step)
    corrected *= found.sum(axis=1, keepdims=True) / np.maximum(corrected.sum(axis=1, keepdims=True), 1e-9)
    return torch.from_numpy(step + _log_ratios(wanted, corrected, scale, TRUST)).float()


def _pooled(counts: Table) -> Table:
    """Counts of all times together, `[SITUATIONS + 1, CHANGES]`; the last is before the first frame."""
    return np.concatenate([counts[:-1].reshape(-1, SITUATIONS, counts.shape[1]).sum(axis=0), counts[-1:]])


def _at_each_time(pooled: Table, table: Table) -> Table:
    """What `_pooled` counted in `table`, or values of the same shape, in the rows of `table`."""
    return np.concatenate([np.tile(pooled[:-1], (len(table) // SITUATIONS, 1)), pooled[-1:]])


def _log_ratios(wanted: Table, found: Table, scale: float, trust: float) -> Table:
    """Logarithms of how much more often each change is wanted than found, shrunk to 0 where that may be chance.

    `found` was multiplied by `scale`. The shrinkage is James and Stein's, with the variance of the logarithm of a ratio of
    two numbers of events.
    """
    both = wanted + found
    pooled = _pooled(both) + RARE
    pooled /= pooled.sum(axis=1, keepdims=True)
    before = both + _at_each_time(pooled, both)
    before *= trust / before.sum(axis=1, keepdims=True)
    ratios = np.log((wanted + before) / (wanted.sum(axis=1, keepdims=True) + trust))
    ratios -= np.log((found + before) / (found.sum(axis=1, keepdims=True) + trust))
    variance = 1 / (wanted + EVENTS) + 1 / (found / scale + EVENTS)
    shrunk: Table = ratios * np.clip(1 - SHRINKAGE * variance / np.maximum(np.square(ratios), 1e-9), 0, None)
    return shrunk
