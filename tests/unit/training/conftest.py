"""Fixtures for tests of the trainer."""

import pytest

from distill.training import rollback


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes after every second step, none of which is early."""
    monkeypatch.setattr(rollback, "EARLY_ALLOWANCE", 0.0)
    monkeypatch.setattr(rollback, "WATCH_STEPS", 2)
    monkeypatch.setattr(rollback, "EARLY_PROBES", frozenset())
