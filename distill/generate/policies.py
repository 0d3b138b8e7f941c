"""Policies of drawing codes: each turns the probabilities of a level's codes into others.

A policy is called with unnormalised probabilities `[B, V]` and the `Draw` that they are for. It returns finite ones that
are not negative, of which one at least is above 0 in each row. A new policy is a class here, and a place in the list of
whoever samples.

Shapes: B sounds that go on, F frames, L coarser levels of a frame, Q levels, V codes of a level.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.codec.layout import NOTE, FrameLayout
from distill.codes.sequences import eos_token

TONE_TOP_P = 0.6  # of tones at most: held notes gave way to rare others too often
FINEST_TEMPERATURE = 0.5  # factor of the finest level beside a tone, 1 of the coarsest: its draws make partials flicker
SURE = 0.9  # probability of the end from which a sound ends before its course: what follows spectra of ends is a hole
SOFT_STEPS = 10  # of loudness, 20 dB, below the loudest frame: only from there on
PULL = 3.0  # exponent of the pull to the recording's code at strength 0 and the mean distance of two codewords


class Draw(NamedTuple):
    """What is drawn: a level of a frame, counted from the first that is drawn, of sounds with the numbers `rows` `[B]`.

    `coarser` `[B, L]` are codes of the frame; `codes` `[count, F, Q]` are those of all sounds before the frame.
    """

    frame: int
    level: int
    rows: Tensor
    coarser: Tensor
    codes: Tensor


Policy = Callable[[Tensor, Draw], Tensor]


def first_possible(*choices: Tensor) -> Tensor:
    """Of several unnormalised probabilities `[B, V]` the first, in each row, that leaves something to draw from."""
    chosen = choices[0]
    for other in choices[1:]:
        chosen = torch.where(chosen.sum(dim=1, keepdim=True) > 0, chosen, other)
    return chosen


def only(codes: Tensor, shares: Tensor) -> Tensor:
    """Probabilities in place of `shares` `[B, V]` with which codes `[B]` alone are drawn."""
    return torch.zeros_like(shares).scatter_(1, codes[:, None], 1.0)


class CoolFineShapes:
    """Beside a tone shapes are drawn cooler, from the coarsest level, which says how spectra move, to the finest."""

    def __init__(self, layout: FrameLayout) -> None:
        shapes = layout.shapes if layout.tones else []
        exponents = torch.linspace(1.0, 1 / FINEST_TEMPERATURE, len(shapes)).tolist()
        self._exponents = dict(zip(shapes, exponents, strict=True))

    def __call__(self, shares: Tensor, step: Draw) -> Tensor:
        """See the module."""
        if step.level not in self._exponents:
            return shares
        has_tone = step.coarser[:, NOTE, None] > 0
        return torch.where(has_tone, shares.pow(self._exponents[step.level]), shares)


class Truncation:
    """Temperature, top-k (0: all) and top-p; of tones `TONE_TOP_P` at most."""

    def __init__(self, temperature: float, top_k: int, top_p: float, layout: FrameLayout) -> None:
        self._temperature, self._top_k, self._top_p, self._tones = temperature, top_k, top_p, layout.tones

    def __call__(self, shares: Tensor, step: Draw) -> Tensor:
        """See the module."""
        top_p = min(self._top_p, TONE_TOP_P) if step.level in self._tones else self._top_p
        if (self._temperature, self._top_k, top_p) == (1.0, 0, 1.0):
            return shares
        logits = shares.log() / self._temperature
        if 0 < self._top_k < logits.shape[1]:
            least = logits.topk(self._top_k).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if top_p < 1.0:
            ordered, order = logits.sort(descending=True)
            sorted_shares = ordered.softmax(dim=-1)
            # A code stays while those before it hold less than top_p, so that at least one always does.
            dropped = sorted_shares.cumsum(dim=-1) - sorted_shares >= top_p
            logits = logits.masked_fill(dropped.scatter(1, order, dropped), -torch.inf)
        return logits.softmax(dim=-1)


class KeptCodes:
    """Codes `[count, F, Q]` that are kept, -1 where to draw."""

    def __init__(self, codes: Tensor) -> None:
        self._codes = codes

    def __call__(self, shares: Tensor, step: Draw) -> Tensor:
        """See the module."""
        kept = self._codes[step.rows, step.frame, step.level]
        return torch.where(kept[:, None] < 0, shares, only(kept.clamp_min(0), shares))


class PullTo:
    """Codes are drawn nearer to those of a recording `[F, Q]`, by the squared distance of their codewords.

    `codebooks` are `[V, D]` of each level. The unit of distance is the mean squared distance of two codewords of the
    level; `strength`, in [0, 1), is how far sounds may be from the recording.
    """

    def __init__(self, codebooks: Sequence[Tensor], codes: Tensor, strength: float) -> None:
        self._codebooks, self._codes, self._exponent = codebooks, codes, PULL * (1 - strength)
        spreads = [2 * (book - book.mean(dim=0)).square().sum(dim=1).mean() for book in codebooks]
        self._spreads = [spread.clamp_min(1e-12) for spread in spreads]

    def __call__(self, shares: Tensor, step: Draw) -> Tensor:
        """See the module."""
        codebook = self._codebooks[step.level]
        distances = (codebook - codebook[self._codes[step.frame, step.level]]).square().sum(dim=1)
        weights = (-self._exponent * distances / self._spreads[step.level]).exp()
        with_eos = nn.functional.pad(weights, (0, shares.shape[1] - len(weights)), value=1.0)
        return first_possible(shares * with_eos, shares)


class FollowCourses:
    """Loudness follows courses `[count, F]` of tokens, EOS where they have ended.

    A sound ends earlier where it is soft and the prior is sure of the end.
    """

    def __init__(self, courses: Tensor, codebook_size: int) -> None:
        self._courses, self._eos = courses, eos_token(codebook_size)

    def __call__(self, shares: Tensor, step: Draw) -> Tensor:
        """See the module."""
        if step.level:
            return shares
        tokens = self._courses[step.rows, step.frame]
        if step.frame and shares.shape[1] > self._eos:
            so_far = step.codes[step.rows, : step.frame, 0]
            is_soft = so_far[:, -1] <= so_far.amax(dim=1) - SOFT_STEPS
            is_sure = shares[:, self._eos] > SURE * shares.sum(dim=1)
            tokens = tokens.masked_fill(is_soft & is_sure, self._eos)
        return only(tokens, shares)
