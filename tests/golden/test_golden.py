"""Recorded results have not changed. Where a change was meant, record them again: see `figures`."""

import json
from typing import Any

import pytest

from golden.figures import GROUPS, RECORDED


def assert_alike(found: Any, recorded: Any, where: str) -> None:
    """Equal, numbers to a thousandth."""
    if isinstance(recorded, dict):
        assert set(found) == set(recorded), where
        for name, value in recorded.items():
            assert_alike(found[name], value, f"{where}: {name}")
    elif isinstance(recorded, list):
        assert len(found) == len(recorded), where
        for number, (one, other) in enumerate(zip(found, recorded, strict=True)):
            assert_alike(one, other, f"{where}[{number}]")
    elif isinstance(recorded, float):
        assert found == pytest.approx(recorded, rel=1e-3), where
    else:
        assert found == recorded, where


@pytest.mark.parametrize("group", GROUPS)
def test_results_are_the_recorded_ones(group: str) -> None:
    recorded, found = json.loads(RECORDED.read_text(encoding="utf-8"))[group], GROUPS[group]()
    assert_alike(found, recorded, group)
