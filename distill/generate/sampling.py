"""Sampling codes from a prior: cached, batched, from a seed, with sounds that end by themselves or at a given length."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.codes.sequences import bos_token, eos_token
from distill.codes.store import Codes
from distill.errors import ArtifactError
from distill.prior.base import Prior
from distill.prior.decode.samplers import sampler_of

MOST_SMOOTHING = 0.99
FEW_ROWS = 4  # sounds drawn at once
KEPT = 0.5  # of the sounds at most are going on when those that have ended are left out


@dataclass(frozen=True)
class Sampling:
    """How to draw: `temperature` flattens or sharpens, `top_k` (0 = all) and `top_p` cut the unlikely tail; `guidance`
    above 1 exaggerates what a label changes (classifier-free guidance, Ho and Salimans 2022, eq. 6)."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0


@torch.inference_mode()
def sample_codes(
    prior: Prior,
    count: int,
    max_frames: int,
    seed: int,
    sampling: Sampling,
    natural_ending: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
    label: int = 0,
    prompt: Codes | None = None,
) -> list[Codes]:
    """Draw `count` sequences of codes `[F, Q]`, 1 ≤ F ≤ `max_frames`, with a label from 1 on or 0 for none.

    They go on from the codes `prompt` `[P, Q]`, if any, which the result leaves out. With `natural_ending` a sequence
    stops where the prior puts its end mark or, without a prompt, where the longest recording did that it learnt: what
    comes later it knows nothing of. Else each has `max_frames` frames. The result is a function of the
    arguments: sequences are drawn together, from one generator. Beyond its context the prior goes on from the last half
    of what it has seen.
    """
    size, smoothing, alive = prior.codebook_size, prior.smoothing.tolist(), torch.arange(count)
    begin = 0 if prompt is None else len(prompt)  # the first frame that is drawn
    if natural_ending and prompt is None and prior.longest >= 1:
        max_frames = min(max_frames, int(prior.longest))
    generator = torch.Generator(device="cpu").manual_seed(seed)
    guided = bool(label) and sampling.guidance != 1.0
    together = 2 * count if guided else count  # the second half without the label

    def drawn(logits: Tensor, level: int, frame: int) -> Tensor:
        logits = logits.float().cpu()
        if level > 0 or frame == begin or not natural_ending:
            logits = logits[:, :size]
        else:
            logits[:, bos_token(size)] = -torch.inf
        if guided:
            known, unknown = logits.chunk(2)
            logits = classifier_free_guidance(known, unknown, sampling.guidance)
        chosen = draw(undo_label_smoothing(logits, smoothing[level], size), sampling, generator)
        return chosen.repeat(2) if guided else chosen

    past = None if prompt is None else torch.from_numpy(prompt)[None].expand(together, -1, -1)
    labels = torch.full((together,), label)
    labels[count:] = 0
    sampler = sampler_of(prior, together, past, labels)
    frames: list[tuple[Tensor, Tensor]] = []  # which sounds, and their codes
    lengths = torch.full((count,), max_frames)
    with _onednn(together > FEW_ROWS):
        for frame in range(max_frames):
            frames.append((alive, sampler.next_frame(drawn)[: len(alive)].cpu()))
            if natural_ending:
                ended = frames[-1][1][:, 0] == eos_token(size)
                lengths[alive[ended]] = lengths[alive[ended]].clamp_max(frame)
                going = lengths[alive] == max_frames
                if not going.any():
                    break
                if int(going.sum()) <= KEPT * len(alive):
                    rows = going.nonzero()[:, 0]
                    sampler.keep(torch.cat([rows, rows + len(alive)]) if guided else rows)
                    alive = alive[rows]
            if progress is not None:
                done = int((lengths < max_frames).sum())
                progress(frame + 1, max_frames, f"frames, {done} of {count} sounds ended")
    codes = torch.zeros(count, len(frames), prior.num_quantizers, dtype=torch.int64)
    for frame, (numbers, some) in enumerate(frames):
        codes[numbers, frame] = some
    return [codes[number, : int(lengths[number])].numpy().copy() for number in range(count)]


@contextmanager
def _onednn(worth_it: bool) -> Iterator[None]:
    """Without oneDNN where it takes longer to begin than there is to compute."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = before and worth_it  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


def classifier_free_guidance(known: Tensor, unknown: Tensor, guidance: float) -> Tensor:
    """Logits `[B, V]` with a label, and the same without, to logits that lie `guidance` times as far from the latter."""
    known, unknown = known.log_softmax(dim=-1), unknown.log_softmax(dim=-1)
    return torch.where(known == -torch.inf, known, unknown + guidance * (known - unknown))


def undo_label_smoothing(logits: Tensor, smoothing: float, codebook_size: int) -> Tensor:
    """Logits `[B, V]` or `[B, V + 2]` to weights of what labels would be that were not smoothed.

    Training on labels of which a share is spread over all codes teaches (1 - spread) p + spread / V; that is what
    unknown recordings cost least with, but drawn from it every so manieth code would be any code.
    """
    shares = logits.softmax(dim=-1)
    if smoothing:
        # With all of the labels spread nothing would be left to draw from.
        codes = shares[:, :codebook_size]
        codes.copy_(
            nn.functional.softshrink(codes, min(smoothing, MOST_SMOOTHING) / codebook_size)
        )  # subtracted, at least 0
    return shares


def draw(shares: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """One token of each row of weights `[B, V]`. Raises ArtifactError where they are no numbers."""
    if (sampling.temperature, sampling.top_k, sampling.top_p) != (1.0, 0, 1.0):
        shares = _cut(shares.log() / sampling.temperature, sampling)
    heights = shares.cumsum(dim=1, dtype=torch.float64)
    # One random number a row: as many as there are weights would take as long as all else here.
    chosen = torch.rand(len(shares), 1, dtype=torch.float64, generator=generator).mul_(heights[:, -1:])
    if not math.isfinite(chosen.sum()):
        raise ArtifactError("expected a prior that weighs codes, found one that gives no numbers; train it again")
    return torch.searchsorted(heights, chosen, right=True)[:, 0]


def _cut(logits: Tensor, sampling: Sampling) -> Tensor:
    """Shares `[B, V]` of the tokens that `top_k` and `top_p` leave."""
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
