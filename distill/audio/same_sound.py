"""Comparison of two recordings, frame by frame, at a lag: whether they are the same sound."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from distill.audio.fingerprint import I64, bit_differences, error_rate_limit
from distill.audio.fingerprint_frames import AT_ONCE, FingerprintFrames

MINIMUM_OVERLAP = 0.8


def are_same_sound(frames: FingerprintFrames, votes: I64) -> NDArray[np.bool_]:
    """For each of the votes, whether the two recordings are near-duplicates at its lag or one frame to a side."""
    pairs = _pairs(votes, frames)
    same = np.zeros(len(pairs), dtype=np.bool_)
    for batch in _batches(frames.loud_counts[pairs[:, 0]]):
        for offset in (-1, 0, 1):
            same[batch] |= _match_at(frames, *(pairs[batch] + [0, 0, offset]).T)
    return same


def _pairs(votes: I64, frames: FingerprintFrames) -> I64:
    """Rows `[P, 3]` of votes: recording with fewer loud frames, the other, lag in frames."""
    first, second, lag = frames.code.decode(votes)
    swap = frames.loud_counts[second] < frames.loud_counts[first]
    return np.stack([np.where(swap, second, first), np.where(swap, first, second), np.where(swap, -lag, lag)], axis=1)


def _batches(sizes: I64) -> Iterator[slice]:
    """Slices over `sizes` of about AT_ONCE each."""
    batch = np.cumsum(sizes) // AT_ONCE
    cuts = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(sizes)]
    return (slice(start, stop) for start, stop in pairwise(cuts) if stop > start)


def _match_at(frames: FingerprintFrames, shorter: I64, longer: I64, lag: I64) -> NDArray[np.bool_]:
    """Whether the loud frames of each `shorter` recording match the frames of `longer` that are `lag` later."""
    counts = frames.loud_counts[shorter]
    pair = np.repeat(np.arange(len(shorter)), counts)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
    a = frames.loud[frames.loud_starts[shorter][pair] + within]
    position = a - frames.starts[shorter][pair] + lag[pair]
    inside = (position >= 0) & (position < frames.lengths[longer][pair])
    a, pair = a[inside], pair[inside]
    b = frames.starts[longer][pair] + position[inside]
    half_errors, bits = bit_differences(frames.signs[a], frames.sure[a], frames.signs[b], frames.sure[b])
    overlap, errors, total = (
        np.bincount(pair, weights=weights, minlength=len(shorter)) for weights in (None, half_errors / 2, bits)
    )
    return (overlap >= MINIMUM_OVERLAP * counts) & (errors < error_rate_limit(total.astype(np.int64)) * total)
