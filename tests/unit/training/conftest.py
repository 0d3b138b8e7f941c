"""Fixtures for tests of the trainer."""

from pathlib import Path

import pytest

from distill.training import rollback, trainer
from distill.training.checkpoints import CheckpointStore


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes after every second step, none of which is early."""
    monkeypatch.setattr(rollback, "EARLY_ALLOWANCE", 0.0)
    monkeypatch.setattr(rollback, "WATCH_STEPS", 2)
    monkeypatch.setattr(rollback, "EARLY_PROBES", frozenset())


@pytest.fixture
def save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(trainer, "CHECKPOINT_SHARE", float("inf"))


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "run")
