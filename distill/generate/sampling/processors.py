"""Logits processors (`LogitsProcessor`): functions that change the probabilities of the next code.

A processor gets unnormalised probabilities `[B, V]` and the `SamplingStep` step. It returns finite, non-negative values with
at least one above 0 in each row. Define a new processor here and add it to `chain`; if it needs a request's fields, add
it to the request's list in `sounds.py`.

Shapes: B active sounds, F frames, L coarser levels of a frame, Q levels, V codebook size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from distill.codec.layout import ATOM, NOTE, SHAPE, TUNING, FrameLayout
from distill.codes.sequences import eos_token

TONE_TOP_P = {
    NOTE: 0.6,
    TUNING: 0.6,
    ATOM: 0.9,
}  # maximum top-p of tone levels: more lets held notes break off
FINEST_TEMPERATURE = 0.5  # of the finest spectral level in a frame with a tone, 1 for the coarsest: more makes flicker
NEAR_DB = 4.0  # standard deviation of a sum of codewords from its target
PULL = 3.0  # exponent of codeword guidance at strength 0 and the mean distance of two codewords


@dataclass(frozen=True)
class Sampling:
    """Sampling settings: temperature, top-k (0 = all), top-p (nucleus), and classifier-free guidance (1 = none)."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0


class SamplingStep(NamedTuple):
    """Sampling step: one level of one frame, counted from the first sampled frame, for active sounds `rows` `[B]`.

    `coarser` `[B, L]` are the frame's codes so far; `codes` `[count, F, Q]` hold all sounds, filled up to this frame.
    """

    frame: int
    level: int
    rows: Tensor
    coarser: Tensor
    codes: Tensor


LogitsProcessor = Callable[[Tensor, SamplingStep], Tensor]


def chain(
    sampling: Sampling, layout: FrameLayout, requested: Sequence[LogitsProcessor]
) -> list[LogitsProcessor]:
    """Processors in order: defaults wrap the request's processors; a later processor overrides an earlier one."""
    truncate = truncation(sampling.temperature, sampling.top_k, sampling.top_p)
    return [cool_fine_shapes(layout), *requested, truncate]


def first_possible(*choices: Tensor) -> Tensor:
    """For each row, the first of several unnormalised probabilities `[B, V]` that is not all 0."""
    chosen = choices[0]
    for other in choices[1:]:
        chosen = torch.where(chosen.sum(dim=1, keepdim=True) > 0, chosen, other)
    return chosen


def only(codes: Tensor, shares: Tensor) -> Tensor:
    """One-hot probabilities of `codes` `[B]`, shaped like `shares` `[B, V]`."""
    return torch.zeros_like(shares).scatter_(1, codes[:, None], 1.0)


def cool_fine_shapes(layout: FrameLayout) -> LogitsProcessor:
    """In frames with a tone, lower the temperature of finer spectral levels; the coarsest decides how spectra move."""
    exponents = np.linspace(1.0, 1 / FINEST_TEMPERATURE, len(layout.spectral_levels)).tolist()
    exponent_of = dict(zip(layout.spectral_levels, exponents, strict=True))

    def cool(shares: Tensor, step: SamplingStep) -> Tensor:
        if step.level not in exponent_of:
            return shares
        has_tone = step.coarser[:, NOTE, None] > 0
        return torch.where(has_tone, shares.pow(exponent_of[step.level]), shares)

    return cool


def truncation(temperature: float, top_k: int, top_p: float) -> LogitsProcessor:
    """Temperature, top-k (0: all) and top-p, for tone levels at most `TONE_TOP_P`."""

    def truncate(shares: Tensor, step: SamplingStep) -> Tensor:
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
            # A code stays if the likelier codes sum to less than top_p, so at least one code stays.
            dropped = sorted_shares.cumsum(dim=-1) - sorted_shares >= most
            logits = logits.masked_fill(dropped.scatter(1, order, dropped), -torch.inf)
        return logits.softmax(dim=-1)

    return truncate


def keep(codes: Tensor) -> LogitsProcessor:
    """Keep codes `[count, F, Q]`, and sample where they are -1."""

    def kept(shares: Tensor, step: SamplingStep) -> Tensor:
        own = codes[step.rows, step.frame, step.level]
        return torch.where(own[:, None] < 0, shares, only(own.clamp_min(0), shares))

    return kept


def pull_to(codebooks: Sequence[Tensor], codes: Tensor, strength: float) -> LogitsProcessor:
    """Codeword guidance: weigh codes by the squared distance of their codewords to a recording's codewords.

    `codebooks` holds `[V, D]` for each level, `codes` are `[F, Q]`. Distances are relative to the mean squared distance
    of two codewords of the level. `strength`, in [0, 1), is how far sounds may depart from the recording.
    """
    exponent = PULL * (1 - strength)
    spreads = [2 * (book - book.mean(dim=0)).square().sum(dim=1).mean() for book in codebooks]

    def pull(shares: Tensor, step: SamplingStep) -> Tensor:
        codebook = codebooks[step.level]
        distances = (codebook - codebook[codes[step.frame, step.level]]).square().sum(dim=1)
        weights = (-exponent * distances / spreads[step.level].clamp_min(1e-12)).exp()
        with_eos = nn.functional.pad(weights, (0, shares.shape[1] - len(weights)), value=1.0)
        return first_possible(shares * with_eos, shares)

    return pull


def near_to(words: Sequence[Tensor], wanted: Tensor, deviation: float = NEAR_DB) -> LogitsProcessor:
    """Codeword guidance to target sums `wanted` `[count, F, M]` in dB; free where NaN, and after the last frame.

    `words` holds the contributions `[V, M]` of each spectral level's codewords; `deviation` is the standard deviation
    of the sum from its target.
    """

    def near(shares: Tensor, step: SamplingStep) -> Tensor:
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


def follow(courses: Tensor, codebook_size: int, in_time: Sequence[bool]) -> LogitsProcessor:
    """Set the loudness to contours `[count, F]` of tokens, with EOS after the end.

    A sound ends earlier once it is soft and the prior is sure of the end, unless it is `in_time`.
    """
    soft_steps = 10  # loudness steps (20 dB) below the loudest frame that an early end requires
    sure = 0.9  # EOS probability that ends a sound before its loudness contour: going on would leave a hole
    may_end = ~torch.tensor(in_time)
    eos = eos_token(codebook_size)

    def of_course(shares: Tensor, step: SamplingStep) -> Tensor:
        if step.level:
            return shares
        tokens = courses[step.rows, step.frame]
        if step.frame and shares.shape[1] > eos:
            so_far = step.codes[step.rows, : step.frame, 0]
            is_soft = so_far[:, -1] <= so_far.amax(dim=1) - soft_steps
            is_sure = shares[:, eos] > sure * shares.sum(dim=1)
            tokens = tokens.masked_fill(is_soft & is_sure & may_end[step.rows], eos)
        return only(tokens, shares)

    return of_course
