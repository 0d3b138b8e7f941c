"""Measurement of faults: a row for each seed, for held-out recordings and for training recordings left out."""

from pathlib import Path

import pytest
from unit.tiny import write_prior_model

from benchmarks import faults
from benchmarks.sounds_report import faults_section
from distill.api import Model
from distill.errors import ArtifactError


def test_rows_are_seeds_and_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_prior_model(tmp_path / "m.distill")
    monkeypatch.setattr(faults, "SOUNDS", 8)
    said: list[str] = []
    report = faults.measure_faults(tmp_path / "m.distill", said.append)
    assert said == ["m.distill: 8 sounds of seed 0", "m.distill: 8 sounds of seed 1"]
    assert list(report.generated[1]) == Model(tmp_path / "m.distill").generate(8, seed=1).faults
    (grid,) = faults_section(report, "made by hand").tables
    assert [row[1] for row in grid.rows] == ["8", "8", "3", "5"]
    assert {len(row) for row in grid.rows} == {len(grid.columns)}
    shorter = sum(bool(found) for found in report.generated[0]) / 8
    assert grid.rows[0][2] == f"{shorter:.0%}" != "0%"


def test_a_model_without_its_recordings_is_refused(tmp_path: Path) -> None:
    write_prior_model(tmp_path / "bare.distill", reference=False)
    with pytest.raises(
        ArtifactError, match=r"bare\.distill: expected a model with the codes of its training recordings"
    ):
        faults.measure_faults(tmp_path / "bare.distill", print)
