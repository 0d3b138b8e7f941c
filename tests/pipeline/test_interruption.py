"""Ctrl-C and kills in the middle of `make repro`: the codec is, in the end, the one of a run without them."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from pipeline.conftest import Finished
from pipeline.project import Project, give_labelled_sounds, hashes, left_behind
from programs import SECONDS, until


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_interrupted_and_a_killed_training_go_on_to_the_same_bytes(
    project: Project, request: pytest.FixtureRequest
) -> None:
    """Ctrl-C in the codec's training, then SIGKILL of the stage alone in its second try; then to the end."""
    give_labelled_sounds(project)
    process = training(project)
    os.killpg(process.pid, signal.SIGINT)
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode != 0
    assert "interrupted by SIGINT: training is saved after step" in said
    assert "Traceback" not in said
    assert not (project.folder / "artifacts/vqvae").exists()

    process = training(project)
    os.kill(int((project.folder / ".distill/at_work.txt").read_text().split()[1]), signal.SIGKILL)
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 2, said
    assert "train_vqvae: expected it to end by itself, found that it was killed or crashed; if memory ran out" in said
    assert "Traceback" not in said

    done = project.stage("train_vqvae")
    assert done.returncode == 0, done.stderr
    made = hashes(project.folder)
    assert {"artifacts/corpus/manifest.parquet", "artifacts/vqvae/model.safetensors"} <= set(made)
    first_run: Finished = request.getfixturevalue("first_run")  # which another process makes meanwhile
    assert made.items() <= first_run.hashes.items()
    assert left_behind(project.folder) == []


def training(project: Project) -> "subprocess.Popen[str]":
    """`make repro`, at the moment the codec's training opens its MLflow run."""
    database = project.folder / "mlflow.db"
    before = database.stat().st_mtime_ns if database.exists() else 0
    process = project.start("stages.repro")
    until(lambda: database.exists() and database.stat().st_mtime_ns != before, process)
    return process


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_twenty_kills_at_any_moment_end_with_the_same_bytes(
    project: Project, request: pytest.FixtureRequest, exhaustive: bool
) -> None:
    """SIGKILL of all processes of `make repro`, each time after a random part of the time that a whole run takes."""
    if not exhaustive:
        pytest.skip("takes minutes: make faults")
    first_run: Finished = request.getfixturevalue("first_run")
    give_labelled_sounds(project)
    draw, kills, seconds = random.Random(0), 0, 0.0
    while kills < 20:
        began = time.monotonic()
        process = project.start("stages.repro")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(draw.uniform(0, seconds) if seconds else None)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        said = "".join(process.communicate(timeout=SECONDS))
        if process.returncode == 0:
            assert hashes(project.folder) == first_run.hashes
            seconds = seconds or time.monotonic() - began
            for name in ("artifacts", "models", "metrics", ".dvc/cache", ".dvc/tmp", ".distill", "dvc.lock"):
                remove(project.folder / name)
        assert process.returncode in (0, -signal.SIGKILL), said
    done = project.stage("repro")
    assert done.returncode == 0, done.stderr
    assert hashes(project.folder) == first_run.hashes
    assert left_behind(project.folder) == []


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
