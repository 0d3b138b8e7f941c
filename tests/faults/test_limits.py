"""Limits of the system: a sentence, and nothing half-written."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from faults.disk import mount_works
from pipeline.project import new_project, write_sounds
from unit.tiny import write_prior_model

from distill.errors import for_the_user
from stages import repro

GENERATE = (sys.executable, "-m", "distill", "generate", "a.distill", "-n", "3", "--seed", "1", "--seconds", "1")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_file_that_may_not_grow_is_a_sentence_without_home_or_temporary_folder(tmp_path: Path) -> None:
    import resource

    write_prior_model(tmp_path / "a.distill")
    done = subprocess.run(
        GENERATE,
        cwd=tmp_path,
        env={
            **os.environ,
            "HOME": "/dev/null/nowhere",
            "TMPDIR": "/dev/null/nowhere",
            "PYTHONDONTWRITEBYTECODE": "1",  # Python would keep files of its own that the limit cuts off
        },
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "distill: generated/a_1_000.wav: expected to read and write there, found: File too large; "
        "raise the limit of file sizes and run again"
    )
    assert list((tmp_path / "generated").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of address space")
def test_too_little_memory_for_a_stage_to_start_is_a_sentence(tmp_path: Path) -> None:
    import resource

    root = Path(__file__).parents[2]
    shutil.copy(root / "params.yaml", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "stages.train_vqvae"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 29, 2 << 29)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("train_vqvae: memory: expected enough for this work, found no more; close other")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")]
)
def test_no_more_processes_are_a_sentence(error: Exception) -> None:
    assert str(for_the_user(error)).startswith("processes: expected to start one more process or thread, found that")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder in which nobody may make one")
def test_a_pipeline_that_cannot_keep_its_state_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    (tmp_path / "data/demo").mkdir(parents=True)
    (tmp_path / ".distill").symlink_to("/sys/kernel")
    assert repro.main([]) == 2
    assert capsys.readouterr().err.startswith(".distill/repro: expected to read and write there, found: ")


@pytest.mark.skipif(not mount_works(), reason="needs Linux, and root to mount a disk")
def test_a_pipeline_in_a_folder_that_cannot_be_written_to_is_a_sentence(tmp_path: Path, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("takes seconds: make faults")
    project = new_project(tmp_path / "project")
    write_sounds(project.folder / "sounds", 2)
    program = (
        f"mount --bind {project.folder} {project.folder} && mount -o remount,ro,bind {project.folder} && "
        f"cd {project.folder} && exec {sys.executable} -m stages.repro"
    )
    done = project.run("unshare", "-m", "sh", "-c", program)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip() == (
        ".distill: expected to read and write there, found: Read-only file system; "
        "choose a place that can be written to and run again"
    )
