"""The architectures of the prior: settings, commands, page, docs, tests and training read this table."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

ArchitectureName = Literal["frame", "memory", "flat"]


class Architecture(NamedTuple):
    """One entry. It names its classes, for `pkgutil.resolve_name`, so that the table needs no torch."""

    summary: str
    shape: str  # class of what fixes the shape of its tensors, the `prior_config` of a model file
    network: str  # class of the network, built from its shape and the codec's codewords
    task: str = "distill.prior.task:PriorTask"  # class of its training task
    settings: frozenset[str] = (
        frozenset()
    )  # keys of section `prior` that not every architecture takes
    beyond_context: str = ""  # what it knows besides its context
    graph: str = (
        ""  # class of the graph that `distill export` writes, built from the network; "" for none
    )


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
    """Keys of section `prior` that an architecture does not take, and others do."""
    return (
        frozenset().union(*(entry.settings for entry in ARCHITECTURES.values()))
        - ARCHITECTURES[name].settings
    )
