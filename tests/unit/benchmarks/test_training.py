import pytest

from benchmarks import training
from distill.training.events import VQEpochMetrics, VQStepMetrics


def _step(epoch: int, step: int, seconds: float) -> VQStepMetrics:
    return VQStepMetrics(epoch, step, 40, 1.0, 1.0, 0.0, 0.25, 1e-3, seconds, {})


def _epoch(epoch: int) -> VQEpochMetrics:
    return VQEpochMetrics(epoch, 10, 1.0, 1.0, 1.0, 0.0, 0.0, 1e-3, 0.0, 0.0, {}, ())


def test_the_clock_tells_steps_from_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(training.time, "perf_counter", lambda: now)
    clock = training._Clock(epochs=10)
    for epoch in range(3):
        for step in range(4):
            now += 2.0
            clock(_step(epoch, 4 * epoch + step, 1.5))
        now += 5.0
        clock(_epoch(epoch))
    assert clock.steps_per_epoch == 4
    assert clock.intervals == [2.0] * 12
    assert clock.epoch_seconds() == 4 * 2.0 + 5.0
    assert clock.first_step == 2.0
    assert clock.elapsed == 39.0
