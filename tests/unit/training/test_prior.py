"""Prior training: it learns what can be learnt, and its held-out figures are what a slow loop gets."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from distill.codes.sequences import to_sequence
from distill.codes.store import CodesConfig
from distill.execution import Execution
from distill.params import PriorConfig, PriorParams
from distill.training import PriorEpochMetrics, PriorStepMetrics, PriorTrainingCompleteEvent
from distill.training.fabric import make_fabric
from distill.training.prior import fit_prior

FABRIC = make_fabric(Execution("cpu", "fp32"))
GEOMETRY = CodesConfig(codebook_size=12, num_quantizers=2, frame_rate=10.0, codec_sha256="")


def config(**changes: Any) -> PriorConfig:
    values = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "dropout": 0.0, "epochs": 25, "learning_rate": 3e-3}
    return PriorParams(**{**values, "batch_size": 4, **changes}).resolve(12)


def recordings(seed: int, count: int) -> list[np.ndarray]:
    """Counting up from a random start, the second level a function of the first: all but the start is predictable."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        coarse = (rng.integers(12) + np.arange(int(rng.integers(4, 25)))) % 12
        out.append(np.stack([coarse, (coarse * 5 + 1) % 12], axis=1).astype(np.int64))
    return out


def test_it_learns_a_pattern_and_reports_what_the_design_names() -> None:
    events: list[Any] = []
    training = fit_prior(recordings(0, 12), recordings(1, 5), GEOMETRY, config(), 0, FABRIC, callback=events.append)
    epochs = [event for event in events if isinstance(event, PriorEpochMetrics)]
    assert epochs[0].val_perplexity > 6
    assert epochs[-1].best_perplexity < 2
    assert epochs[-1].val_perplexity == pytest.approx(math.exp(epochs[-1].val_loss))
    assert epochs[-1].is_memorizing
    assert "perplexity" in epochs[-1].memorization_message
    assert any(isinstance(event, PriorStepMetrics) for event in events)
    complete = events[-1]
    assert isinstance(complete, PriorTrainingCompleteEvent)
    assert complete.best_perplexity == pytest.approx(min(event.val_perplexity for event in epochs))
    assert complete.was_memorizing
    assert not training.model.training


def test_held_out_figures_are_those_of_a_slow_loop() -> None:
    held_out = recordings(1, 5)
    training = fit_prior(recordings(0, 8), held_out, GEOMETRY, config(epochs=2, context_seconds=0.7), 0, FABRIC)
    model, best = training.model, training.fit.history[training.fit.best_epoch]
    assert model.seq_len == 14
    nats, count = 0.0, 0
    by_level: dict[int, list[float]] = {0: [], 1: []}
    for codes in held_out:
        sequence = to_sequence(codes, 12)
        for target in range(1, len(sequence)):
            start = (target - 1) // 14 * 14
            with torch.no_grad():
                logits = model(sequence[None, start:target])[0, -1]
            loss = float(-logits.log_softmax(dim=-1)[sequence[target]])
            nats, count = nats + loss, count + 1
            by_level[(target - 1) % 2].append(loss)
    assert best["val_loss"] == pytest.approx(nats / count, rel=1e-4)
    seconds = sum(len(codes) for codes in held_out) / 10.0
    assert best["val_bits_per_second"] == pytest.approx(nats / math.log(2) / seconds, rel=1e-4)
    for level, losses in by_level.items():
        assert best[f"level_{level}/val_perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)


def test_two_trainings_give_the_same_weights() -> None:
    one, two = (
        fit_prior(recordings(0, 6), recordings(1, 3), GEOMETRY, config(epochs=2, dropout=0.3), 5, FABRIC)
        for _ in range(2)
    )
    assert all(torch.equal(value, two.fit.best_tensors[key]) for key, value in one.fit.best_tensors.items())
    other = fit_prior(recordings(0, 6), recordings(1, 3), GEOMETRY, config(epochs=2, dropout=0.3), 6, FABRIC)
    assert any(not torch.equal(value, other.fit.best_tensors[key]) for key, value in one.fit.best_tensors.items())
