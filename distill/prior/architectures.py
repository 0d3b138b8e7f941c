"""The architectures of the prior: commands, page, settings, docs and tests read this table."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from distill.prior.base import Prior
    from distill.prior.shape import PriorShape
    from distill.prior.task import PriorTask

ArchitectureName = Literal["frame", "memory", "flat"]


@dataclass(frozen=True)
class Architecture:
    """One entry. Its config and network are in the folder of its name and are imported when they are asked for."""

    name: ArchitectureName
    summary: str
    settings: frozenset[str]  # keys of section `prior` that not every architecture takes
    shape_class: str
    network_class: str
    task_class: str = "distill.prior.task:PriorTask"
    is_calibrated: bool = False  # after training, where the codec's first level is the loudness
    beyond_context: str = ""  # what it knows besides its context

    @property
    def shape(self) -> "type[PriorShape]":
        """Class of the settings that fix the shape of its tensors, the `prior_config` of a model file."""
        shape: type[PriorShape] = _load(f"distill.prior.{self.name}.config:{self.shape_class}")
        return shape

    @property
    def network(self) -> "type[Prior]":
        """Class of the network, built from its shape and the codec's codewords."""
        network: type[Prior] = _load(f"distill.prior.{self.name}.network:{self.network_class}")
        return network

    @property
    def task(self) -> "type[PriorTask]":
        """Class of its training task."""
        task: type[PriorTask] = _load(self.task_class)
        return task


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


WITH_DEPTH = frozenset({"depth_layers", "geometry", "pretrained", "count_experts", "history_dropout"})

ARCHITECTURES: Mapping[ArchitectureName, Architecture] = {
    entry.name: entry
    for entry in (
        Architecture(
            "frame",
            "a transformer with one position for each frame, and a small network that goes through the levels of a frame",
            WITH_DEPTH,
            "FrameShape",
            "FramePrior",
            is_calibrated=True,
        ),
        Architecture(
            "memory",
            "the same with a memory beside its window, for long recordings",
            WITH_DEPTH | {"memory"},
            "MemoryShape",
            "MemoryPrior",
            "distill.prior.memory.task:MemoryTask",
            beyond_context="a memory of what came before",
        ),
        Architecture("flat", "one position for each code, the reference", frozenset(), "FlatShape", "FlatPrior"),
    )
}
DEFAULT: ArchitectureName = "frame"


def summaries() -> str:
    """What each architecture is, in one line."""
    return "; ".join(f"{entry.name}: {entry.summary}" for entry in ARCHITECTURES.values())
