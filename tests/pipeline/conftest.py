"""Projects for the pipeline's tests."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from pipeline.project import Project, new_project
from programs import MakeOnce


@pytest.fixture
def project(tmp_path: Path, database: Path) -> Project:
    return new_project(tmp_path / "project", database)


@dataclass(frozen=True)
class Finished:
    """A project after its first `make repro`: what that printed, the hashes of what it made, and a lock to work in it."""

    project: Project
    summary: str
    hashes: dict[str, str]
    alone: FileLock


@pytest.fixture(scope="session")
def first_run(make_once: MakeOnce, database: Path) -> Finished:
    """One project for all test processes. Tests that work in it take `finished`, others compare with its hashes alone."""

    def make(folder: Path) -> None:
        project = new_project(folder / "project", database)
        project.give_labelled_sounds()
        done = project.done("repro")
        (folder / "made.json").write_text(json.dumps([done.stdout, project.hashes()]))

    made = make_once("finished", make)
    return Finished(Project(made / "project"), *json.loads((made / "made.json").read_text()), FileLock(made / "lock"))


@pytest.fixture
def finished(first_run: Finished) -> Iterator[Project]:
    """The finished project, for this test alone, which leaves it with the bytes that it found."""
    with first_run.alone:
        yield first_run.project
        assert first_run.project.hashes() == first_run.hashes


@pytest.fixture
def copied(first_run: Finished, tmp_path: Path) -> Project:
    """A copy of the finished project with its results, without what it noted of its work."""
    ignored = shutil.ignore_patterns(".git", ".distill", "tmp", "mlflow.db", "mlruns")
    with first_run.alone:
        shutil.copytree(first_run.project.folder, tmp_path / "copied", ignore=ignored)
    return Project(tmp_path / "copied")
