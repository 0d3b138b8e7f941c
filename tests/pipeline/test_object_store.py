"""Recordings and results in an object store: a server of S3's protocol on this computer."""

import shutil
from pathlib import Path

import pytest
from object_store import Store
from pipeline.project import Project, executed, hashes, write_sounds

from distill.audio.corpus import read_manifest


def configured(project: Project, store: Store) -> Project:
    project.environment = {**project.environment, **store.environment}
    for arguments in (("add", "-q", "-d", "store", f"s3://{store.bucket}/results"),):
        assert project.dvc("remote", *arguments).returncode == 0
    return project


def clone(project: Project, folder: Path, store: Store) -> Project:
    """A fresh clone of the project as it is now, without results."""
    shutil.copytree(
        project.folder, folder, ignore=shutil.ignore_patterns(".git", "artifacts", "models", ".distill", "cache", "tmp")
    )
    copy = Project(folder, project.python)
    copy.environment = {**copy.environment, **store.environment}
    assert copy.run("git", "init", "-q").returncode == 0
    return copy


def test_recordings_in_a_bucket_are_ingested_as_those_of_a_folder(
    project: Project, store: Store, tmp_path: Path
) -> None:
    write_sounds(tmp_path / "sounds", between="/")
    project.environment = {**project.environment, **store.environment}
    project.set(corpus={"path": store.upload(tmp_path / "sounds", "takes")})
    first = project.dvc("repro", "ingest")
    assert (first.returncode, executed(first)) == (0, ["ingest"]), first.stderr
    there = hashes(project.folder)
    assert executed(project.dvc("repro", "ingest")) == []
    store.put("takes/new.wav", next((tmp_path / "sounds").rglob("*.wav")).read_bytes()[:20_000])
    assert executed(project.dvc("repro", "ingest")) == ["ingest"]
    rows = read_manifest(project.folder / "artifacts" / "corpus" / "manifest.parquet")
    assert "new.wav" in {row.path for row in rows}
    store.remove("takes/new.wav")
    project.set(corpus={"path": str(tmp_path / "sounds")})
    assert executed(project.dvc("repro", "ingest")) == ["ingest"]
    assert hashes(project.folder) == there


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("s3://none-such/takes", "s3://none-such/takes: expected"),
        ("s3:/", "s3:/: expected an address such as s3://bucket/prefix, found no bucket in it"),
        (
            "~/nowhere",
            "params.yaml: corpus.path: expected a folder of recordings, found nothing there at ~/nowhere, in",
        ),
    ],
)
def test_a_wrong_place_is_one_sentence(project: Project, store: Store, path: str, said: str) -> None:
    project.environment = {**project.environment, **store.environment}
    project.set(corpus={"path": path})
    done = project.python_m("stages.repro")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


def test_results_are_shared_by_a_remote(copied: Project, store: Store, tmp_path: Path) -> None:
    """`dvc push`; in a clone `dvc pull` fails half-way, and `make repro` pulls what is missing and computes nothing."""
    made = hashes(copied.folder)
    assert copied.run("git", "init", "-q").returncode == 0
    source = configured(copied, store)
    pushed = source.dvc("push")
    assert pushed.returncode == 0, pushed.stderr
    objects = store.sizes("results/files")
    assert 10 < len(objects) < 100

    lost = list(objects)[: len(objects) // 2]
    kept = {key: store.client.get_object(Bucket=store.bucket, Key=key)["Body"].read() for key in lost}
    for key in lost:
        store.remove(key)
    other = clone(source, tmp_path / "other", store)
    assert other.dvc("pull").returncode != 0
    assert hashes(other.folder) != made
    for key, content in kept.items():
        store.put(key, content)
    done = other.python_m("stages.repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "from the remote store; PULL=0 computes them instead" in done.stderr
    assert not executed(done)
    assert hashes(other.folder) == made
