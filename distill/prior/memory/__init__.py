"""`architecture: memory`: attention with a memory, gates, retrieval, training, probes."""

from typing import TYPE_CHECKING

from distill.exports import lazy_exports

if TYPE_CHECKING:
    from distill.prior.memory.block import AtlasMAGBlock as AtlasMAGBlock
    from distill.prior.memory.block import MemoryStack as MemoryStack
    from distill.prior.memory.block import PersistentMemory as PersistentMemory
    from distill.prior.memory.block import QKProjection as QKProjection
    from distill.prior.memory.block import ValueMemory as ValueMemory
    from distill.prior.memory.network import MemoryPrior as MemoryPrior

_HOMES = {
    "AtlasMAGBlock": "distill.prior.memory.block",
    "MemoryPrior": "distill.prior.memory.network",
    "MemoryStack": "distill.prior.memory.block",
    "PersistentMemory": "distill.prior.memory.block",
    "QKProjection": "distill.prior.memory.block",
    "ValueMemory": "distill.prior.memory.block",
}

__all__ = ["AtlasMAGBlock", "MemoryPrior", "MemoryStack", "PersistentMemory", "QKProjection", "ValueMemory"]

__getattr__ = lazy_exports(__name__, _HOMES)
