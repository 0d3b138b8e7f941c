"""DVC's own files, cut off by a kill or a full disk."""

import errno
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml
from dvc.lock import make_lock
from dvc.repo import Repo
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.scm import Git, NoSCM, SCMError

from distill.errors import DistillError
from programs import until
from stages.ops import dvc
from stages.ops.dvc import LOCK, LOCKED

WHOLE = """\
schema: '2.0'
stages:
  ingest:
    cmd: python -m stages.ingest
    deps:
    - path: corpus
      hash: md5
      md5: 0123456789abcdef0123456789abcdef.dir
      size: 12
    outs:
    - path: artifacts/pcm
      hash: md5
      md5: fedcba9876543210fedcba9876543210.dir
      size: 34
"""
CUT = WHOLE[:80]  # within a list, so that DVC refuses it; much of what is cut off elsewhere it reads as changed stages


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    LOCKED.parent.mkdir(parents=True)
    return tmp_path / "kept"


def test_a_lock_is_put_back_wherever_it_is_cut_off_so_that_dvc_refuses_it(project: Path) -> None:
    LOCK.write_text(WHOLE)
    dvc.keep_lock(project)
    assert dvc.mend(project) == ""
    for size in range(0, len(WHOLE), 3):
        LOCK.write_text(WHOLE[:size])
        if not dvc.mend(project):
            COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(LOCK.read_text()))  # raises for what DVC refuses
        else:
            assert LOCK.read_text() == WHOLE
    LOCK.write_text(CUT)
    dvc.keep_lock(project)
    assert (project / "dvc.lock").read_text() == WHOLE


@pytest.mark.parametrize("copy", [None, CUT])
def test_a_lock_that_is_cut_off_is_removed_where_there_is_no_whole_copy(project: Path, copy: str | None) -> None:
    if copy is not None:
        project.mkdir()
        (project / "dvc.lock").write_text(copy)
    for cut in ("", "schema: '2.0", CUT, WHOLE[:180], "stages: 1", "- 1", "\x00\x00"):
        LOCK.write_text(cut)
        assert "is removed" in dvc.mend(project)
        assert not LOCK.exists()
    assert dvc.mend(project) == ""


def test_a_lock_in_a_merge_conflict_is_that_of_the_last_run_here(project: Path) -> None:
    for is_kept, said in (
        (False, ", and is removed: all stages are looked at again"),
        (True, ": that of the last run here is put back"),
    ):
        LOCK.write_text(WHOLE)
        if is_kept:
            dvc.keep_lock(project)
        LOCK.write_text(
            WHOLE.replace("      size: 12\n", "<<<<<<< HEAD\n      size: 12\n=======\n      size: 13\n>>>>>>> theirs\n")
        )
        assert dvc.mend(project) == f"dvc.lock is in a merge conflict of git{said}"
    assert LOCK.read_text() == WHOLE


def test_dvc_works_in_a_folder_without_git_and_with_git_again_once_there_is_a_repository() -> None:
    """What else the local settings say stays, and so does `core.no_scm` of a team without git."""
    shared = Path(".dvc/config")
    shared.write_text("[core]\n    autostage = false\n")
    dvc.LOCAL.write_text("[cache]\n    type = copy\n")
    with pytest.raises(SCMError), Repo():
        pass
    assert dvc.follow_git() == (
        "DVC: expected a git repository, found none: core.no_scm is set in .dvc/config.local; results are kept, experiments "
        "and `dvc diff` need git"
    )
    assert dvc.follow_git() == ""
    with Repo() as repo:
        assert isinstance(repo.scm, NoSCM)
        assert repo.config["cache"]["type"] == ["copy"]
    subprocess.run(["git", "init", "-q"], check=True)
    assert dvc.follow_git() == (
        "DVC: found a git repository: core.no_scm is removed from .dvc/config.local, and experiments work"
    )
    assert dvc.follow_git() == ""
    with Repo() as repo:
        assert isinstance(repo.scm, Git)
        assert repo.config["cache"]["type"] == ["copy"]
    shared.write_text("[core]\n    no_scm = true\n")
    assert dvc.follow_git() == ""


