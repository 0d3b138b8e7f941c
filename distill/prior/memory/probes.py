"""Needle-in-a-haystack probes of a memory, with the needle left out and the memory ablated as controls.

Three probes: what the memory's code retrieves of random keys and values (mechanism), which motifs a trained network
retrieves (in situ), and what it predicts next (behaviour). Without controls a probe proves nothing: a memory that holds
no values "finds" needles that were never there.
"""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from distill.codes.sequences import bos_token
from distill.prior.memory.associative import feature_size
from distill.prior.memory.block import DEGREE, ValueMemory
from distill.prior.memory.haystacks import KEY_FRAMES, FrameSource, Haystack, haystack
from distill.prior.memory.network import MemoryPrior, ablated
from distill.seeds import Stream, derive_seed

DISTRACTORS = 100
MECHANISM_TRIALS, VALUE_SIZE = 32, 64
HAYSTACKS, QUESTIONS = 2, 16  # needles in each haystack, from the first motif to the last
RETRIEVED, ABSENT, CHANCE_MARGIN = 0.8, 0.2, 0.05  # bounds of a working memory and of its controls


@dataclass(frozen=True)
class RetrievalScores:
    """Retrieval of needles in behaviour and in situ.

    `top1` is the share of needles whose first code is the most likely, `ranked` the share ranked first among all
    motifs, `cosine` the mean cosine of the retrieval weights and the one-hot first code.
    """

    top1: float
    ranked: float
    cosine: float

    @classmethod
    def mean(cls, every: Iterable["RetrievalScores"]) -> "RetrievalScores":
        """Mean over haystacks."""
        rows = [(pair.top1, pair.ranked, pair.cosine) for pair in every]
        return cls(*(sum(part) / len(rows) for part in zip(*rows, strict=True)))


@dataclass(frozen=True)
class Probes:
    """Results of all probes and their controls.

    Cosines and shares with the needle, without it (`absent`), with the memory `ablated`, and against another needle's
    value (`shuffled`). `chance` is the frequency of the commonest code, the best prediction without a memory.
    """

    mechanism: float
    mechanism_absent: float
    mechanism_shuffled: float
    in_situ: float
    in_situ_absent: float
    top1: float
    top1_ablated: float
    top1_absent: float
    ranked: float
    ranked_ablated: float
    ranked_absent: float
    chance: float

    @property
    def passed(self) -> bool:
        """Whether needles are retrieved and the controls stay at chance."""
        return (
            min(self.mechanism, self.in_situ, self.top1, self.ranked) >= RETRIEVED
            and max(self.mechanism_absent, self.mechanism_shuffled, self.in_situ_absent) < ABSENT
            and max(self.top1_absent, self.ranked_absent) < ABSENT
            and self.top1_ablated <= self.chance + CHANCE_MARGIN
            and self.ranked_ablated <= 1 / (DISTRACTORS + 1) + CHANCE_MARGIN
        )

    @property
    def line(self) -> dict[str, float]:
        """Results under their metric names."""
        return {f"probe/{name}": value for name, value in asdict(self).items()}

    @classmethod
    def worst(cls, every: Sequence["Probes"]) -> "Probes":
        """The worst of each result over probes, but the mean with the memory ablated.

        Ablated results are draws from chance, of which the worst lies above chance.
        """
        found = {}
        for name in (part.name for part in fields(cls)):
            values = [getattr(probes, name) for probes in every]
            if name.endswith("ablated"):
                found[name] = statistics.mean(values)
            else:
                found[name] = max(values) if name.endswith(("absent", "shuffled")) else min(values)
        return cls(**found)


def probe_memory(
    model: MemoryPrior, source: FrameSource, fabric: Fabric, seed: int, haystacks: int = HAYSTACKS, distance: int = 0
) -> Probes:
    """Probe a prior with haystacks of frames of `source`, at least `distance` of them between needles and queries.

    Restores the model's mode and all random states.
    """
    rng = np.random.default_rng(seed)
    with _eval_mode(model), fabric.autocast():
        distance = max(distance, model.memories.reach)
        stacks = [haystack(rng, source, DISTRACTORS + 1, distance) for _ in range(haystacks)]
        scores = [RetrievalScores.mean(pair) for pair in zip(*(_query(model, stack) for stack in stacks), strict=True)]
        with ablated(model):
            ablated_scores = RetrievalScores.mean([_query(model, stack)[0] for stack in stacks])
        mechanism = mechanism_probe(model, seed)
    needles, absent = scores
    return Probes(
        *mechanism,
        needles.cosine,
        absent.cosine,
        needles.top1,
        ablated_scores.top1,
        absent.top1,
        needles.ranked,
        ablated_scores.ranked,
        absent.ranked,
        float(source.shares[0].max()),
    )


