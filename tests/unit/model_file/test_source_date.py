"""The date that a model of the pipeline holds."""

import subprocess
from pathlib import Path

import pytest

from distill.model_file.build import source_date
from distill.params import Params, default_params

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
    assert source_date(project, params) == "2026-01-31T12:00:00Z"
    git(tmp_path, "clone", "-q", str(project), "clone")
    assert source_date(tmp_path / "clone", params) == "2026-01-31T12:00:00Z"


def test_the_environment_comes_first(project: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert source_date(project, params) == "1970-01-01T00:00:00Z"


def test_there_is_none_where_git_does_not_tell(project: Path, params: Params, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth", "1", project.as_uri(), "shallow")
    assert source_date(tmp_path / "shallow", params) is None
    assert source_date(tmp_path, params) is None
    assert source_date(project, default_params(corpus={"path": "s3://bucket/sounds"})) is None
    assert source_date(project, default_params(corpus={"path": "../elsewhere"})) is None
    (project / "sounds/b.wav").write_text("another")
    assert source_date(project, params) is None
