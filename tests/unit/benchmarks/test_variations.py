"""Measurement of variations: rows by strength with both ends exact, kinds from folders or names."""

from pathlib import Path

import numpy as np
import pytest
from unit.tiny import write_prior_model, write_tone

from benchmarks import variations
from benchmarks.sounds_report import variations_section
from distill.errors import ParamsError


def test_rows_go_from_the_decoded_recording_to_a_free_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_prior_model(tmp_path / "m.distill")
    (tmp_path / "sounds").mkdir()
    for name, pitch in (("low_1", 110.0), ("low_2", 112.0), ("high_1", 700.0)):
        write_tone(tmp_path / "sounds" / f"{name}.wav", 0.4, pitch=pitch)
    monkeypatch.setattr(variations, "RECORDINGS", 2)
    said: list[str] = []
    report = variations.measure_variations(tmp_path / "sounds", tmp_path / "m.distill", said.append)
    assert said == ["recording 1 of 2", "recording 2 of 2"]
    first, *others = report.strengths
    assert (first.mel, first.difference_db, first.equal_codes, first.own) == (0, 0, 1, 1)
    assert [row.strength for row in others] == pytest.approx(np.arange(1, 11) / 10)
    assert all(row.equal == row.wrong_lengths == 0 for row in others)
    assert all(0 < row.equal_codes < 1 and row.mel > 0 for row in others)
    assert len(report.correlations) == 2
    assert report.growing == np.mean([one >= 0.9 for one in report.correlations])
    section = variations_section(report, "made by hand")
    (grid,) = section.tables
    assert grid.rows[0][:4] == ("0.0", "0.000", "0.0", "100%")
    assert {len(row) for row in grid.rows} == {len(grid.columns)}
    with pytest.raises(ParamsError, match="expected a folder of recordings, found none; check the path"):
        variations.measure_variations(tmp_path / "nothing", tmp_path / "m.distill", said.append)