def held_by(process: int) -> str:
    one = {"pid": process, "cmd": "dvc repro"}
    return json.dumps({"write": {"/project/out": one}, "read": {"/project/in": [one]}})


def test_what_a_dead_process_locked_is_free(project: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for text in (held_by(ended.pid), held_by(os.getpid()), held_by(os.getpid())[:40], "", "[]"):
        LOCKED.write_text(text)
        dvc.mend(project)
        assert not LOCKED.exists(), text


def test_what_a_dvc_that_runs_has_locked_stays_locked(project: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()", "dvc"], stdin=subprocess.PIPE
    ) as other:
        for text in (held_by(other.pid), "{}"):
            LOCKED.write_text(text)
            dvc.mend(project)
            assert LOCKED.read_text() == text


def test_another_command_of_dvc_is_seen(project: Path) -> None:
    assert not dvc.is_busy()
    with make_lock(".dvc/tmp/lock"):
        assert dvc.is_busy()
    program = project.parent / "dvc"
    program.write_text("import sys; sys.stdin.read()")
    with subprocess.Popen([sys.executable, str(program)], stdin=subprocess.PIPE) as other:
        LOCKED.write_text(json.dumps({"write": {"out": {"pid": other.pid, "cmd": "dvc repro"}}, "read": {}}))
        until(dvc.is_busy)  # the system tells the words of a command a moment after it has begun
    assert not dvc.is_busy()


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
def test_dvc_locks_by_links_on_a_drive_without_locks(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    Path(".dvc/config").write_text("[core]\n    no_scm = true\n")
    dvc.HELD.touch()  # as DVC leaves it, which would keep its other lock from being taken
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))))
    assert dvc.mend(project) == ""
    assert "hardlink_lock = true" in Path(".dvc/config.local").read_text()
    assert not dvc.HELD.exists()
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError(errno.EPERM, os.strerror(errno.EPERM))))
    with pytest.raises(DistillError) as caught:
        dvc.mend(project)
    assert str(caught.value) == (
        ".dvc/tmp/lock: expected a drive with locks or hard links, which DVC needs, found neither (Operation not permitted); "
        "move the project to another drive, or learn a folder with `distill train`"
    )


def test_half_copies_in_the_cache_are_removed_unless_dvc_is_at_work(project: Path) -> None:
    half = Path(".dvc/cache/files/md5/d6/.TRjuR3Wo6kwwrBDMM7bHHQ.tmp")
    half.parent.mkdir(parents=True)
    half.write_text("half")
    beside = Path("metrics/.w878YG18xVv3Q1_sa-oENQ.tmp")
    beside.parent.mkdir()
    beside.touch()
    (half.parent / "whole").write_text("whole")
    with make_lock(".dvc/tmp/lock"):
        dvc.mend(project)
        assert half.exists()
    dvc.mend(project)
    assert [path.name for path in half.parent.iterdir()] == ["whole"]
    assert not beside.exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_dvc_ends_as_asked_also_in_a_shells_background_and_not_with_the_terminal_under_nohup(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The first lets SIGINT be ignored, which is what DVC and its stages are sent; the second SIGHUP."""
    for number in (signal.SIGINT, signal.SIGHUP):
        before = signal.signal(number, signal.SIG_IGN)
        request.addfinalizer(partial(signal.signal, number, before))
    program = Path("python")
    program.write_text(
        f"#!{sys.executable}\nimport signal\n"
        "print(*(signal.getsignal(one) is signal.SIG_IGN for one in (signal.SIGINT, signal.SIGHUP)))\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program.absolute()))
    assert dvc.run_dvc("repro", wants_output=True).stdout == "False True\n"
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGHUP)] == [signal.SIG_IGN] * 2
