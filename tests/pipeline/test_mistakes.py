"""Wrong input, through DVC and `make repro`'s entry point."""

import os
from pathlib import Path

from distill.pipeline.workspace import workplace
from pipeline.project import Project, write_sounds


def test_wrong_settings_and_folders_are_refused(project: Project) -> None:
    """Wrong places, an empty folder, one recording, another process at work, what DVC cannot hash, an unknown setting."""
    nowhere = "params.yaml: corpus.path: expected a folder of recordings, found nothing there at"
    assert project.refused("repro") == f"{nowhere} sounds; set it to the folder with your sounds"
    for path, said in {
        "s3:/": "s3:/: expected an address such as s3://bucket/prefix, found no bucket in it",
        "~/nowhere": f"{nowhere} ~/nowhere, in which ~ is no home folder for DVC",
    }.items():
        project.set(corpus={"path": path})
        assert project.refused("repro").startswith(said)
    project.set(corpus={"path": "sounds"})
    sounds = project.folder / "sounds"
    sounds.mkdir()
    assert project.refused("ingest").startswith("ingest: sounds: expected")
    assert not (project.folder / "artifacts/corpus").exists()
    assert project.left_behind() == []
    write_sounds(sounds, 1)
    assert "found 1 usable recording" in project.refused("repro")  # by the status and the sentence of the stage
    with workplace(project.folder / ".distill/repro"):
        assert project.refused("repro") == (
            ".distill/repro: expected no other process with this pipeline, found one that holds the lock; wait until it ends"
        )
    (sounds / "nowhere.wav").symlink_to("missing.wav")
    os.mkfifo(sounds / "pipe.wav")
    Path(os.fsdecode(os.fsencode(sounds) + b"/caf\xe9.wav")).touch()
    assert project.refused("repro") == (
        "params.yaml: corpus.path: expected entries that DVC can hash, found 3 others in sounds (caf\\xe9.wav: its name is "
        "not UTF-8; nowhere.wav: a link that leads nowhere; pipe.wav: neither a file nor a folder); rename or remove them"
    )
    project.set(prior={"epoch": 3})
    said = project.refused("repro")
    assert "params.yaml: prior.epoch: expected a known key" in said
    assert "did you mean prior.epochs?" in said
