"""Policies of drawing codes: each turns the probabilities of a level's codes into others.

A policy is called with unnormalised probabilities `[B, V]` and the `Draw` that they are for. It returns finite ones that
are not negative, of which one at least is above 0 in each row. A new policy is a function here that makes it, and its
place in `chain`; one that needs what a request holds has its place in the request's list, in `sounds.py`.

Shapes: B sounds that go on, F frames, L coarser levels of a frame, Q levels, V codes of a level.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from distill.codec.layout import ATOM, NOTE, SHAPE, TUNING, FrameLayout
from distill.codes.sequences import eos_token

TONE_TOP_P = {NOTE: 0.6, TUNING: 0.6, ATOM: 0.9}  # of tones at most: held notes gave way to rare others too often
FINEST_TEMPERATURE = 0.5  # factor of the finest level beside a tone, 1 of the coarsest: its draws make partials flicker
SURE = 0.9  # probability of the end from which a sound ends before its course: what follows spectra of ends is a hole
SOFT_STEPS = 10  # of loudness, 20 dB, below the loudest frame: only from there on
NEAR_DB = 4.0  # the deviation from what a sum of codewords should be
PULL = 3.0  # exponent of the pull to the recording's code at strength 0 and the mean distance of two codewords


@dataclass(frozen=True)
class Sampling:
    """Sampling settings: temperature, top-k (0 = all), top-p (nucleus), and classifier-free guidance (1 = none)."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0


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


def chain(sampling: Sampling, layout: FrameLayout, requested: Sequence[Policy]) -> list[Policy]:
    """The policies of a draw, in turn: those of all draws around those of a request, of which the last word counts."""
    truncate = truncation(sampling.temperature, sampling.top_k, sampling.top_p)
    return [cool_fine_shapes(layout), *requested, truncate]


def first_possible(*choices: Tensor) -> Tensor:
    """Of several unnormalised probabilities `[B, V]` the first, in each row, that leaves something to draw from."""
    chosen = choices[0]
    for other in choices[1:]:
        chosen = torch.where(chosen.sum(dim=1, keepdim=True) > 0, chosen, other)
    return chosen


def only(codes: Tensor, shares: Tensor) -> Tensor:
    """Probabilities in place of `shares` `[B, V]` with which codes `[B]` alone are drawn."""
    return torch.zeros_like(shares).scatter_(1, codes[:, None], 1.0)


def cool_fine_shapes(layout: FrameLayout) -> Policy:
    """Beside a tone shapes are drawn cooler, from the coarsest level, which says how spectra move, to the finest."""
    exponents = np.linspace(1.0, 1 / FINEST_TEMPERATURE, len(layout.shapes)).tolist()
    exponent_of = dict(zip(layout.shapes, exponents, strict=True))

    def cool(shares: Tensor, step: Draw) -> Tensor:
        if step.level not in exponent_of:
            return shares
        has_tone = step.coarser[:, NOTE, None] > 0
        return torch.where(has_tone, shares.pow(exponent_of[step.level]), shares)

    return cool


def truncation(temperature: float, top_k: int, top_p: float) -> Policy:
    """Temperature, top-k (0: all) and top-p; of tones `TONE_TOP_P` at most."""

    def truncate(shares: Tensor, step: Draw) -> Tensor:
        most = min(top_p, TONE_TOP_P.get(step.level, top_p))
        if (temperature, top_k, most) == (1.0, 0, 1.0):
            return shares
        logits = shares.log() / temperature
        if 0 < top_k < logits.shape[1]:
            least = logits.topk(top_k).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if most < 1.0:
            ordered, order = logits.sort(descending=True)
            sorted_shares = ordered.softmax(dim=-1)
            # A code stays while those before it hold less than top_p, so that at least one always does.
            dropped = sorted_shares.cumsum(dim=-1) - sorted_shares >= most
            logits = logits.masked_fill(dropped.scatter(1, order, dropped), -torch.inf)
        return logits.softmax(dim=-1)

    return truncate


def keep(codes: Tensor) -> Policy:
    """Codes `[count, F, Q]` are kept, -1 where to draw."""

    def kept(shares: Tensor, step: Draw) -> Tensor:
        own = codes[step.rows, step.frame, step.level]
        return torch.where(own[:, None] < 0, shares, only(own.clamp_min(0), shares))

    return kept


def pull_to(codebooks: Sequence[Tensor], codes: Tensor, strength: float) -> Policy:
    """Codes are drawn nearer to those of a recording `[F, Q]`, by the squared distance of their codewords.

    `codebooks` are `[V, D]` of each level. The unit of distance is the mean squared distance of two codewords of the
    level; `strength`, in [0, 1), is how far sounds may be from the recording.
    """
    exponent = PULL * (1 - strength)
    spreads = [2 * (book - book.mean(dim=0)).square().sum(dim=1).mean() for book in codebooks]

    def pull(shares: Tensor, step: Draw) -> Tensor:
        codebook = codebooks[step.level]
        distances = (codebook - codebook[codes[step.frame, step.level]]).square().sum(dim=1)
        weights = (-exponent * distances / spreads[step.level].clamp_min(1e-12)).exp()
        with_eos = nn.functional.pad(weights, (0, shares.shape[1] - len(weights)), value=1.0)
        return first_possible(shares * with_eos, shares)

    return pull


def near_to(words: Sequence[Tensor], wanted: Tensor, deviation: float = NEAR_DB) -> Policy:
    """Codewords are drawn nearer to what their sum should be, `wanted` `[count, F, M]` in dB, NaN for any; later frames too.

    `words` are what the codewords of each shape level add to it, `[V, M]`; `deviation` is that of the sum.
    """

    def near(shares: Tensor, step: Draw) -> Tensor:
        if step.level < SHAPE or step.frame >= wanted.shape[1]:
            return shares
        *coarser, own = words[: 1 + step.level - SHAPE]
        left = wanted[step.rows, step.frame]
        for word, codes in zip(coarser, step.coarser[:, SHAPE:].unbind(dim=1), strict=True):
            left = left - word[codes]
        apart = (own - left[:, None]).square().mean(dim=2)  # [B, V]
        weights = (-(apart - apart.amin(dim=1, keepdim=True)) / (2 * deviation**2)).exp()
        weighted = (shares * weights).nan_to_num()
        return torch.where(left[:, :1].isfinite(), first_possible(weighted, shares), shares)

    return near


def follow(courses: Tensor, codebook_size: int, in_time: Sequence[bool]) -> Policy:
    """Loudness follows courses `[count, F]` of tokens, EOS where they have ended.

    A sound ends earlier where it is soft and the prior is sure of the end, unless it is `in_time`.
    """
    may_end = ~torch.tensor(in_time)
    eos = eos_token(codebook_size)

    def of_course(shares: Tensor, step: Draw) -> Tensor:
        if step.level:
            return shares
        tokens = courses[step.rows, step.frame]
        if step.frame and shares.shape[1] > eos:
            so_far = step.codes[step.rows, : step.frame, 0]
            is_soft = so_far[:, -1] <= so_far.amax(dim=1) - SOFT_STEPS
            is_sure = shares[:, eos] > SURE * shares.sum(dim=1)
            tokens = tokens.masked_fill(is_soft & is_sure & may_end[step.rows], eos)
        return only(tokens, shares)

    return of_course
