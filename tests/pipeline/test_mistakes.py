"""Wrong input, through DVC and `make repro`'s entry point; and a corpus that is as small as it may be."""

import os
from pathlib import Path

import pytest
from pipeline.project import STAGES, Project, left_behind, write_sounds

from distill.pipeline.workspace import workplace


def refused(project: Project, **environment: str) -> str:
    """The sentence with which `make repro` is refused."""
    done = project.stage("repro", **environment)
    assert done.returncode == 2, done.stderr
    return done.stderr.strip()


def test_an_empty_folder_is_one_sentence_and_exit_2(project: Project) -> None:
    (project.folder / "sounds").mkdir()
    done = project.stage("ingest")
    assert done.returncode == 2
    assert done.stderr.startswith("ingest: sounds: expected")
    assert "Traceback" not in done.stderr
    assert not (project.folder / "artifacts/corpus").exists()
    assert left_behind(project.folder) == []


def test_wrong_settings_and_folders_are_refused(project: Project) -> None:
    """A missing folder, another process at work, entries that DVC cannot hash, and an unknown setting."""
    assert refused(project) == (
        "params.yaml: corpus.path: expected a folder of recordings, found nothing there at sounds; "
        "set it to the folder with your sounds"
    )
    sounds = project.folder / "sounds"
    write_sounds(sounds, 2)
    with workplace(project.folder / ".distill/repro"):
        assert refused(project) == (
            ".distill/repro: expected no other process with this pipeline, found one that holds the lock; wait until it ends"
        )
    (sounds / "nowhere.wav").symlink_to("missing.wav")
    os.mkfifo(sounds / "pipe.wav")
    Path(os.fsdecode(os.fsencode(sounds) + b"/caf\xe9.wav")).touch()
    assert refused(project) == (
        "params.yaml: corpus.path: expected entries that DVC can hash, found 3 others in sounds (caf\\xe9.wav: its name is "
        "not UTF-8; nowhere.wav: a link that leads nowhere; pipe.wav: neither a file nor a folder); rename or remove them"
    )
    project.set(prior={"epoch": 3})
    said = refused(project)
    assert "params.yaml: prior.epoch: expected a known key" in said
    assert "did you mean prior.epochs?" in said


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("s3://none-such/takes", "s3://none-such/takes: expected"),
        ("s3:/", "s3:/: expected an address such as s3://bucket/prefix, found no bucket in it"),
        (
            "~/nowhere",
            "expected a folder of recordings, found nothing there at ~/nowhere, in which ~ is no home folder",
        ),
    ],
)
@pytest.mark.usefixtures("store")
def test_a_wrong_place_is_one_sentence(project: Project, path: str, said: str) -> None:
    project.set(corpus={"path": path})
    assert said in refused(project)


def test_one_usable_recording_says_how_many_are_needed(project: Project) -> None:
    """By the status and the sentence of the stage, through DVC; also after a run that a clock dated into the future."""
    write_sounds(project.folder / "sounds", 1)
    (project.folder / ".distill").mkdir()
    (project.folder / ".distill/stages.jsonl").write_text(
        '{"stage": "ingest", "started": 9e9, "seconds": 1, "exit": 1}\n'
    )
    done = project.stage("repro")
    assert done.returncode == 2
    assert "found 1 usable recording" in done.stderr


def test_two_recordings_are_enough(project: Project) -> None:
    write_sounds(project.folder / "sounds", 2)
    for name in STAGES:
        done = project.stage(name)
        assert done.returncode == 0, done.stderr
    assert (project.folder / "artifacts/audition/index.html").exists()
