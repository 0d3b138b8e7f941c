"""The library that scale is measured on: larger ones hold the smaller, and no two recordings are equal."""

from pathlib import Path

import pytest

from benchmarks.scale import library
from benchmarks.scale.library import write_library


def test_a_larger_library_holds_the_smaller_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "PER_FOLDER", 6)
    monkeypatch.setattr(library, "SOURCES", 2)
    write_library(tmp_path / "small", 6)
    write_library(tmp_path / "large", 12)
    small, large = (sorted((tmp_path / name).rglob("*.wav")) for name in ("small", "large"))
    assert [path.read_bytes() for path in small] == [path.read_bytes() for path in large[:6]]
    assert len({path.read_bytes() for path in large}) == 12
