"""Projects for the pipeline's tests."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.project import Project, new_project
from programs import MakeOnce


@pytest.fixture
def project(tmp_path: Path, database: Path) -> Project:
    return new_project(tmp_path / "project", database)


@dataclass(frozen=True)
class Finished:
    """A project after its first `make repro`, which nobody changes: what that printed, and the hashes of what it made."""

    project: Project
    summary: str
    hashes: dict[str, str]


@pytest.fixture(scope="session")
def first_run(make_once: MakeOnce, database: Path) -> Finished:
    """One project for all test processes."""

    def make(folder: Path) -> None:
        project = new_project(folder / "project", database)
        project.give_labelled_sounds()
        done = project.done("repro")
        (folder / "made.json").write_text(json.dumps([done.stdout, project.hashes()]))

    made = make_once("finished", make)
    return Finished(Project(made / "project"), *json.loads((made / "made.json").read_text()))


@pytest.fixture
def copied(first_run: Finished, tmp_path: Path) -> Project:
    """A copy of the finished project with its results, without git and what it noted of its work."""
    ignored = shutil.ignore_patterns(".git", ".distill", "tmp", "mlflow.db", "mlruns")
    shutil.copytree(first_run.project.folder, tmp_path / "copied", ignore=ignored)
    return Project(tmp_path / "copied")
