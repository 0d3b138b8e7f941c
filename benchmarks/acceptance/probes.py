"""What a memory retrieves: probes of a trained prior with several seeds, and of the memory's code with random keys."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from lightning_fabric import Fabric
from torch import nn

from benchmarks.acceptance.point import Figure
from distill.prior.memory.block import DEGREE, associate, features
from distill.prior.memory.network import MemoryPrior
from distill.prior.memory.task import DISTRACTORS, HAYSTACKS, RETRIEVED, FrameSource, probe_memory
from distill.seeds import Stream, derive_seed


@dataclass(frozen=True)
class Findings:
    """Results of `probe_memory`, and what the memory's code reads of random keys and values: `mechanism`.

    Mean cosines of what a needle's key reads and its value, without the needle (`absent`), or another's (`shuffled`).
    """

    in_situ: float
    in_situ_ablated: float
    in_situ_absent: float
    top1: float
    top1_ablated: float
    top1_absent: float
    ranked: float
    ranked_ablated: float
    ranked_absent: float
    chance: float
    mechanism: float
    mechanism_absent: float
    mechanism_shuffled: float

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Needles are to be retrieved, and the controls to stay at chance."""
        needles = ("mechanism", "in_situ", "top1", "ranked")
        absent = ("mechanism_absent", "mechanism_shuffled", "in_situ_absent", "top1_absent", "ranked_absent")
        ranked = self.ranked_ablated - 1 / (DISTRACTORS + 1)
        return (
            *(Figure(name, getattr(self, name), ">=", RETRIEVED) for name in needles),
            *(Figure(name, getattr(self, name), "<", 0.2) for name in absent),
            Figure("top1_ablated above chance", self.top1_ablated - self.chance, "<=", 0.05),
            Figure("ranked_ablated above chance", ranked, "<=", 0.05),
        )

    @classmethod
    def worst(cls, every: Sequence["Findings"]) -> "Findings":
        """The worst of each result, but the mean with the memory ablated: of draws from chance the worst is above it."""
        results = {}
        for name in (part.name for part in fields(cls)):
            values = [getattr(findings, name) for findings in every]
            if name.endswith("ablated"):
                results[name] = statistics.mean(values)
            else:
                results[name] = max(values) if name.endswith(("absent", "shuffled")) else min(values)
        return cls(**results)


def worst_findings(model: MemoryPrior, source: FrameSource, fabric: Fabric, seed: int, seeds: int) -> Findings:
    """`Findings.worst` with `seeds` seeds derived from `seed`, and eight times the haystacks of a training.

    These ask for 256 needles: of 64, one network finds between 78 and 92 %, by the seed.
    """
    every, shape = [], model.shape
    for number in range(seeds):
        own_seed = derive_seed(seed, Stream.MEMORY_PROBE_SEEDS, number)
        probes = probe_memory(model, source, fabric, own_seed, 8 * HAYSTACKS)
        every.append(Findings(**probes, **mechanism(shape.key_size, shape.chunk_size, own_seed)))
    return Findings.worst(every)


def mechanism(key_size: int, chunk_size: int, seed: int) -> dict[str, float]:
    """Write random unit keys and values to an associative memory and read them: fields of `Findings`."""
    generator, trials, value_size = torch.Generator().manual_seed(seed), 32, 64
    keys, values = (
        nn.functional.normalize(torch.randn(trials, DISTRACTORS + 1, size, generator=generator), dim=2)
        for size in (key_size, value_size)
    )
    query, reads = features(keys[:, :1], DEGREE), []
    for left_out in (0, 1):
        key, value = keys[:, left_out:], values[:, left_out:]
        empty = torch.zeros(trials, query.shape[2], value_size)
        _, sums = associate(key, key, value, empty, chunk_size, DEGREE)
        reads.append((query @ sums)[:, 0])
    needles = values[:, 0]
    compared = {
        "mechanism": (reads[0], needles),
        "mechanism_absent": (reads[1], needles),
        "mechanism_shuffled": (reads[0], needles.roll(1, 0)),
    }
    return {name: float(nn.functional.cosine_similarity(*pair, dim=1).mean()) for name, pair in compared.items()}
