"""A training stage over two processes: asked to stop, then one of them killed, it ends as one that nothing happened to."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from pipeline.project import Project, give_labelled_sounds, hashes, left_behind

pytestmark = pytest.mark.skipif(os.name == "nt", reason="gloo over processes is not supported on Windows")

TWO = {"DISTILL_PROCESSES": "2"}


def test_a_stopped_and_a_killed_training_end_with_the_same_bytes(
    project: Project, tmp_path: Path, exhaustive: bool
) -> None:
    if not exhaustive:
        pytest.skip("half a minute: make faults")
    give_labelled_sounds(project)
    project.set(vqvae={"epochs": 12})
    assert project.python_m("stages.ingest").returncode == 0
    other = Project(tmp_path / "undisturbed", project.python)
    shutil.copytree(project.folder, other.folder)
    undisturbed = start(other)
    stop(project)
    kill_one(project)
    output, _ = undisturbed.communicate(timeout=120)
    assert undisturbed.returncode == 0, output
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
    process = start(project)
    workers = started(project, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143, output
    assert output.count("interrupted by SIGTERM: training is saved after step") == 1
    assert "train_vqvae: interrupted by SIGTERM, and so were its 2 processes" in output
    assert "Traceback" not in output
    assert not psutil.wait_procs(workers, timeout=30)[1]


def kill_one(project: Project) -> None:
    """SIGKILL to one of the processes: all start again, from the checkpoint of the one that was stopped."""
    process = start(project)
    started(project, process, steps=3)[1].kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "train_vqvae: a process was killed by SIGKILL; all start again from the last checkpoint" in output


def start(project: Project) -> subprocess.Popen[str]:
    project.environment |= TWO
    return project.start(str(project.python), "-m", "stages.train_vqvae")


def started(project: Project, process: subprocess.Popen[str], steps: int = 1) -> list[psutil.Process]:
    """The two processes of the stage, once their training has come to so many steps."""
    note = project.folder / ".distill/at_work.txt"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if note.exists() and project.steps("codec") >= steps:
            name, number = note.read_text().split()
            assert name == "train_vqvae"
            workers = psutil.Process(int(number)).children()
            if len(workers) == 2:
                return workers
        time.sleep(0.02)
    raise AssertionError(process.communicate()[0] if process.poll() is not None else "too few steps within two minutes")


def test_wrong_input_is_said_and_not_tried_again(project: Project) -> None:
    give_labelled_sounds(project)
    project.set(vqvae={"batch_size": 1})
    assert project.python_m("stages.ingest").returncode == 0
    done = project.python_m("stages.train_vqvae", **TWO)
    assert done.returncode == 2
    assert "train_vqvae: vqvae.batch_size: expected at least 2, a crop for each process, found 1;" in done.stderr
    assert "train_vqvae: ended with its processes, which say above why" in done.stderr
    assert "start again" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_number_of_processes_is_one_sentence(project: Project) -> None:
    give_labelled_sounds(project)
    done = project.python_m("stages.train_vqvae", DISTILL_PROCESSES="two")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "train_vqvae: DISTILL_PROCESSES: expected auto or a whole number from 1 to 1024, found 'two'"
    ]
