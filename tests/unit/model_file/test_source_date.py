"""Dates that a model of the pipeline holds."""

import subprocess
from pathlib import Path

import pytest

from distill.model_file.build import Dates, card_path, save_with_prior, source_dates
from distill.model_file.format import load_bundle
from distill.params import Params, default_params
from unit.tiny import prior_artifact, write_prior_model

AUTHOR = ("-c", "user.name=t", "-c", "user.email=t@example.org")


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *AUTHOR, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return default_params(corpus={"path": "sounds"})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose recordings were committed at noon, and another file a minute later."""
    folder = tmp_path / "project"
    (folder / "sounds").mkdir(parents=True)
    git(folder, "init", "-q")
    for name, minute in (("sounds/a.wav", 0), ("dvc.lock", 1)):
        (folder / name).write_text("sound")
        for variable in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"):
            monkeypatch.setenv(variable, f"2026-01-31T12:{minute:02d}:00Z")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", name)
    return folder


def test_it_is_that_of_the_recordings_in_a_clone_too(project: Path, params: Params, tmp_path: Path) -> None:
    assert source_dates(project, params) == Dates(recordings="2026-01-31T12:00:00Z")
    git(tmp_path, "clone", "-q", str(project), "clone")
    assert source_dates(tmp_path / "clone", params) == Dates(recordings="2026-01-31T12:00:00Z")


def test_the_environment_dates_the_training(project: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert source_dates(project, params) == Dates(None, "1970-01-01T00:00:00Z", "2026-01-31T12:00:00Z")


def test_there_is_none_where_git_does_not_tell(project: Path, params: Params, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth", "1", project.as_uri(), "shallow")
    assert source_dates(tmp_path / "shallow", params) == Dates()
    assert source_dates(tmp_path, params) == Dates()
    assert source_dates(project, default_params(corpus={"path": "s3://bucket/sounds"})) == Dates()
    assert source_dates(project, default_params(corpus={"path": "../elsewhere"})) == Dates()
    (project / "sounds/b.wav").write_text("another")
    assert source_dates(project, params) == Dates()


def test_a_file_of_the_pipeline_dates_the_recordings_and_says_which_weights_are_kept(tmp_path: Path) -> None:
    path, dates = tmp_path / "a.distill", Dates(recordings="2026-01-31T12:00:00Z")
    write_prior_model(path)
    bundle = load_bundle(path)
    assert bundle.prior is not None
    bundle.metadata.metadata["codec_weights"] = "best epoch 2 of 3"
    written = save_with_prior(path, bundle, bundle.prior, prior_artifact(best_epoch=0), {}, None, dates)
    assert written.prior_metadata is not None
    assert written.prior_metadata.training_date is None
    assert written.metadata["recordings_date"] == dates.recordings
    card = card_path(path).read_text()
    assert "| codec weights | best epoch 2 of 3 |" in card
    kept = "no epoch of 3 was better on held-out recordings by enough, so the weights from before training are kept"
    assert f"| prior weights | {kept} |" in card
    assert "| recordings date | 2026-01-31T12:00:00Z |" in card
    assert "trained on these recordings alone" not in card
