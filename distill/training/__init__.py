"""Training of codec and prior: trainer, run, checkpoints, tracking and events."""

from typing import TYPE_CHECKING

from distill.exports import lazy_exports

if TYPE_CHECKING:
    from distill.codec.training import train_vqvae as train_vqvae
    from distill.novelty.memorization import check_memorization as check_memorization
    from distill.pipeline.train import TrainedPrior as TrainedPrior
    from distill.pipeline.train import train_prior as train_prior
    from distill.prior.task import train_prior_epoch as train_prior_epoch
    from distill.prior.task import validate_prior_epoch as validate_prior_epoch
    from distill.training.events import CodebookHealth as CodebookHealth
    from distill.training.events import PriorEpochMetrics as PriorEpochMetrics
    from distill.training.events import PriorMemoryMetrics as PriorMemoryMetrics
    from distill.training.events import PriorStepMetrics as PriorStepMetrics
    from distill.training.events import PriorTrainingCompleteEvent as PriorTrainingCompleteEvent
    from distill.training.events import RollbackEvent as RollbackEvent
    from distill.training.events import VQEpochMetrics as VQEpochMetrics
    from distill.training.events import VQStepMetrics as VQStepMetrics
    from distill.training.events import WatchMetrics as WatchMetrics

_HOMES = {
    "CodebookHealth": "distill.training.events",
    "PriorEpochMetrics": "distill.training.events",
    "PriorMemoryMetrics": "distill.training.events",
    "PriorStepMetrics": "distill.training.events",
    "PriorTrainingCompleteEvent": "distill.training.events",
    "RollbackEvent": "distill.training.events",
    "TrainedPrior": "distill.pipeline.train",
    "VQEpochMetrics": "distill.training.events",
    "VQStepMetrics": "distill.training.events",
    "WatchMetrics": "distill.training.events",
    "check_memorization": "distill.novelty.memorization",
    "train_prior": "distill.pipeline.train",
    "train_prior_epoch": "distill.prior.task",
    "train_vqvae": "distill.codec.training",
    "validate_prior_epoch": "distill.prior.task",
}

__all__ = [
    "CodebookHealth",
    "PriorEpochMetrics",
    "PriorMemoryMetrics",
    "PriorStepMetrics",
    "PriorTrainingCompleteEvent",
    "RollbackEvent",
    "TrainedPrior",
    "VQEpochMetrics",
    "VQStepMetrics",
    "WatchMetrics",
    "check_memorization",
    "train_prior",
    "train_prior_epoch",
    "train_vqvae",
    "validate_prior_epoch",
]

__getattr__ = lazy_exports(__name__, _HOMES)
