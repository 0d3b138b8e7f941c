"""Baseline that predicts codes from counts, without a network; a prior must beat it."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from distill.codes.sequences import CodedRecording, bos_token
from distill.codes.store import Codes
from distill.prior.counts import PRIOR_COUNT, TRUST, Probabilities, count
from distill.prior.data import PriorData

CACHE_DECAYS = (0.8, 0.97)  # per frame, of the counts of a recording's own codes
CACHE_TRUST = 0.5  # like TRUST, for these counts


class CountingModel:
    """Mixture of five counted distributions, with fixed weights for each level.

    The distributions: the code alone, given the next coarser code of its frame, given the code of the previous frame,
    and recent codes of the same recording with two decays. EM fits the weights on one half of the training recordings
    (a subset of it if large), with counts of the other half; then all recordings are counted. Without counts the
    distribution is uniform over a level's codes.
    """

    def __init__(self, recordings: Sequence[CodedRecording], codebook_sizes: Sequence[int]) -> None:
        self.codebook_sizes, self.codebook_size = codebook_sizes, max(codebook_sizes)
        levels = len(codebook_sizes)
        first = set(sorted({recording.group for recording in recordings})[::2])
        halves = [
            [recording for recording in recordings if (recording.group in first) == is_first]
            for is_first in (True, False)
        ]
        self.weights = np.full((levels, 3 + len(CACHE_DECAYS)), 1 / (3 + len(CACHE_DECAYS)))
        if all(halves):
            self._count(halves[0])
            frames = sum(len(recording.views[0]) for recording in halves[1])
            fitted = halves[1][
                :: -(-frames // 200_000)
            ]  # about 200,000 frames suffice for a few weights
            probabilities = np.concatenate(
                [self.probabilities(recording.codes) for recording in fitted]
            )
            for _ in range(60):
                shares = probabilities * self.weights
                self.weights = (shares / shares.sum(axis=2, keepdims=True)).mean(axis=0)
        self._count(recordings)

    def _count(self, recordings: Sequence[CodedRecording]) -> None:
        size, uniform = (
            self.codebook_size,
            1 / np.array(self.codebook_sizes, dtype=np.float64)[:, None],
        )
        counts = count(
            recordings, self.codebook_sizes, max(recording.label for recording in recordings)
        )
        single = counts.unigram[:, :size]
        self.single = (single + PRIOR_COUNT * uniform) / (
            single.sum(axis=1, keepdims=True) + PRIOR_COUNT
        )
        self.previous = counts.previous[:, :, :size]
        self.coarser = np.zeros((len(self.codebook_sizes), size, size))
        for recording in recordings:
            for codes in recording.views:
                for level, (coarse, fine) in enumerate(pairwise(codes.T), start=1):
                    np.add.at(self.coarser[level], (coarse, fine), 1 / len(recording.views))

    def nats(self, codes: Codes) -> Probabilities:
        """Negative log-likelihood `[F, Q]` of the codes `[F, Q]` of a recording."""
        nats: Probabilities = -np.log((self.probabilities(codes) * self.weights).sum(axis=2))
        return nats

    def probabilities(self, codes: Codes) -> Probabilities:
        """Probability `[F, Q, 5]` of each code under each distribution."""
        levels = []
        for level, own in enumerate(codes.T):
            single = self.single[level][own]
            before = np.concatenate([[bos_token(self.codebook_size)], own[:-1]])
            parts = [single]
            for table, contexts in (
                (self.coarser[level], codes[:, level - 1]),
                (self.previous[level], before),
            ):
                parts.append(
                    (table[contexts, own] + TRUST * single) / (table[contexts].sum(axis=1) + TRUST)
                )
            for decay in CACHE_DECAYS:
                lately, total = _lately(own, decay)
                parts.append((lately + CACHE_TRUST * single) / (total + CACHE_TRUST))
            levels.append(np.stack(parts, axis=1))
        return np.stack(levels, axis=1)


def _lately(own: Codes, decay: float) -> tuple[Probabilities, Probabilities]:
    """Decaying count `[F]` of each code among the codes before it, and the decaying total `[F]` of all codes."""
    counts: Probabilities = np.zeros(len(own))
    seen: dict[int, int] = {}  # latest frame with each code
    for frame, code in enumerate(own.tolist()):
        if code in seen:
            counts[frame] = decay ** (frame - seen[code] - 1) * (1 + decay * counts[seen[code]])
        seen[code] = frame
    total: Probabilities = (1 - np.float64(decay) ** np.arange(len(own), dtype=np.float64)) / (
        1 - decay
    )
    return counts, total


def counting_bits_per_second(data: PriorData) -> float:
    """Held-out bits per second of a `CountingModel` fitted on the training recordings, without EOS."""
    model = CountingModel(data.train, data.codes.codebook_sizes)
    nats = sum(float(model.nats(recording.codes).sum()) for recording in data.held_out)
    return nats / math.log(2) / data.held_out_seconds
