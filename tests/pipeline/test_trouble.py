"""Wrong input and interruption, through DVC and `make repro`'s entry point."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pipeline.project import Project, executed, hashes, write_sounds

REPRO = (sys.executable, "-m", "stages.repro")


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.tmp")]


def test_an_empty_folder_is_one_sentence_and_exit_2(project: Project) -> None:
    (project.folder / "sounds").mkdir()
    done = project.run(*REPRO)
    assert done.returncode == 2
    assert "ingest: sounds: expected" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.folder / "artifacts/corpus").exists()
    assert left_behind(project.folder) == []


def test_a_missing_folder_names_the_setting(project: Project) -> None:
    done = project.run(*REPRO)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "params.yaml: corpus.path: expected a folder of recordings, found nothing there at sounds; "
        "set it to the folder with your sounds"
    )


def test_what_dvc_cannot_hash_is_listed(project: Project) -> None:
    sounds = project.folder / "sounds"
    write_sounds(sounds, 2)
    (sounds / "nowhere.wav").symlink_to("missing.wav")
    os.mkfifo(sounds / "pipe.wav")
    Path(os.fsdecode(os.fsencode(sounds) + b"/caf\xe9.wav")).touch()
    done = project.run(*REPRO)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "params.yaml: corpus.path: expected entries that DVC can hash, found 3 others in sounds (caf\\xe9.wav: its name is "
        "not UTF-8; nowhere.wav: a link that leads nowhere; pipe.wav: neither a file nor a folder); rename or remove them"
    )


def test_a_wrong_key_names_file_key_and_the_nearest(project: Project) -> None:
    project.set(prior={"epoch": 3})
    write_sounds(project.folder / "sounds", 2)
    done = project.run(*REPRO)
    assert done.returncode == 2
    assert "params.yaml: prior.epoch: expected a known key" in done.stderr
    assert "did you mean prior.epochs?" in done.stderr


def test_one_usable_recording_says_how_many_are_needed(project: Project) -> None:
    write_sounds(project.folder / "sounds", 1)
    done = project.run(*REPRO)
    assert done.returncode == 2
    assert "found 1 usable recording" in done.stderr


@pytest.mark.xdist_group("finished")
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_interrupted_training_goes_on_to_the_same_bytes(project: Project, finished: Project) -> None:
    """Ctrl-C in the codec's training, then SIGKILL in its second try, then to the end."""
    write_sounds(project.folder / "sounds")
    interrupt(project)
    kill(project)
    done = project.dvc("repro")
    assert done.returncode == 0, done.stdout + done.stderr
    ours, theirs = hashes(project.folder), hashes(finished.folder)
    assert ours == theirs
    assert left_behind(project.folder) == []
    assert executed(done)[-1] == "audition"


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
