"""Training, whatever is trained: trainer, checkpoints, tracking, processes, signals, and the public events."""

from distill.training.events import *  # noqa: F403
