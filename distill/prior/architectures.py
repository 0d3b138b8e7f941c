"""Table of the prior's architectures, read by settings, commands, page, docs, tests and training."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

ArchitectureName = Literal["frame", "memory", "flat"]


class Architecture(NamedTuple):
    """One architecture. Classes are given by name, for `pkgutil.resolve_name`, so the table does not import torch."""

    summary: str
    shape: str  # class of its `PriorShape`, the `prior_config` of a model file
    network: str  # class of the network, built from its shape and the codec's codewords
    task: str = "distill.prior.task:PriorTask"  # class of its training task
    settings: frozenset[str] = (
        frozenset()
    )  # keys of section `prior` that only some architectures take
    beyond_context: str = ""  # information it uses besides its context
    graph: str = ""  # class of the graph that `distill export` writes; "" if it cannot be exported


WITH_DEPTH = frozenset({"depth_layers", "pretrained", "count_experts", "history_dropout"})

ARCHITECTURES: Mapping[ArchitectureName, Architecture] = {
    "frame": Architecture(
        "a transformer with one position for each frame, and a small network that goes through the levels of a frame",
        "distill.prior.frame:FrameShape",
        "distill.prior.frame:FramePrior",
        "distill.prior.task:FrameTask",
        settings=WITH_DEPTH,
        graph="distill.generate.export:FrameGraph",
    ),
    "memory": Architecture(
        "frame with a memory beside its window, for long recordings",
        "distill.prior.memory.block:MemoryShape",
        "distill.prior.memory.network:MemoryPrior",
        "distill.prior.memory.task:MemoryTask",
        settings=WITH_DEPTH | {"memory"},
        beyond_context="a memory of what came before",
    ),
    "flat": Architecture(
        "one position for each code, the reference",
        "distill.prior.flat:FlatShape",
        "distill.prior.flat:FlatPrior",
    ),
}
DEFAULT: ArchitectureName = "frame"
SUMMARIES = "; ".join(f"{name}: {entry.summary}" for name, entry in ARCHITECTURES.items())


def not_taken(name: ArchitectureName) -> frozenset[str]:
    """Keys of section `prior` that other architectures take and this does not."""
    return (
        frozenset().union(*(entry.settings for entry in ARCHITECTURES.values()))
        - ARCHITECTURES[name].settings
    )
