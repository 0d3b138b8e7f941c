"""A copy of the project, as DVC makes one for an experiment, finds the recordings of the project."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill.errors import AudioError
from programs import ROOT
from stages.ops.experiments import lead_to_recordings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, whose copy is the current folder."""
    copy = tmp_path / "a é/project/.dvc/tmp/exps/tmp1"
    (copy / ".git").mkdir(parents=True)
    monkeypatch.chdir(copy)
    return tmp_path / "a é/project"


def recordings(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"sound of {path}")
    return folder


def found(folder: str) -> dict[str, str]:
    files = (Path(parent, file) for parent, _, names in os.walk(folder) for file in names)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


@pytest.mark.parametrize("folder", ["../my sounds", "../../my sounds", "my sounds", "data/my sounds"])
def test_a_relative_path_leads_to_the_folder_of_the_project(project: Path, folder: str) -> None:
    there = recordings(project / folder, "kick/1.wav", "2.wav")
    for _ in range(2):
        lead_to_recordings(project, folder)
        assert found(folder) == found(str(there)) != {}
    assert {path.name for path in Path().iterdir()} <= {".git", "my sounds", "data"}


def test_what_git_does_not_track_of_a_folder_is_added_and_the_rest_left_alone(project: Path) -> None:
    there = recordings(project / "sounds", "kick/1.wav", "kick/2.wav", "hat/3.wav")
    recordings(Path("sounds"), "kick/1.wav")
    lead_to_recordings(project, "sounds")
    assert found("sounds") == {**found(str(there)), "kick/1.wav": "sound of sounds/kick/1.wav"}
    assert not Path("sounds/kick/1.wav").is_symlink()


def test_git_leaves_links_out(project: Path) -> None:
    """Of names that mean something in a list of patterns, too."""
    Path(".git").rmdir()
    subprocess.run(["git", "init", "-q"], check=True)
    recordings(project / "sounds", "a [1]/#b*?.wav", "!c.wav", "\\d .wav", "e.wav ")
    recordings(Path("sounds"), "kept.wav")
    lead_to_recordings(project, "sounds")
    subprocess.run(["git", "add", "sounds"], check=True)
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
    assert listed == "sounds/kept.wav\n"


def test_a_link_that_git_tracks_stays(project: Path) -> None:
    there = recordings(project.parent / "library", "1.wav")
    for folder in (project, Path()):
        (folder / "sounds").symlink_to("../library")
    lead_to_recordings(project, "sounds")
    assert found("sounds") == found(str(there))
    assert Path("sounds").readlink() == Path("../library")


def test_a_link_of_an_earlier_experiment_is_not_taken_for_another_folder(project: Path) -> None:
    there = recordings(project / "../sounds", "1.wav")
    Path("../sounds").symlink_to(project / "moved away")
    lead_to_recordings(project, "../sounds")
    assert found("../sounds") == found(str(there))


def test_places_that_all_find_and_folders_that_are_missing_are_left_to_ingest(project: Path) -> None:
    there = recordings(project.parent / "sounds", "1.wav")
    for folder in (str(there), "../missing", "s3://bucket/takes"):
        lead_to_recordings(project, folder)
    assert [path.name for path in (*Path().iterdir(), *Path("..").iterdir())] == [".git", "tmp1"]


@pytest.mark.parametrize("folder", ["../celery", "../../../../../sounds"])
def test_a_path_that_leads_to_something_else_is_refused(project: Path, folder: str) -> None:
    there = recordings(project / folder, "1.wav").resolve()
    Path("../celery").mkdir()
    here = (Path.cwd() / folder).resolve()
    with pytest.raises(AudioError) as refused:
        lead_to_recordings(project, folder)
    assert str(refused.value) == (
        "params.yaml: corpus.path: expected a path that leads from .dvc/tmp/exps, where DVC runs experiments, to nothing "
        f"else, found {folder}, which is {here} there; write the absolute path {there}"
    )
    assert not list(Path("../celery").iterdir())


def test_stages_of_a_copy_run_with_the_environment_of_the_project(project: Path) -> None:
    """Where DVC runs without an activated environment, and `python` is one without Distill's dependencies."""
    python = project / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "here: $*"\n')
    python.chmod(0o755)
    bare = [sys.executable, "-S", "-c", "import stages"]
    environment = {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(project)}
    done = subprocess.run(bare, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "here: -S -c import stages\n"
