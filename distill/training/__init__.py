"""Training, whatever is trained: trainer, rollback, patience, checkpoints, observers, processes, signals, and the events."""

from distill.training.events import (
    CodebookHealth,
    PriorEpochMetrics,
    PriorMemoryMetrics,
    PriorStepMetrics,
    PriorTrainingCompleteEvent,
    RollbackEvent,
    VQEpochMetrics,
    VQStepMetrics,
    WatchMetrics,
)

__all__ = [
    "CodebookHealth",
    "PriorEpochMetrics",
    "PriorMemoryMetrics",
    "PriorStepMetrics",
    "PriorTrainingCompleteEvent",
    "RollbackEvent",
    "VQEpochMetrics",
    "VQStepMetrics",
    "WatchMetrics",
]
