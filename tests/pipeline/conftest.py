"""Projects for the pipeline's tests."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from pipeline.project import Project, give_labelled_sounds, hashes, new_project
from programs import MakeOnce, run


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return new_project(tmp_path / "project")


@dataclass(frozen=True)
class Finished:
    """A project after its first `make repro`: what that printed, and the hashes of what it made."""

    project: Project
    summary: str
    hashes: dict[str, str]


@pytest.fixture(scope="session")
def first_run(make_once: MakeOnce) -> Finished:
    """One project for all test processes. Tests that work in it take `finished`, others compare with its hashes alone."""

    def make(folder: Path) -> None:
        give_labelled_sounds(new_project(folder / "project"))
        done = run(folder / "project", "stages.repro")
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "summary").write_text(done.stdout)
        (folder / "hashes").write_text(json.dumps(hashes(folder / "project")))

    made = make_once("finished", make)
    return Finished(
        Project(made / "project"), (made / "summary").read_text(), json.loads((made / "hashes").read_text())
    )


@pytest.fixture
def finished(first_run: Finished) -> Iterator[Project]:
    """The finished project, for this test alone, which leaves it with the bytes that it found."""
    with _alone(first_run):
        yield Project(first_run.project.folder)
        assert hashes(first_run.project.folder) == first_run.hashes


@pytest.fixture
def copied(first_run: Finished, tmp_path: Path) -> Project:
    """A copy of the finished project with its results, without what it noted of its work."""
    with _alone(first_run):
        ignored = shutil.ignore_patterns(".git", ".distill", "tmp", "mlflow.db", "mlruns")
        shutil.copytree(first_run.project.folder, tmp_path / "copied", ignore=ignored)
    return Project(tmp_path / "copied")


def _alone(first_run: Finished) -> FileLock:
    """A lock of the finished project, in which tests of several processes work."""
    return FileLock(first_run.project.folder.with_name("in-use.lock"))
