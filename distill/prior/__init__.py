"""The prior: networks over codes, their data, training and artefact."""

from typing import TYPE_CHECKING

from distill.exports import lazy_exports

if TYPE_CHECKING:
    from distill.codes.patterns import flatten_codes as flatten_codes
    from distill.codes.patterns import unflatten_codes as unflatten_codes
    from distill.prior.architectures import PriorShape as PriorShape
    from distill.prior.architectures import build_prior as build_prior
    from distill.prior.base import Prior as Prior
    from distill.prior.flat import CodePrior as CodePrior
    from distill.prior.flat import FlatPrior as FlatPrior
    from distill.prior.frame import FramePrior as FramePrior
    from distill.prior.memory.network import MemoryPrior as MemoryPrior

_HOMES = {
    "CodePrior": "distill.prior.flat",
    "FlatPrior": "distill.prior.flat",
    "FramePrior": "distill.prior.frame",
    "MemoryPrior": "distill.prior.memory.network",
    "Prior": "distill.prior.base",
    "PriorShape": "distill.prior.architectures",
    "build_prior": "distill.prior.architectures",
    "flatten_codes": "distill.codes.patterns",
    "unflatten_codes": "distill.codes.patterns",
}

__all__ = [
    "CodePrior",
    "FlatPrior",
    "FramePrior",
    "MemoryPrior",
    "Prior",
    "PriorShape",
    "build_prior",
    "flatten_codes",
    "unflatten_codes",
]

__getattr__ = lazy_exports(__name__, _HOMES)
