"""Prediction from counts alone, without a network: the least that a prior has to beat."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from distill.codes.sequences import bos_token
from distill.codes.store import Codes, frame_counts
from distill.prior.counts import PRIOR_COUNT, TRUST, Probabilities, count
from distill.prior.data import PriorData

CACHE_DECAYS = (0.8, 0.97)  # of a recording's own codes, each frame
CACHE_TRUST = 0.5  # as TRUST, of these
EM_ROUNDS = 60
MOST_FITTED_FRAMES = 200_000  # about, of evenly spaced recordings: the weights are few


class CountingModel:
    """Mixture of five counts, with fixed weights for each level; no network.

    These are how often a code occurs, how often after the coarser code of its frame, how often after the code of the
    frame before, and how often lately in this recording, with two decays. The weights are fitted by EM on one half of
    the training recordings, or a part of it where it is large, with counts of the other half; then all are counted.
    """

    def __init__(
        self, recordings: Sequence[Sequence[Codes]], groups: Sequence[str], codebook_size: int, levels: int
    ) -> None:
        """`recordings` are the views `[F, Q]` of each; `groups` are those of near-duplicates."""
        self.codebook_size, self.levels = codebook_size, levels
        names = sorted(set(groups))
        first = set(names[::2])
        halves = [
            [views for views, group in zip(recordings, groups, strict=True) if (group in first) is side]
            for side in (True, False)
        ]
        self.weights = np.full((levels, 3 + len(CACHE_DECAYS)), 1 / (3 + len(CACHE_DECAYS)))
        if all(halves):
            self._count(halves[0])
            frames = sum(int(frame_counts(views)[0]) for views in halves[1])
            fitted = halves[1][:: -(-frames // MOST_FITTED_FRAMES)]
            self._fit(np.concatenate([self.probabilities(views[0]) for views in fitted]))
        self._count(recordings)

    def nats(self, codes: Codes) -> Probabilities:
        """Negative log-likelihood `[F, Q]` of the codes `[F, Q]` of a recording."""
        nats: Probabilities = -np.log((self.probabilities(codes) * self.weights).sum(axis=2))
        return nats

    def probabilities(self, codes: Codes) -> Probabilities:
        """Probability `[F, Q, 5]` of each code by each count."""
        parts = [self._of_level(codes, level) for level in range(self.levels)]
        return np.stack(parts, axis=1)

    def _of_level(self, codes: Codes, level: int) -> Probabilities:
        own = codes[:, level]
        single = self.single[level][own]
        before = np.concatenate([[bos_token(self.codebook_size)], own[:-1]])
        coarser = _backed_off(self.coarser[level], codes[:, level - 1], own, single) if level else single
        parts = [single, coarser, _backed_off(self.previous[level], before, own, single)]
        for decay in CACHE_DECAYS:
            lately, total = _lately(own, decay)
            parts.append((lately + CACHE_TRUST * single) / (total + CACHE_TRUST))
        return np.stack(parts, axis=1)

    def _count(self, recordings: Sequence[Sequence[Codes]]) -> None:
        size = self.codebook_size
        counts = count(recordings, size, self.levels)
        single = counts.unigram[:, :size]
        self.single = (single + PRIOR_COUNT / size) / (single.sum(axis=1, keepdims=True) + PRIOR_COUNT)
        self.previous = counts.previous[:, :, :size]
        self.coarser = np.zeros((self.levels, size, size))
        for views in recordings:
            for codes in views:
                for level, (coarse, fine) in enumerate(pairwise(codes.T), start=1):
                    np.add.at(self.coarser[level], (coarse, fine), 1 / len(views))

    def _fit(self, probabilities: Probabilities) -> None:
        for _ in range(EM_ROUNDS):
            shares = probabilities * self.weights
            self.weights = (shares / shares.sum(axis=2, keepdims=True)).mean(axis=0)


def _backed_off(table: Probabilities, contexts: Codes, own: Codes, single: Probabilities) -> Probabilities:
    """Probabilities `[F]` of codes after contexts by counts `[contexts, V]`, smoothed into those without a context."""
    smoothed: Probabilities = (table[contexts, own] + TRUST * single) / (table[contexts].sum(axis=1) + TRUST)
    return smoothed


def _lately(own: Codes, decay: float) -> tuple[Probabilities, Probabilities]:
    """Decaying counts `[F]` of each code among the codes before it, and those of all codes."""
    counts: Probabilities = np.zeros(len(own))
    seen: dict[int, int] = {}  # when a code was met last
    for frame, code in enumerate(own.tolist()):
        if code in seen:
            counts[frame] = decay ** (frame - seen[code] - 1) * (1 + decay * counts[seen[code]])
        seen[code] = frame
    total: Probabilities = (1 - np.float64(decay) ** np.arange(len(own), dtype=np.float64)) / (1 - decay)
    return counts, total


def counting_bits_per_second(data: PriorData) -> float:
    """Held-out bits per second of a `CountingModel` of the training recordings; EOS is not counted."""
    model = CountingModel(data.train, data.train_groups, data.codes.codebook_size, data.codes.num_quantizers)
    nats = sum(float(model.nats(codes).sum()) for codes in data.held_out)
    seconds = int(frame_counts(data.held_out).sum()) / data.codes.frame_rate
    return nats / math.log(2) / seconds
