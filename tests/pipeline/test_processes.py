"""A training stage over two processes: it trains as one, also when it is asked to stop and one of them is killed."""

import json
import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest
from pipeline.project import Project, give_labelled_sounds, hashes, left_behind
from programs import Forked, until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="gloo over processes is not supported on Windows")


def in_two(project: Project, stage: str = "train_vqvae") -> Forked:
    """Start a stage over two processes."""
    return project.fork(f"stages.{stage}", DISTILL_PROCESSES="2")


def test_two_processes_train_a_stage_as_one(copied: Project) -> None:
    """One artefact, no checkpoints left behind; and nearly the result of one process."""
    for stage in ("train_vqvae", "train_prior"):
        metrics, artefact = copied.folder / f"metrics/{stage}.json", copied.folder / "artifacts" / stage[6:]
        before, files = json.loads(metrics.read_text()), {path.name for path in artefact.iterdir()}
        done = in_two(copied, stage).end()
        assert done.returncode == 0, done.stderr[-3000:]
        after = json.loads(metrics.read_text())
        assert after["epochs_trained"] == before["epochs_trained"]
        assert abs(after["val_loss"] / before["val_loss"] - 1) < 0.1  # dropout differs
        assert {path.name for path in artefact.iterdir()} == files
    log = [json.loads(line) for line in (copied.folder / ".distill/stages.jsonl").read_text().splitlines()]
    assert [(entry["stage"], entry["exit"]) for entry in log] == [("train_vqvae", 0), ("train_prior", 0)]
    assert not list((copied.folder / ".distill/checkpoints").glob("*"))


def test_wrong_input_is_said_and_not_tried_again(project: Project) -> None:
    give_labelled_sounds(project)
    assert project.stage("train_vqvae", DISTILL_PROCESSES="two").stderr.splitlines() == [
        "train_vqvae: DISTILL_PROCESSES: expected auto or a whole number from 1 to 1024, found 'two'"
    ]
    project.set(vqvae={"batch_size": 1})
    assert project.stage("ingest").returncode == 0
    done = in_two(project).end()
    assert done.returncode == 2
    assert "train_vqvae: vqvae.batch_size: expected at least 2, a crop for each process, found 1;" in done.stderr
    assert "train_vqvae: ended with its processes, which say above why" in done.stderr
    assert "start again" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stopped_and_a_killed_training_end_with_the_same_bytes(
    project: Project, tmp_path: Path, exhaustive: bool
) -> None:
    if not exhaustive:
        pytest.skip("half a minute: make faults")
    give_labelled_sounds(project)
    project.set(vqvae={"epochs": 12})
    assert project.stage("ingest").returncode == 0
    other = Project(tmp_path / "undisturbed")
    shutil.copytree(project.folder, other.folder)
    undisturbed = in_two(other)
    stop(project)
    kill_one(project)
    assert undisturbed.end().returncode == 0, undisturbed.stderr
    assert hashes(project.folder) == hashes(other.folder)
    assert "artifacts/vqvae/model.safetensors" in hashes(project.folder)
    for folder in (project.folder, other.folder):
        assert left_behind(folder) == []
        assert not list((folder / ".distill/checkpoints").iterdir())
        assert not (folder / ".distill/at_work.txt").exists()
    logged = [json.loads(line) for line in (project.folder / ".distill/stages.jsonl").read_text().splitlines()]
    assert [(entry["stage"], entry["exit"]) for entry in logged[1:]] == [("train_vqvae", 143), ("train_vqvae", 0)]


def stop(project: Project) -> None:
    """SIGTERM to the stage: all its processes save, and none is left."""
    process = in_two(project)
    workers = started(project, process)
    os.kill(workers[0].ppid(), signal.SIGTERM)
    process.end()
    assert process.returncode == 143, process.stderr
    assert process.stderr.count("interrupted by SIGTERM: training is saved after step") == 1
    assert "train_vqvae: interrupted by SIGTERM, and so were its 2 processes" in process.stderr
    assert "Traceback" not in process.stderr
    assert not psutil.wait_procs(workers, timeout=30)[1]


def kill_one(project: Project) -> None:
    """SIGKILL to one of the processes: all start again, from the checkpoint of the one that was stopped."""
    process = in_two(project)
    started(project, process, steps=3)[1].kill()
    assert process.end().returncode == 0, process.stderr
    assert "train_vqvae: a process was killed by SIGKILL; all start again from the last checkpoint" in process.stderr


def started(project: Project, process: Forked, steps: int = 1) -> list[psutil.Process]:
    """The two processes of the stage, once their training has come to so many steps."""
    note = project.folder / ".distill/at_work.txt"

    def workers() -> list[psutil.Process]:
        if not note.exists() or project.steps("codec") < steps:
            return []
        found = psutil.Process(int(note.read_text().split()[1])).children()
        return found if len(found) == 2 else []

    found: list[psutil.Process] = until(workers, process)
    return found
