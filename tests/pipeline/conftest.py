"""Projects for the pipeline's tests."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pipeline.project import Project, hashes, new_project, write_sounds


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return new_project(tmp_path / "project")


@dataclass(frozen=True)
class Finished:
    """A project after its first `make repro`, and what that printed. Tests share it and leave it as it was."""

    project: Project
    summary: str


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    project = new_project(tmp_path_factory.mktemp("finished") / "project")
    write_sounds(project.folder / "sounds")
    done = project.run(sys.executable, "-m", "stages.repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return Finished(project, done.stdout)


@pytest.fixture
def finished(first_run: Finished) -> Iterator[Project]:
    """The finished project, which a test leaves with the bytes that it found."""
    before = hashes(first_run.project.folder)
    yield first_run.project
    assert hashes(first_run.project.folder) == before