def worst_probes(
    model: MemoryPrior, source: FrameSource, fabric: Fabric, seed: int, seeds: int, distance: int = 0
) -> Probes:
    """`Probes.worst` of `probe_memory` with `seeds` seeds derived from `seed` and twice the haystacks."""
    made = [derive_seed(seed, Stream.MEMORY_PROBE_SEEDS, one_seed) for one_seed in range(seeds)]
    return Probes.worst([probe_memory(model, source, fabric, one_seed, 2 * HAYSTACKS, distance) for one_seed in made])


def mechanism_probe(model: MemoryPrior, seed: int) -> tuple[float, float, float]:
    """Write random unit keys and values to a `ValueMemory` and read them.

    Returns mean cosines: of what the needle's key reads and its value; the same without the needle; and of the former
    and another needle's value.
    """
    generator = torch.Generator().manual_seed(seed)
    size, trials = model.memories.size, MECHANISM_TRIALS
    keys, values = (
        nn.functional.normalize(torch.randn(trials, 1, DISTRACTORS + 1, part, generator=generator), dim=3)
        for part in (size.key_size, VALUE_SIZE)
    )
    reads = []
    with torch.autocast("cpu", enabled=False):
        for left_out in (0, 1):
            memory = ValueMemory(torch.zeros(trials, 1, feature_size(size.key_size, DEGREE), VALUE_SIZE), 1)
            memory.run(keys[:, :, left_out:], keys[:, :, left_out:], values[:, :, left_out:], size.chunk_size)
            reads.append(memory.read(keys[:, :, 0]))
    cosine, needles = nn.functional.cosine_similarity, values[:, :, 0]
    found, absent_read = reads
    compared = ((found, needles), (absent_read, needles), (found, needles.roll(1, 0)))
    first, second, third = (float(cosine(read, value, dim=2).mean()) for read, value in compared)
    return first, second, third


def _query(model: MemoryPrior, stack: Haystack) -> tuple[RetrievalScores, RetrievalScores]:
    """Query a haystack with the keys of some of its needles, and with those of absent motifs."""
    positions = np.linspace(0, len(stack.motifs) - 1, QUESTIONS).round().astype(int)
    frames = torch.from_numpy(stack.frames)[None]
    inputs = torch.cat([torch.full_like(frames[:, :1], bos_token(model.codebook_size)), frames], dim=1)
    inputs = inputs.to(model.bias.device)
    with torch.no_grad():
        state = model.start(1)
        model.advance(inputs, state, newest=1)
        state = state.expanded(2 * QUESTIONS)
        queries = torch.from_numpy(np.concatenate([stack.motifs[positions], stack.absent[positions]]))
        others = np.stack([np.delete(np.arange(len(stack.motifs)), position)[:DISTRACTORS] for position in positions])
        candidates = torch.from_numpy(stack.motifs[np.concatenate([others, others])][:, :, KEY_FRAMES])
        candidates = torch.cat([queries[:, None, KEY_FRAMES], candidates], dim=1)  # the right one is first
        queries, candidates = queries.to(inputs.device), candidates.to(inputs.device)
        model.advance(queries[:, :KEY_FRAMES], state, newest=1)
        logits, weights = model.logits(candidates, state), model.retrieval.weights(state.found, candidates)
    log_probs = logits.float().log_softmax(dim=3).cpu()  # [queries, candidates, Q, V + 2]
    candidates = candidates.cpu()
    top1 = (log_probs[:, 0, 0].argmax(dim=1) == candidates[:, 0, 0]).float()
    ranked = (log_probs.gather(3, candidates[..., None])[..., 0].sum(dim=2).argmax(dim=1) == 0).float()
    first_weights = weights[:, 0, 0].float().cpu()
    code = nn.functional.one_hot(candidates[:, 0, 0], first_weights.shape[1]).float()
    cosine = nn.functional.cosine_similarity(first_weights, code, dim=1)
    means = torch.stack([top1, ranked, cosine], dim=1).view(2, QUESTIONS, 3).mean(dim=1)
    needles, absent = (RetrievalScores(*row) for row in means.tolist())
    return needles, absent


@contextmanager
def _eval_mode(model: MemoryPrior) -> Iterator[None]:
    """Put the model in eval mode; restore its mode and the global random states at the end of the context."""
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        model.train(was_training)
