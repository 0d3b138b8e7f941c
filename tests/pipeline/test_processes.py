"""A training stage over two processes: it trains as one, also when it is asked to stop and one of them is killed."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from pipeline.project import Project
from programs import Forked, until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="gloo over processes is not supported on Windows")
TWO = {"DISTILL_PROCESSES": "2"}


def test_two_processes_train_a_stage_as_one(copied: Project) -> None:
    """One artefact, no checkpoints left behind; and nearly the result of one process."""
    metrics, artefact = copied.folder / "metrics/train_prior.json", copied.folder / "artifacts/prior"
    before, files = json.loads(metrics.read_text()), {path.name for path in artefact.iterdir()}
    copied.done("train_prior", **TWO)
    after = json.loads(metrics.read_text())
    assert after["epochs_trained"] == before["epochs_trained"]
    assert abs(after["val_loss"] / before["val_loss"] - 1) < 0.1  # dropout differs
    assert {path.name for path in artefact.iterdir()} == files
    assert copied.stage_log() == [("train_prior", 0)]
    assert copied.left_behind() == []


def test_a_stopped_and_a_killed_training_end_with_the_same_bytes(
    project: Project, tmp_path: Path, exhaustive: bool
) -> None:
    """SIGTERM to the stage: all its processes save, and none is left. SIGKILL to one of them: all start again."""
    if not exhaustive:
        pytest.skip("half a minute: make faults")
    project.give_labelled_sounds()
    project.set(vqvae={"epochs": 12})
    project.done("ingest")
    other = Project(tmp_path / "undisturbed")
    shutil.copytree(project.folder, other.folder)
    undisturbed = other.fork("stages.train_vqvae", **TWO)

    process = project.fork("stages.train_vqvae", **TWO)
    workers = started(project, process)
    os.kill(workers[0].ppid(), signal.SIGTERM)
    assert process.end().returncode == 143, process.stderr
    said = re.findall("interrupted by SIGTERM: (?:training is saved after|before the first) step", process.stderr)
    assert len(said) == 1
    assert "train_vqvae: interrupted by SIGTERM, and so were its 2 processes" in process.stderr
    assert "Traceback" not in process.stderr
    assert not psutil.wait_procs(workers, timeout=30)[1]

    process = project.fork("stages.train_vqvae", **TWO)
    started(project, process, steps=3)[1].kill()
    assert process.end().returncode == 0, process.stderr
    assert "train_vqvae: a process was killed by SIGKILL; all start again from the last checkpoint" in process.stderr

    assert undisturbed.end().returncode == 0, undisturbed.stderr
    assert project.hashes() == other.hashes()
    for one in (project, other):
        assert one.left_behind() == []
        assert not (one.folder / ".distill/at_work.txt").exists()
    assert project.stage_log()[1:] == [("train_vqvae", 143), ("train_vqvae", 0)]


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
