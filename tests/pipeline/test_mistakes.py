"""Wrong input, through DVC and `make repro`'s entry point."""

import os
import signal
import time
from pathlib import Path

from pipeline.project import Project, left_behind, write_sounds

from distill.pipeline.workspace import workplace


def test_an_empty_folder_is_one_sentence_and_exit_2(project: Project) -> None:
    (project.folder / "sounds").mkdir()
    done = project.python_m("stages.repro")
    assert done.returncode == 2
    assert "ingest: sounds: expected" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.folder / "artifacts/corpus").exists()
    assert left_behind(project.folder) == []


def test_a_missing_folder_names_the_setting(project: Project) -> None:
    done = project.python_m("stages.repro")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "params.yaml: corpus.path: expected a folder of recordings, found nothing there at sounds; "
        "set it to the folder with your sounds"
    )


def test_two_recordings_are_enough(project: Project) -> None:
    write_sounds(project.folder / "sounds", 2)
    done = project.python_m("stages.repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project.folder / "artifacts/audition/index.html").exists()
    assert "held-out sound" in done.stdout


def test_a_second_pipeline_in_the_same_folder_is_refused(project: Project) -> None:
    write_sounds(project.folder / "sounds", 2)
    with workplace(project.folder / ".distill/repro"):
        done = project.python_m("stages.repro")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        ".distill/repro: expected no other process with this pipeline, found one that holds the lock; wait until it ends"
    )


def test_what_dvc_cannot_hash_is_listed(project: Project) -> None:
    sounds = project.folder / "sounds"
    write_sounds(sounds, 2)
    (sounds / "nowhere.wav").symlink_to("missing.wav")
    os.mkfifo(sounds / "pipe.wav")
    Path(os.fsdecode(os.fsencode(sounds) + b"/caf\xe9.wav")).touch()
    done = project.python_m("stages.repro")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "params.yaml: corpus.path: expected entries that DVC can hash, found 3 others in sounds (caf\\xe9.wav: its name is "
        "not UTF-8; nowhere.wav: a link that leads nowhere; pipe.wav: neither a file nor a folder); rename or remove them"
    )


def test_a_wrong_key_names_file_key_and_the_nearest(project: Project) -> None:
    project.set(prior={"epoch": 3})
    write_sounds(project.folder / "sounds", 2)
    done = project.python_m("stages.repro")
    assert done.returncode == 2
    assert "params.yaml: prior.epoch: expected a known key" in done.stderr
    assert "did you mean prior.epochs?" in done.stderr


def test_one_usable_recording_says_how_many_are_needed(project: Project) -> None:
    """Also after a run that a clock dated into the future."""
    write_sounds(project.folder / "sounds", 1)
    (project.folder / ".distill").mkdir()
    (project.folder / ".distill/stages.jsonl").write_text(
        '{"stage": "ingest", "started": 9e9, "seconds": 1, "exit": 1}\n'
    )
    done = project.python_m("stages.repro")
    assert done.returncode == 2
    assert "found 1 usable recording" in done.stderr


def test_a_stage_that_the_system_kills_is_named(project: Project) -> None:
    write_sounds(project.folder / "sounds", 2)
    project.set(vqvae={"epochs": 100_000, "patience": 0})
    process = project.start(str(project.python), "-m", "stages.repro")
    at_work, deadline = project.folder / ".distill/at_work.txt", time.monotonic() + 120
    while not at_work.exists() or not (words := at_work.read_text().split()) or words[0] != "train_vqvae":
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(int(words[1]), signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert "train_vqvae: expected it to end by itself, found that it was killed or crashed; if memory ran out" in output
    assert "Traceback" not in output
