"""What docs/dvc.md says of DVC's commands: each row of its table is tried."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from distill.audio.corpus import read_manifest
from distill.model_file.build import card_path
from object_store import Store
from pipeline.project import AUTHOR, Project, executed, write_sounds
from programs import until
from stages.prepare import PREPARED


def git(project: Project, *arguments: str) -> str:
    environment = {**os.environ, **AUTHOR}
    done = subprocess.run(["git", *arguments], cwd=project.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dvc(project: Project, *arguments: str, **environment: str) -> list[str]:
    """Run DVC, and return the stages that ran."""
    done = project.dvc(*arguments, **AUTHOR, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return executed(done.stdout)


def sounds_of(project: Project) -> int:
    """How many sounds the audition has."""
    metrics = json.loads((project.folder / "metrics/audition.json").read_text())
    return sum(int(metrics[verdict]) for verdict in ("new", "close", "copies"))


def results(project: Project) -> dict[str, str]:
    """What DVC shares: all results but the file that tells one place from another."""
    return {name: value for name, value in project.hashes().items() if name != PREPARED.as_posix()}


@pytest.fixture
def accented(copied: Project, tmp_path: Path) -> Project:
    """A copy of the finished project under git, in a folder whose path has spaces and accents."""
    (tmp_path / "Stücke 1").mkdir()
    return Project(copied.folder.rename(tmp_path / "Stücke 1/my project"))


def test_queued_and_temporary_experiments_run_on_recordings_that_git_does_not_track(accented: Project) -> None:
    """In a folder of the project that git knows in part, and beside the project."""
    folder, before = accented.folder, results(accented)
    first, *others = sorted(path.name for path in (folder / "sounds").iterdir())
    git(accented, "init", "-q")
    (folder / ".git/info/exclude").write_text("".join(f"/sounds/{name}\n" for name in others))
    accented.commit()

    def tracked() -> set[str]:
        return {line.split("/")[1] for line in git(accented, "ls-files", "sounds").splitlines()}

    assert tracked() == {first}
    dvc(accented, "exp", "run", "--queue", "--name", "queued", "-S", "audition.count=1")
    with accented.start("dvc", "queue", "start") as process:
        assert process.wait() == 0
    until(lambda: "/queued" in git(accented, "for-each-ref", "refs/exps"))
    assert tracked() == {first}

    (folder / "sounds").rename(folder.parent / "my sounds")
    accented.set(corpus={"path": "../my sounds"})
    assert dvc(accented, "repro") == ["prepare", "ingest"]
    assert results(accented) == before  # DVC remembers the first run
    (new := folder.parent / "my sounds/new.wav").write_text("another file")
    assert "modified" in accented.dvc("status", "ingest").stdout
    new.unlink()
    assert dvc(accented, "exp", "run", "--temp", "-S", "audition.count=3") == ["prepare", "audition"]
    assert sounds_of(accented) == 2
    dvc(accented, "exp", "apply", "queued")
    assert sounds_of(accented) == 1
    assert not any(path.is_symlink() for path in (folder / "sounds").rglob("*"))


def test_recordings_may_lie_in_a_bucket(project: Project, store: Store, tmp_path: Path) -> None:
    write_sounds(tmp_path / "sounds", between="/")
    project.set(corpus={"path": store.upload(tmp_path / "sounds", "takes")})
    assert dvc(project, "repro", "ingest") == ["prepare", "ingest"]
    rows = read_manifest(project.folder / "artifacts/corpus/manifest.parquet")
    assert [row.status for row in rows] == ["used"] * 8
    store.put("takes/new.wav", b"another object")
    assert "changed deps" in project.dvc("status", "ingest").stdout


def test_results_and_experiments_go_to_another_computer(copied: Project, store: Store, tmp_path: Path) -> None:
    """Also where `dvc pull` fails half-way: `make repro` pulls what is missing and computes nothing."""
    made = results(copied)
    copied.commit()
    bare, other = tmp_path / "shared.git", Project(tmp_path / "other")
    git(copied, "init", "-q", "--bare", str(bare))
    git(copied, "remote", "add", "origin", str(bare))
    dvc(copied, "remote", "add", "-q", "-d", "store", f"s3://{store.bucket}/results")
    git(copied, "commit", "-qam", "a remote")
    assert dvc(copied, "exp", "run", "--name", "one", "-S", "audition.count=1") == ["audition"]
    assert sounds_of(copied) == 1
    git(copied, "restore", ".")
    assert dvc(copied, "repro") == []  # back to the settings of before
    assert (results(copied), sounds_of(copied)) == (made, 2)
    dvc(copied, "push")
    git(copied, "push", "-q", "origin", "HEAD")
    dvc(copied, "exp", "push", "origin", "one")
    dvc(copied, "exp", "branch", "one", "branch-of-one")

    git(copied, "clone", "-q", str(bare), str(other.folder))
    objects = list(store.sizes("results/files"))
    assert 10 < len(objects) < 100
    with store.without(objects[::2]):
        assert other.dvc("pull").returncode != 0
        assert results(other) != made
    done = other.done("repro")
    assert "from the remote store; PULL=0 computes them instead" in done.stderr
    assert executed(done.stdout) == ["prepare"]
    assert results(other) == made
    dvc(other, "exp", "pull", "origin", "one")
    dvc(other, "exp", "apply", "one")
    applied = results(other)
    assert sounds_of(other) == 1

    dvc(copied, "gc", "-w", "-f")
    assert results(copied) == made
    git(copied, "checkout", "-q", "branch-of-one")
    dvc(copied, "pull")  # the cache has them no more
    assert results(copied) == applied


def test_a_model_that_the_pipeline_did_not_make_is_kept(copied: Project) -> None:
    """One that `distill train` may have made, whose name the pipeline takes; another prior in the pipeline's own."""
    copied.commit()
    theirs = copied.folder / "models/theirs.distill"
    theirs.write_text("trained")
    card_path(theirs).write_text("a card")
    copied.set(bundle={"name": "theirs"})
    assert dvc(copied, "repro") == ["prepare", "bundle", "audition"]
    kept = theirs.with_name("theirs-kept-1.distill")
    assert (kept.read_text(), card_path(kept).read_text()) == ("trained", "a card")

    made = theirs.read_bytes()
    theirs.write_text("with another prior")
    copied.set(audition={"count": 1})
    done = copied.done("repro")
    assert executed(done.stdout) == ["audition"]
    assert "models/theirs.distill: expected the one that the pipeline made, found another, which is kept" in done.stderr
    assert theirs.with_name("theirs-kept-2.distill").read_text() == "with another prior"
    assert theirs.read_bytes() == made
