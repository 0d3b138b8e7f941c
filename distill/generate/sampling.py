"""Sampling codes from a prior: cached, batched, from a seed, up to EOS or a given length."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.codec.layout import NOTE
from distill.codes.sequences import eos_token
from distill.codes.store import Codes
from distill.errors import ArtifactError
from distill.prior.base import Prior, Sampler
from distill.prior.frame import FramePrior
from distill.progress import Progress

MOST_SMOOTHING = 0.99  # with all of the probability smoothed nothing would be left to draw from
TONE_TOP_P = 0.6  # of tones at most: held notes gave way to rare others too often
FINEST_TEMPERATURE = 0.5  # factor of the finest level beside a tone, 1 of the coarsest: its draws make partials flicker
SURE = 0.9  # probability of the end from which a sound ends before its course: what follows spectra of ends is a hole
SOFT_STEPS = 10  # of loudness, 20 dB, below the loudest frame: only from there on
KEPT = 0.5  # share of unfinished rows up to which finished ones leave the batch


@dataclass(frozen=True)
class Sampling:
    """Sampling settings: temperature, top-k (0 = all), top-p (nucleus), and classifier-free guidance (1 = none)."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0


ToneWeights = Callable[[Tensor, Tensor, Tensor, int, Tensor], Tensor]
"""What brings sequences to notes, see `NoteWeights`: new probabilities `[B, V]` of a note, tuning or atom from old ones,
the coarser codes `[B, L]` of the frame, the sequences' rows `[B]`, the frame's index, and which have had a tone `[B]`."""


class FixedCodes(NamedTuple):
    """Codes that sampling keeps: `codes` `[B, F, Q]`, -1 where to draw.

    `weights(level, frame)`, if any, gives weights of the level's codes, by which the probabilities of drawn codes are
    multiplied.
    """

    codes: Tensor
    weights: Callable[[int, int], Tensor] | None = None


@torch.inference_mode()
def sample_codes(
    prior: Prior,
    count: int,
    max_frames: int,
    seed: int,
    sampling: Sampling,
    natural_ending: bool = True,
    progress: Progress | None = None,
    label: int = 0,
    prompt: Codes | None = None,
    kept: FixedCodes | None = None,
    notes: ToneWeights | None = None,
) -> list[Codes]:
    """Sample `count` sequences of codes `[F, Q]`, 1 ≤ F ≤ `max_frames`, with a label from 1 on or 0 for none.

    They continue the codes `prompt` `[P, Q]`, if any, which the result leaves out. With `natural_ending` a sequence
    stops at EOS or, without a prompt, after `prior.most_frames`: later positions are untrained. Else each has
    `max_frames` frames; with that and no prompt `kept` may fix codes. Without `kept` the loudness of a prior with
    `courses` is one of these, but for a given length after a prompt, and up to where the prior is sure of the end. Every
    code costs a random number, fixed or not. `notes` brings each sequence to a note. Equal arguments give equal codes:
    all sequences share one generator. Beyond its context the prior continues from the last half of its window. Raises
    ArtifactError where the prior gives NaN or infinite values.
    """
    assert kept is None or (not natural_ending and prompt is None)
    sizes, smoothing, active = prior.shape.codebook_sizes, prior.smoothing.tolist(), torch.arange(count)
    generator = torch.Generator(device="cpu").manual_seed(seed)
    start = 0 if prompt is None else len(prompt)  # the first frame that is drawn
    if natural_ending and prompt is None:
        max_frames = min(max_frames, prior.most_frames or max_frames)
    known = prior.courses if isinstance(prior, FramePrior) and kept is None else None
    if known is not None and (natural_ending or prompt is None):
        courses = known.draw(count, max_frames, label, generator, natural_ending, prompt)
        kept = FixedCodes(nn.functional.pad(courses[:, :, None], (0, len(sizes) - 1), value=-1))
    guided = bool(label) and sampling.guidance != 1.0
    batch = 2 * count if guided else count  # the second half without the label
    tones = prior.shape.layout.tones
    of_levels = [sampling] * len(sizes)
    if tones:
        of_loudness = replace(sampling, guidance=1.0)  # labels tell kinds of sound, and guided ones end at odd times
        of_tones = replace(sampling, top_p=min(sampling.top_p, TONE_TOP_P))
        of_levels = [of_loudness, *[of_tones] * len(tones), *of_levels[tones.stop :]]
    # From the coarsest level of spectra, which says how they move, to the finest.
    coolness = torch.linspace(1.0, 1 / FINEST_TEMPERATURE, len(sizes) - tones.stop).tolist()

    def drawn(logits: Tensor, coarser: Tensor, frame: int) -> Tensor:
        logits, level = logits.float().cpu(), coarser.shape[1]
        if level > 0 or frame == start or not natural_ending:
            logits = logits[:, : sizes[level]]
        if guided:
            conditional, unconditional = logits.chunk(2)
            logits = classifier_free_guidance(conditional, unconditional, of_levels[level].guidance)
        shares = undo_label_smoothing(logits, smoothing[level], sizes[level])
        if notes is not None and level in tones:
            begun = (codes[active, :frame, NOTE] > 0).any(dim=1)
            shares = notes(shares, coarser[: len(active)].cpu(), active, frame, begun)
        if tones and level >= tones.stop:
            has_tone = coarser[: len(active), NOTE, None].cpu() > 0
            shares = torch.where(has_tone, shares.pow(coolness[level - tones.stop]), shares)
        if kept is not None and kept.weights is not None:
            weighted = shares * kept.weights(level, frame)
            # Weights that leave nothing to draw from do not count.
            shares = torch.where(weighted.sum(dim=1, keepdim=True) > 0, weighted, shares)
        chosen = draw(shares, of_levels[level], generator)
        if kept is not None:
            fixed = kept.codes[active, frame - start, level]
            if level == 0 and natural_ending and frame > start:
                eos, so_far = eos_token(prior.codebook_size), codes[active, : frame - start, 0]
                is_soft = so_far[:, -1] <= so_far.amax(dim=1) - SOFT_STEPS
                fixed = fixed.masked_fill(is_soft & (shares[:, eos] > SURE * shares.sum(dim=1)), eos)
            chosen = torch.where(fixed < 0, chosen, fixed)
        return chosen.repeat(2) if guided else chosen

    past = None if prompt is None else torch.from_numpy(prompt)[None].expand(batch, -1, -1)
    labels = torch.full((batch,), label)
    labels[count:] = 0
    sampler = Sampler(prior, batch, past, labels)
    codes = torch.zeros(count, max_frames, prior.num_quantizers, dtype=torch.int64)
    lengths = torch.full((count,), max_frames)
    with torch.backends.mkldnn.flags(False, None, None, None):  # oneDNN costs more than it saves here
        for frame in range(max_frames):
            codes[active, frame] = found = sampler.next_frame(drawn)[: len(active)].cpu()
            if natural_ending:
                ended = active[found[:, 0] == eos_token(prior.codebook_size)]
                lengths[ended] = lengths[ended].clamp_max(frame)
                unfinished = lengths[active] == max_frames
                if not unfinished.any():
                    break
                if int(unfinished.sum()) <= KEPT * len(active):
                    rows = unfinished.nonzero()[:, 0]
                    sampler.keep(torch.cat([rows, rows + len(active)]) if guided else rows)
                    active = active[rows]
            if progress is not None:
                done = int((lengths < max_frames).sum())
                progress(frame + 1, max_frames, f"frames, {done} of {count} sounds ended")
    return [codes[index, : int(lengths[index])].numpy().copy() for index in range(count)]


