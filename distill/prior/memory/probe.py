"""Needle-in-a-haystack probes of a memory, with ablations of each mechanism, and thresholds for a working memory."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from distill.prior.memory.motifs import KEY_FRAMES, Frames, FrameSource, haystack, with_bos
from distill.prior.memory.network import (
    BLOCKS,
    RETRIEVAL,
    Mechanisms,
    MemoryFrameState,
    MemoryPrior,
    ablated,
)

DISTRACTORS = 100
# Number of haystacks, and of needles in each, spread from the first motif to the last
HAYSTACKS, QUESTIONS = 2, 16
RETRIEVED = 0.8  # minimum proportion of needles that a working memory retrieves
CONTROL = 0.2  # maximum of a control above chance: the sampling error of a probe with few needles

FIGURES = ("top1", "ranked", "in_situ")
NOTHING: Mechanisms = frozenset()
# Suffix of the metric's name, and the ablated mechanisms. `_retrieval_ablated` leaves only the memories of the blocks.
ABLATIONS = {
    "": NOTHING,
    "_ablated": BLOCKS | RETRIEVAL,
    "_blocks_ablated": BLOCKS,
    "_retrieval_ablated": RETRIEVAL,
}


def memory_line(metrics: Mapping[str, float]) -> str:
    """Summarise a memory's perplexity gain and probes from the metrics of a prior; "" without a memory."""
    if "probe/top1" not in metrics:
        return ""
    found = ", ".join(f"{name} {metrics[f'probe/{name}']:.2f}" for name in FIGURES)
    without, with_it = metrics["ablated/val_perplexity"], metrics["val_perplexity"]
    return f"memory: held-out perplexity {without:.2f} without it, {with_it:.2f} with it; probes retrieve {found}"


@torch.no_grad()
def probe_memory(
    model: MemoryPrior,
    source: FrameSource,
    fabric: Fabric,
    seed: int,
    haystacks: int = HAYSTACKS,
    questions: int = QUESTIONS,
) -> dict[str, float]:
    """Measure how well a prior in eval mode retrieves motifs (needles) hidden among frames of `source` (haystacks).

    The needles are beyond the reach of attention. Each metric averages over needles:

    - `in_situ`: cosine similarity of the retrieval weights and the one-hot first code of a motif's value
    - `top1`: whether that code is the most likely
    - `ranked`: whether the frame is the likeliest among the motifs' first value frames

    Controls: suffix `_absent` uses motifs that do not occur, `_ablated` disables the memory, and `chance` is the
    frequency of the commonest code. `_blocks_ablated` leaves only retrieval; `_retrieval_ablated` leaves only the
    memories of the blocks.
    """
    rng, every = np.random.default_rng(seed), []
    with fabric.autocast():
        for _ in range(haystacks):
            frames, motifs = haystack(rng, source, DISTRACTORS + 1, model.stack.reach)
            present, absent = np.split(motifs, 2)
            heard = {
                mechanisms: _hear(model, frames, mechanisms) for mechanisms in (NOTHING, BLOCKS)
            }
            asked = {kind: (present, mechanisms) for kind, mechanisms in ABLATIONS.items()}
            scores = []
            for of, mechanisms in [*asked.values(), (absent, NOTHING)]:
                with ablated(model, mechanisms):
                    scores.append(_ask(model, heard[mechanisms & BLOCKS], of, questions))
            every.append(torch.stack(scores))
    metrics = {
        f"{name}{kind}": value
        for kind, row in zip(
            (*ABLATIONS, "_absent"), torch.stack(every).mean(dim=0).tolist(), strict=True
        )
        for name, value in zip(FIGURES, row, strict=True)
    }
    return {**metrics, "chance": float(source.shares[0].max())}


def _hear(model: MemoryPrior, frames: Frames, mechanisms: Mechanisms) -> MemoryFrameState:
    """State after the frames of a haystack, with `mechanisms` ablated. Ablating retrieval would not change it."""
    state = model.start(torch.zeros(1, dtype=torch.int64, device=model.bias.device))
    assert isinstance(state, MemoryFrameState)
    with ablated(model, mechanisms):
        model.advance(with_bos(frames, model.codebook_size).to(model.bias.device), state, newest=1)
    return state


def _ask(model: MemoryPrior, heard: MemoryFrameState, motifs: Frames, questions: int) -> Tensor:
    """Metrics `FIGURES` `[3]`: append keys of some `motifs` to the haystack and rank the values of all motifs."""
    positions = np.linspace(0, len(motifs) - 1, questions).round().astype(int)
    others = np.stack([np.delete(np.arange(len(motifs)), position) for position in positions])
    queries = torch.from_numpy(motifs[positions]).to(model.bias.device)
    distractors = torch.from_numpy(motifs[others][:, :, KEY_FRAMES]).to(model.bias.device)
    candidates = torch.cat(
        [queries[:, None, KEY_FRAMES], distractors], dim=1
    )  # the correct candidate is first
    state = replace(heard)
    state.keep(torch.zeros(len(queries), dtype=torch.int64))
    model.advance(queries[:, :KEY_FRAMES], state, newest=1)
    log_probs = (
        model.logits(candidates, state).float().log_softmax(dim=3)
    )  # [queries, candidates, Q, V + 2]
    assert state.found is not None
    weights = model.retrieval.weights(state.found, candidates, slice(0, model.num_quantizers))[
        :, 0, 0
    ].float()
    code = candidates[:, 0, 0]
    top1 = log_probs[:, 0, 0].argmax(dim=1) == code
    ranked = log_probs.gather(3, candidates[..., None])[..., 0].sum(dim=2).argmax(dim=1) == 0
    cosine = nn.functional.cosine_similarity(
        weights, nn.functional.one_hot(code, weights.shape[1]).float(), dim=1
    )
    return torch.stack([top1.float(), ranked.float(), cosine], dim=1).mean(dim=0).cpu()


def shortcomings(probe: Mapping[str, float]) -> Iterator[str]:
    """Describe each metric of a probe that misses its threshold: needles not retrieved, or controls retrieved."""
    for name in FIGURES:
        if not probe[name] >= RETRIEVED:
            yield f"{name} {probe[name]:.2f}, expected at least {RETRIEVED:.2f}"
    chances = {"top1": probe["chance"], "ranked": 1 / (DISTRACTORS + 1), "in_situ": 0.0}
    for name, chance in chances.items():
        for control in (f"{name}_absent", f"{name}_ablated"):
            if not probe[control] <= chance + CONTROL:
                yield f"{control} {probe[control]:.2f}, expected at most {chance + CONTROL:.2f}"
