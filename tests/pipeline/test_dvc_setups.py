"""Setups of DVC that teams have: links into a shared cache, recordings that were imported, files that DVC leaves out."""

import shutil
from pathlib import Path

from distill.audio.corpus import read_manifest
from pipeline.project import AUTHOR, Project, executed, write_sounds


def test_results_are_links_into_a_cache_that_projects_share(project: Project, tmp_path: Path) -> None:
    """A second project of the same recordings takes all results from it; a change and its way back leave it whole."""
    write_sounds(project.folder / "sounds")
    cache = tmp_path / "shared cache"
    for setting in (
        ("cache", "dir", str(cache)),
        ("config", "cache.type", "symlink"),
        ("config", "cache.shared", "group"),
    ):
        assert project.dvc(*setting).returncode == 0
    other = Project(tmp_path / "other")
    shutil.copytree(project.folder, other.folder, ignore=shutil.ignore_patterns(".distill"))
    project.done("repro")
    hashes = project.hashes()
    assert (project.folder / "models/tiny.distill").is_symlink()
    again = project.dvc("repro")
    assert (again.returncode, executed(again.stdout)) == (0, []), again.stderr
    taken = other.dvc("repro")
    assert taken.returncode == 0, taken.stdout + taken.stderr
    assert not {"train_vqvae", "train_prior", "encode_codes"} & set(executed(taken.stdout))
    assert other.hashes() == hashes
    project.set(prior={"epochs": 1})
    project.done("repro")
    assert project.hashes() != hashes
    assert other.hashes() == hashes  # nothing was written through the links
    project.set(prior={"epochs": 2})
    project.done("repro")
    assert project.hashes() == hashes


def test_imported_recordings_are_learnt_again_once_they_are_updated(project: Project, tmp_path: Path) -> None:
    write_sounds(tmp_path / "elsewhere")
    imported = project.dvc("import-url", str(tmp_path / "elsewhere"), "sounds")
    assert imported.returncode == 0, imported.stderr
    project.done("repro")
    first = project.hashes()
    (tmp_path / "elsewhere" / sorted(path.name for path in (tmp_path / "elsewhere").iterdir())[0]).unlink()
    updated = project.dvc("update", "sounds.dvc")
    assert updated.returncode == 0, updated.stderr
    assert "ingest" in executed(project.done("repro").stdout)
    assert project.hashes() != first
    assert len(read_manifest(project.folder / "artifacts/corpus/manifest.parquet")) == 7


def test_recordings_that_dvc_leaves_out_are_refused_as_it_would_see_no_change_in_them(project: Project) -> None:
    write_sounds(project.folder / "sounds", 4)
    write_sounds(project.folder / "sounds/rejects", 1)
    with (project.folder / ".dvcignore").open("a") as rules:
        rules.write("sounds/rejects\n*.txt\n")
    (project.folder / "sounds/notes.txt").touch()  # which nothing learns
    assert project.refused("repro") == (
        "params.yaml: corpus.path: expected entries that DVC can hash, found 1 others in sounds "
        "(rejects/plucked_string_a2_soft.flac.wav: .dvcignore leaves it out, so DVC sees no change in it); rename or "
        "remove them"
    )


def test_a_project_without_git_runs_and_has_experiments_once_there_is_a_repository(copied: Project) -> None:
    """As in an archive of the sources that was downloaded."""
    assert "is not a git repository" in copied.dvc("repro").stderr
    copied.set(audition={"count": 1})
    done = copied.done("repro")
    assert done.stderr.startswith("DVC: expected a git repository, found none: core.no_scm is set in .dvc/config.local")
    assert executed(done.stdout) == ["audition"]
    assert executed(copied.dvc("repro").stdout) == []  # DVC by itself works, too
    compared = copied.fork("stages.ops.comparison").end()
    assert (compared.returncode, compared.stdout) == (2, "")
    assert compared.stderr.startswith("experiments: expected a git repository with a commit")

    copied.commit()
    done = copied.done("repro")
    assert done.stderr.startswith("DVC: found a git repository: core.no_scm is removed from .dvc/config.local")
    ran = copied.dvc("exp", "run", "--name", "two", "-S", "prior.epochs=1", **AUTHOR)
    assert (ran.returncode, executed(ran.stdout)[-2:]) == (0, ["bundle", "audition"]), ran.stderr
    replaced = (
        "models/tiny.distill: now the model of the experiment two; `git restore . && dvc checkout` puts back that of"
    )
    assert replaced in " ".join((ran.stdout + ran.stderr).split())
    lines = copied.fork("stages.ops.comparison").end().stdout.splitlines()
    assert "val_bits_per_second (lower is better)" in lines[0]
    assert {line.split()[0] for line in lines[1:4]} == {"your", "commit", "two"}
    assert lines[-1] == "1 experiment; to take one: dvc exp apply NAME"