def classifier_free_guidance(conditional: Tensor, unconditional: Tensor, guidance: float) -> Tensor:
    """Guided logits `[B, V]`, extrapolated from unconditional to conditional ones (Ho and Salimans 2022, eq. 6)."""
    conditional, unconditional = conditional.log_softmax(dim=-1), unconditional.log_softmax(dim=-1)
    guided = unconditional + guidance * (conditional - unconditional)
    return torch.where(conditional == -torch.inf, conditional, guided)


def undo_label_smoothing(logits: Tensor, smoothing: float, codebook_size: int) -> Tensor:
    """Undo label smoothing: logits `[B, ...]` of tokens to unnormalised probabilities of unsmoothed labels.

    The first `codebook_size` tokens are the level's codes. Training on smoothed labels teaches (1 - smoothing) p +
    smoothing / codebook_size. That gives the lowest held-out loss, but a share `smoothing` of codes sampled from it
    would be uniform noise.
    """
    shares = logits.softmax(dim=-1)
    if smoothing:
        codes = shares[:, :codebook_size]
        # Soft shrinkage subtracts and clips at 0.
        codes.copy_(nn.functional.softshrink(codes, min(smoothing, MOST_SMOOTHING) / codebook_size))
    return shares


def draw(shares: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """Sample one token from each row of unnormalised probabilities `[B, V]`: `[B]`.

    Raises ArtifactError for NaN or infinite values.
    """
    if (sampling.temperature, sampling.top_k, sampling.top_p) != (1.0, 0, 1.0):
        shares = _cut(shares.log() / sampling.temperature, sampling)
    cumulative = shares.cumsum(dim=1, dtype=torch.float64)
    # Inverse transform sampling: one random number a row, where the Gumbel trick takes one for every token.
    chosen = torch.rand(len(shares), 1, dtype=torch.float64, generator=generator).mul_(cumulative[:, -1:])
    if not math.isfinite(chosen.sum()):
        raise ArtifactError("expected finite logits of the prior, found NaN or infinite values; train it again")
    return torch.searchsorted(cumulative, chosen, right=True)[:, 0]


def _cut(logits: Tensor, sampling: Sampling) -> Tensor:
    """Top-k and top-p filtering: logits `[B, V]` to probabilities."""
    if 0 < sampling.top_k < logits.shape[1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1.0:
        ordered, order = logits.sort(descending=True)
        shares = ordered.softmax(dim=-1)
        # A token stays while those before it hold less than top_p, so that at least one always does.
        dropped = shares.cumsum(dim=-1) - shares >= sampling.top_p
        logits = logits.masked_fill(dropped.scatter(1, order, dropped), -torch.inf)
    return logits.softmax(dim=-1)
