"""Ctrl-C and kills in the middle of `make repro`: the codec is, in the end, the one of a run without them."""

import contextlib
import os
import random
import re
import signal
import subprocess
import time

import pytest

from pipeline.conftest import Finished
from pipeline.project import Project, remove
from programs import SECONDS, until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def test_an_interrupted_and_a_killed_stage_go_on_to_the_same_bytes(
    project: Project, request: pytest.FixtureRequest
) -> None:
    """SIGKILL of the first stage alone, then Ctrl-C in the codec's fit or training; then this to the end."""
    project.give_labelled_sounds()
    at_work, database = project.folder / ".distill/at_work.txt", project.folder / "mlflow.db"
    process = project.fork("stages.repro")
    name, number = until(lambda: at_work.exists() and at_work.read_text().split(), process)
    os.kill(int(number), signal.SIGKILL)
    said = "".join(process.communicate())
    assert process.returncode == 2, said
    assert f"{name}: expected it to end by itself, found that it was killed or crashed; if memory ran out" in said
    assert "Traceback" not in said

    before = database.stat().st_mtime_ns
    process = project.fork("stages.repro")
    until(lambda: database.stat().st_mtime_ns != before, process)  # the training opens its run
    process.send_signal(signal.SIGINT)
    said = "".join(process.communicate())
    assert process.returncode != 0
    assert re.search("interrupted by SIGINT: (training is saved after|before the first) step", said)
    assert "Traceback" not in said
    assert not (project.folder / "artifacts/vqvae").exists()

    project.done("train_vqvae")
    made = project.hashes()
    assert {"artifacts/corpus/manifest.parquet", "artifacts/vqvae/model.safetensors"} <= set(made)
    first_run: Finished = request.getfixturevalue("first_run")  # which another process makes meanwhile
    assert made.items() <= first_run.hashes.items()
    assert project.left_behind() == []


def test_twenty_kills_at_any_moment_end_with_the_same_bytes(
    project: Project, request: pytest.FixtureRequest, exhaustive: bool
) -> None:
    """SIGKILL of all processes of `make repro`, each time after a random part of the time that a whole run takes."""
    if not exhaustive:
        pytest.skip("takes minutes: make faults")
    first_run: Finished = request.getfixturevalue("first_run")
    project.give_labelled_sounds()
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
            assert project.hashes() == first_run.hashes
            seconds = seconds or time.monotonic() - began
            for name in ("artifacts", "models", "metrics", ".dvc/cache", ".dvc/tmp", ".distill", "dvc.lock"):
                remove(project.folder / name)
        assert process.returncode in (0, -signal.SIGKILL), said
    project.done("repro")
    assert project.hashes() == first_run.hashes
    assert project.left_behind() == []
