"""Whether a memory finds again what it was told: needles in haystacks, with the needle left out and with the memory ablated.

Three probes, from the inside out: what the memory's own code retrieves of random keys and values (mechanism), what a trained
network retrieves of motifs (in situ), and what it says next (behaviour). Each stands beside controls without which it would say
nothing: a memory that holds no values "finds" needles that were never there.
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
HAYSTACKS, QUESTIONS = 2, 16  # and in each so many needles, from the first motif to the last
RETRIEVED, ABSENT, CHANCE_MARGIN = 0.8, 0.2, 0.05  # what a working memory reaches, and what its controls stay below


@dataclass(frozen=True)
class RetrievalScores:
    """Shares of needles of which the first code was said, and that were ranked first among all motifs; the mean cosine of what was
    retrieved and that code."""

    top1: float
    ranked: float
    cosine: float

    @classmethod
    def mean(cls, every: Iterable["RetrievalScores"]) -> "RetrievalScores":
        """Of all."""
        rows = [(pair.top1, pair.ranked, pair.cosine) for pair in every]
        return cls(*(sum(part) / len(rows) for part in zip(*rows, strict=True)))


@dataclass(frozen=True)
class Probes:
    """What a memory is worth: cosines and shares with the needle, without it (`absent`), with the memory `ablated`, and to the
    value of another (`shuffled`); and the share of the commonest code, which is what whoever remembers nothing would say."""

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
        """Whether needles are found, and none where there is none."""
        return (
            min(self.mechanism, self.in_situ, self.top1, self.ranked) >= RETRIEVED
            and max(self.mechanism_absent, self.mechanism_shuffled, self.in_situ_absent) < ABSENT
            and max(self.top1_absent, self.ranked_absent) < ABSENT
            and self.top1_ablated <= self.chance + CHANCE_MARGIN
            and self.ranked_ablated <= 1 / (DISTRACTORS + 1) + CHANCE_MARGIN
        )

    @property
    def line(self) -> dict[str, float]:
        """As `metrics.jsonl` and MLflow have them."""
        return {f"probe/{name}": value for name, value in asdict(self).items()}

    @classmethod
    def worst(cls, every: Sequence["Probes"]) -> "Probes":
        """Of each figure the one that is furthest from what it should be, but of those with the memory ablated the mean: they are as
        good as chance, and the worst of some draws is worse than that."""
        found = {}
        for name in (part.name for part in fields(cls)):
            values = [getattr(one_seed, name) for one_seed in every]
            if name.endswith("ablated"):
                found[name] = statistics.mean(values)
            else:
                found[name] = max(values) if name.endswith(("absent", "shuffled")) else min(values)
        return cls(**found)


def probe_memory(
    model: MemoryPrior, source: FrameSource, fabric: Fabric, seed: int, haystacks: int = HAYSTACKS, distance: int = 0
) -> Probes:
    """Probe a prior with haystacks of real frames of `source`, at least `distance` of them between needles and questions.

    Leaves the model's mode and all randomness as they were.
    """
    rng = np.random.default_rng(seed)
    with _preserved(model), fabric.autocast():
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
    """`probe_memory` with so many seeds made of this one and twice the haystacks; of each figure the worst, see `Probes.worst`."""
    made = [derive_seed(seed, Stream.MEMORY_PROBE_SEEDS, one_seed) for one_seed in range(seeds)]
    return Probes.worst([probe_memory(model, source, fabric, one_seed, 2 * HAYSTACKS, distance) for one_seed in made])


def mechanism_probe(model: MemoryPrior, seed: int) -> tuple[float, float, float]:
    """Random unit keys and values through the code that blocks write and read with. The mean cosine of what is read by the
    needle's key and its value; the same without the needle; and of the former and another's value."""
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
    """Ask for what comes after the keys of some of the needles of a haystack, and of some motifs that did not come."""
    positions = np.linspace(0, len(stack.motifs) - 1, QUESTIONS).round().astype(int)
    frames = torch.from_numpy(stack.frames)[None]
    inputs = torch.cat([torch.full_like(frames[:, :1], bos_token(model.codebook_size)), frames], dim=1)
    inputs = inputs.to(model.bias.device)
    with torch.no_grad():
        state = model.advance(model.initial_state(1), inputs, inputs.shape[1] - 1).expand(2 * QUESTIONS)
        queries = torch.from_numpy(np.concatenate([stack.motifs[positions], stack.absent[positions]]))
        others = np.stack([np.delete(np.arange(len(stack.motifs)), place)[:DISTRACTORS] for place in positions])
        candidates = torch.from_numpy(stack.motifs[np.concatenate([others, others])][:, :, KEY_FRAMES])
        candidates = torch.cat([queries[:, None, KEY_FRAMES], candidates], dim=1)  # the right one first
        queries, candidates = queries.to(inputs.device), candidates.to(inputs.device)
        past = torch.cat([inputs.expand(2 * QUESTIONS, -1, -1), queries[:, :KEY_FRAMES]], dim=1)
        state = model.advance(state, past, KEY_FRAMES)
        logits, weights = model.candidate_logits(state, past, candidates)
    log_probs = logits.float().log_softmax(dim=3).cpu()  # [questions, choices, Q, V + 2]
    candidates = candidates.cpu()
    top1 = (log_probs[:, 0, 0].argmax(dim=1) == candidates[:, 0, 0]).float()
    ranked = (log_probs.gather(3, candidates[..., None])[..., 0].sum(dim=2).argmax(dim=1) == 0).float()
    first_weights = weights[:, 0, 0].float().cpu()
    code = nn.functional.one_hot(candidates[:, 0, 0], first_weights.shape[1]).float()
    cosine = nn.functional.cosine_similarity(first_weights, code, dim=1)
    every = torch.stack([top1, ranked, cosine], dim=1).view(2, QUESTIONS, 3).mean(dim=1)
    needles, absent = (RetrievalScores(*row) for row in every.tolist())
    return needles, absent


@contextmanager
def _preserved(model: MemoryPrior) -> Iterator[None]:
    """The model in eval mode, and its mode and the global randomness as they were when the context ends."""
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        model.train(was_training)
