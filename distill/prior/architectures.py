"""The architectures of the prior: settings, commands, page, docs and tests read this table, which needs no torch.

Their shapes and networks are in `distill.prior.artifact`.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

ArchitectureName = Literal["frame", "memory", "flat"]


class Architecture(NamedTuple):
    """What is said of an architecture, and which settings it takes that not every one does."""

    summary: str
    settings: frozenset[str] = frozenset()  # keys of section `prior`
    beyond_context: str = ""  # what it knows besides its context


WITH_DEPTH = frozenset({"depth_layers", "geometry", "pretrained", "count_experts", "history_dropout"})

ARCHITECTURES: Mapping[ArchitectureName, Architecture] = {
    "frame": Architecture(
        "a transformer with one position for each frame, and a small network that goes through the levels of a frame",
        WITH_DEPTH,
    ),
    "memory": Architecture(
        "the same with a memory beside its window, for long recordings",
        WITH_DEPTH | {"memory"},
        beyond_context="a memory of what came before",
    ),
    "flat": Architecture("one position for each code, the reference"),
}
DEFAULT: ArchitectureName = "frame"


def summaries() -> str:
    """What each architecture is, in one line."""
    return "; ".join(f"{name}: {entry.summary}" for name, entry in ARCHITECTURES.items())
