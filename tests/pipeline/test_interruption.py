"""Ctrl-C and a kill in the middle of `dvc repro`: the codec is, in the end, the one of a run without them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pipeline.conftest import Finished
from pipeline.project import Project, executed, give_labelled_sounds, hashes, left_behind, new_project


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_interrupted_training_goes_on_to_the_same_bytes(
    tmp_path: Path, python: Path, request: pytest.FixtureRequest
) -> None:
    """Ctrl-C in the codec's training, then SIGKILL in its second try, with processes of real Python; then to the end."""
    project = new_project(tmp_path / "project")
    give_labelled_sounds(project)
    interrupt(project)
    kill(project)
    done = Project(project.folder, python).dvc("repro", "train_vqvae")
    assert done.returncode == 0, done.stdout + done.stderr
    assert executed(done) == ["train_vqvae"]
    made = hashes(project.folder)
    assert {"artifacts/corpus/manifest.parquet", "artifacts/vqvae/model.safetensors"} <= set(made)
    first_run: Finished = request.getfixturevalue("first_run")  # which another process makes meanwhile
    assert made.items() <= first_run.hashes.items()
    assert left_behind(project.folder) == []


def interrupt(project: Project) -> None:
    process = training(project)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "interrupted by SIGINT: training is saved after step" in output
    assert "Traceback" not in output
    assert not (project.folder / "artifacts/vqvae").exists()


def kill(project: Project) -> None:
    process = training(project)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    (project.folder / ".dvc/tmp/rwlock").unlink(missing_ok=True)


def training(project: Project) -> subprocess.Popen[str]:
    """`dvc repro` in a session of its own, at the moment the codec's training opens its MLflow run."""
    database = project.folder / "mlflow.db"
    before = database.stat().st_mtime_ns if database.exists() else 0
    process = project.start(sys.executable, "-m", "dvc", "repro")
    deadline = time.monotonic() + 120
    while not database.exists() or database.stat().st_mtime_ns == before:
        assert time.monotonic() < deadline, "training did not begin within two minutes"
        time.sleep(0.02)
    return process
