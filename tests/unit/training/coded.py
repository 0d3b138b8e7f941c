"""Codes of recordings that follow a rule, for tests of priors."""

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from distill.codec.coordinates import COORDINATES
from distill.codes.sequences import CodedRecording
from distill.codes.store import CodesConfig
from distill.execution import Execution
from distill.params import PRETRAINED_SIZES, PriorConfig, get_adaptive_prior_config
from distill.prior.base import PriorShape
from distill.prior.counts import count_folds
from distill.prior.data import PriorData
from distill.prior.training import PriorTraining, fit_prior
from distill.training import PriorStepMetrics
from distill.training.checkpoints import CheckpointStore
from distill.training.console import public_events
from distill.training.distributed import make_fabric
from distill.training.run import Run
from unit.tiny import prior_shape

FABRIC = make_fabric(Execution("cpu", "fp32"))

SIZE, LEVELS = 12, 5  # of the loudness, tones, and one of the shape
GEOMETRY = CodesConfig(codebook_sizes=(SIZE,) * LEVELS, frame_rate=10.0, codec_sha256="0" * 64)


def config(**changes: Any) -> PriorConfig:
    values = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "dropout": 0.0, "epochs": 9, "learning_rate": 3e-3}
    return get_adaptive_prior_config(
        12, **{**values, "batch_size": 4, "depth_layers": 1, "count_experts": False, **changes}
    )


def recordings(seed: int, count: int) -> list[np.ndarray]:
    """Recordings that count up from a random start; tone and shape are functions of the loudness."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        coarse = (rng.integers(SIZE) + np.arange(int(rng.integers(4, 25)))) % SIZE
        finer = [(coarse * factor + 1) % SIZE for factor in (7, 1, 11, 5)]
        out.append(np.stack([coarse, *finer], axis=1).astype(np.int64))
    return out


def noise(seed: int, count: int, frames: int = 12) -> list[np.ndarray]:
    """Random codes, of which nothing can be predicted: a network can only memorise them."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, SIZE, (frames, LEVELS)) for _ in range(count)]


def repeating(seed: int, count: int, phrase: int = 12, rounds: int = 6) -> list[np.ndarray]:
    """Recordings that each repeat a random phrase: to predict it takes a memory of one phrase."""
    rng = np.random.default_rng(seed)
    return [np.tile(rng.integers(0, SIZE, (phrase, LEVELS)), (rounds, 1)) for _ in range(count)]


def coded(recordings: Sequence[np.ndarray], views: int = 1, labels: Sequence[int] = ()) -> list[CodedRecording]:
    """Coded recordings, each a group of its own, with these labels and the folds of their groups in turn."""
    folds, turns = count_folds(map(str, range(len(recordings))), 0), itertools.cycle(labels or [0])
    return [
        CodedRecording([codes] * views, group, next(turns), folds[group])
        for codes, group in zip(recordings, map(str, range(len(recordings))), strict=True)
    ]


def data(train: list[np.ndarray], held_out: list[np.ndarray], views: int = 1) -> PriorData:
    return PriorData(
        coded(train, views),
        coded(held_out),
        torch.randn(LEVELS, SIZE, 4, generator=torch.Generator().manual_seed(0)),
        GEOMETRY,
    )


def windows(context: int, batch_size: int, seed: int = 0, span_frames: int = 1) -> tuple[PriorShape, int, int]:
    """Shape, batch size and seed of a sampler of these codes."""
    sizes = {"codebook_sizes": (SIZE,) * LEVELS, "context_frames": context, "span_frames": span_frames}
    return prior_shape("memory", **sizes), batch_size, seed


def fit(
    prior_data: PriorData,
    settings: PriorConfig,
    callback: Callable[[Any], None] | None = None,
    cancel_event: threading.Event | None = None,
    seed: int = 0,
) -> PriorTraining:
    """Train a prior on the CPU."""
    observers, cancel = public_events(callback), cancel_event or threading.Event()
    return fit_prior(prior_data, settings, seed, Run(FABRIC, observers=observers, cancel=cancel.is_set))


def killed_and_resumed(
    prior_data: PriorData, settings: PriorConfig, store: CheckpointStore, kill_at: int
) -> PriorTraining:
    """A training, after a check that one that is killed after `kill_at` steps and resumed equals it."""
    expected = fit(prior_data, settings)

    def kill(event: Any) -> None:
        if isinstance(event, PriorStepMetrics) and event.overall_step == kill_at:
            raise MemoryError("killed")

    with pytest.raises(MemoryError):
        fit_prior(prior_data, settings, 0, Run(FABRIC, store, (kill,)))
    again = fit_prior(prior_data, settings, 0, Run(FABRIC, store))
    assert all(
        torch.equal(value, again.result.best_tensors[key]) for key, value in expected.result.best_tensors.items()
    )
    assert again.result.history == expected.result.history
    assert again.result.best_metrics == expected.result.best_metrics
    assert again.result.counts == expected.result.counts
    return expected


def pretrained_start() -> tuple[PriorData, PriorConfig]:
    """Recordings and settings of a prior that starts pretrained."""
    prior_data = data(recordings(0, 12), recordings(1, 5))
    prior_data = replace(prior_data, codewords=torch.zeros(LEVELS, SIZE, COORDINATES))
    return prior_data, config(**PRETRAINED_SIZES, count_experts=True, epochs=1)
