"""Projects for the pipeline's tests."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from pipeline.project import Project, give_labelled_sounds, hashes, new_project


@pytest.fixture
def project(tmp_path: Path, python: Path) -> Project:
    return new_project(tmp_path / "project", python)


@dataclass(frozen=True)
class Finished:
    """A project after its first `make repro`: what that printed, and the hashes of what it made."""

    project: Project
    summary: str
    hashes: dict[str, str]


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory, python: Path) -> Finished:
    """One project for all test processes. Tests that work in it take `finished`, others compare with its hashes alone."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    project, record = Project(folder / "finished", python), folder / "finished.json"
    with FileLock(folder / "finished.lock"):
        if not record.exists():
            give_labelled_sounds(new_project(project.folder))
            done = project.python_m("stages.repro")
            assert done.returncode == 0, done.stdout + done.stderr
            record.write_text(json.dumps({"summary": done.stdout, "hashes": hashes(project.folder)}))
    return Finished(project, **json.loads(record.read_text()))


@pytest.fixture
def finished(first_run: Finished, python: Path) -> Iterator[Project]:
    """The finished project, for this test alone, which leaves it with the bytes that it found."""
    with _alone(first_run):
        yield Project(first_run.project.folder, python)
        assert hashes(first_run.project.folder) == first_run.hashes


@pytest.fixture
def copied(first_run: Finished, python: Path, tmp_path: Path) -> Project:
    """A copy of the finished project with its results."""
    with _alone(first_run):
        shutil.copytree(
            first_run.project.folder, tmp_path / "copied", ignore=shutil.ignore_patterns(".git", ".distill", "tmp")
        )
    return Project(tmp_path / "copied", python)


def _alone(first_run: Finished) -> FileLock:
    """A lock of the finished project, in which tests of several processes work."""
    return FileLock(first_run.project.folder.with_name("finished-in-use.lock"))
