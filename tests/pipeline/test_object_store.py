"""Recordings and results in an object store: a server of S3's protocol on this computer."""

import shutil
from pathlib import Path

from object_store import Store
from pipeline.project import Project, executed, write_sounds

from distill.audio.corpus import read_manifest


def test_recordings_in_a_bucket_are_ingested_as_those_of_a_folder(
    project: Project, store: Store, tmp_path: Path
) -> None:
    write_sounds(tmp_path / "sounds", between="/")
    project.set(corpus={"path": store.upload(tmp_path / "sounds", "takes")})
    first = project.dvc("repro", "ingest")
    assert (first.returncode, executed(first.stdout)) == (0, ["prepare", "ingest"]), first.stderr
    there = project.hashes()
    store.put("takes/new.wav", next((tmp_path / "sounds").rglob("*.wav")).read_bytes()[:20_000])
    assert "changed deps" in project.dvc("status", "ingest").stdout
    project.done("ingest")
    rows = read_manifest(project.folder / "artifacts" / "corpus" / "manifest.parquet")
    assert "new.wav" in {row.path for row in rows}
    project.set(corpus={"path": str(tmp_path / "sounds")})
    project.done("ingest")
    assert project.hashes() == there


def test_results_are_shared_by_a_remote(copied: Project, store: Store, tmp_path: Path) -> None:
    """`dvc push`; in a clone `dvc pull` fails half-way, and `make repro` pulls what is missing and computes nothing."""
    made = copied.hashes()
    copied.commit()
    assert copied.dvc("remote", "add", "-q", "-d", "store", f"s3://{store.bucket}/results").returncode == 0
    pushed = copied.dvc("push")
    assert pushed.returncode == 0, pushed.stderr
    objects = store.sizes("results/files")
    assert 10 < len(objects) < 100

    lost = list(objects)[: len(objects) // 2]
    kept = {key: store.client.get_object(Bucket=store.bucket, Key=key)["Body"].read() for key in lost}
    for key in lost:
        store.remove(key)
    ignored = shutil.ignore_patterns(".git", "artifacts", "models", ".distill", "cache", "tmp")
    shutil.copytree(copied.folder, tmp_path / "other", ignore=ignored)
    other = Project(tmp_path / "other")
    other.commit()
    assert other.dvc("pull").returncode != 0
    assert other.hashes() != made
    for key, content in kept.items():
        store.put(key, content)
    done = other.done("repro")
    assert "from the remote store; PULL=0 computes them instead" in done.stderr
    assert executed(done.stdout) == ["prepare"]
    assert other.hashes() == made
