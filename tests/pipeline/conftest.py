"""Projects for the pipeline's tests."""

from pathlib import Path

import pytest
from pipeline.project import Project, new_project, write_sounds


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return new_project(tmp_path / "project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after its first `dvc repro`; tests share it and leave it finished."""
    project = new_project(tmp_path_factory.mktemp("finished") / "project")
    write_sounds(project.folder / "sounds")
    done = project.dvc("repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return project
