"""Cross-validation: every recording is held out once, groups stay together."""

from pathlib import Path

import pytest
from unit.training.coded import FABRIC, config, data, recordings

from distill.errors import ParamsError
from distill.prior.data import fold_data
from distill.prior.training import cross_validate
from distill.training.run import RunKey, tracked_run


def test_every_recording_is_held_out_once_and_groups_stay_together() -> None:
    prior_data = data(recordings(0, 7), recordings(1, 3))
    groups = ["a", "a", "b", "c", "d", "d", "d"]
    prior_data = type(prior_data)(
        prior_data.train, groups, prior_data.held_out, ["e", "f", "f"], prior_data.codewords, prior_data.codes
    )
    parts = fold_data(prior_data, 3, seed=0)
    held_out = [codes.tobytes() for part in parts for codes in part.held_out]
    everything = [views[0].tobytes() for views in prior_data.train] + [codes.tobytes() for codes in prior_data.held_out]
    assert sorted(held_out) == sorted(everything)
    for part in parts:
        assert not set(part.train_groups) & set(part.held_out_groups)
        assert len(part.train) + len(part.held_out) == 10
        assert len(part.train_groups) == len(part.train)
    assert [p.held_out_groups for p in parts] != [p.held_out_groups for p in fold_data(prior_data, 3, seed=1)]


@pytest.mark.parametrize("folds", [1, 11])
def test_impossible_numbers_of_folds_are_refused(folds: int) -> None:
    with pytest.raises(ParamsError, match=f"prior.folds: expected 0 or from 2 to 10, .* found {folds}"):
        fold_data(data(recordings(0, 7), recordings(1, 3)), folds, 0)


@pytest.mark.parametrize(("count", "expected"), [(6, 3), (30, 0)])
def test_folds_report_a_standard_error_and_are_skipped_for_large_corpora(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, count: int, expected: int
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    prior_data, settings = data(recordings(0, count), recordings(1, 3)), config(epochs=2, folds=3)
    key = RunKey("train_prior", {}, {})
    with tracked_run(key, "prior", count + 3, FABRIC, tmp_path, None) as run:
        measured = cross_validate(fold_data(prior_data, settings.folds, 0), settings, 0, run)
    reported = capsys.readouterr().err
    assert reported.count("bits per second of audio") == expected
    if expected:
        assert set(measured) == {"folds/val_bits_per_second", "folds/standard_error"}
        assert measured["folds/standard_error"] > 0
        assert fold_data(prior_data, 0, 0) == []
    else:
        assert measured == {}
        assert "prior.folds: skipped, one split is enough from 20 recordings on" in reported
