"""Training of codec and prior. The public names load on first use, so that looking at an event costs no network library."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.training.events import (
        CodebookHealth,
        PriorEpochMetrics,
        PriorMemoryMetrics,
        PriorStepMetrics,
        PriorTrainingCompleteEvent,
        VQEpochMetrics,
        VQStepMetrics,
    )
    from distill.training.memorization import check_memorization
    from distill.training.prior_task import train_prior_epoch, validate_prior_epoch
    from distill.training.standalone import train_prior
    from distill.training.vqvae import train_vqvae

_HOMES = {
    "CodebookHealth": "events",
    "PriorEpochMetrics": "events",
    "PriorMemoryMetrics": "events",
    "PriorStepMetrics": "events",
    "PriorTrainingCompleteEvent": "events",
    "VQEpochMetrics": "events",
    "VQStepMetrics": "events",
    "check_memorization": "memorization",
    "train_prior": "standalone",
    "train_prior_epoch": "prior_task",
    "train_vqvae": "vqvae",
    "validate_prior_epoch": "prior_task",
}

__all__ = [
    "CodebookHealth",
    "PriorEpochMetrics",
    "PriorMemoryMetrics",
    "PriorStepMetrics",
    "PriorTrainingCompleteEvent",
    "VQEpochMetrics",
    "VQStepMetrics",
    "check_memorization",
    "train_prior",
    "train_prior_epoch",
    "train_vqvae",
    "validate_prior_epoch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
