"""What is pulled before a run: results that are missing and would come out the same, from a remote that has them."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lossy_proxy import LossyProxy
from object_store import Store
from stages.ops.results import pullable

ROOT = Path(__file__).parents[3]
PIPELINE = """
stages:
  a:
    cmd: cp data A
    deps: [data]
    params: [p]
    outs: [A]
"""
LOCK = """\
schema: '2.0'
stages:
  a:
    cmd: cp data A
    deps:
    - path: data
      hash: md5
      md5: 083ec99f20b1c7aeddbe851e8ce21236
      size: 6
    params:
      params.yaml:
        p: 1
    outs:
    - path: A
      hash: md5
      md5: 083ec99f20b1c7aeddbe851e8ce21236
      size: 6
"""
ABSENT_A = {"changed outs": {"A": "not in cache"}}
ABSENT_B = [{"changed deps": {"A": "deleted"}}, {"changed outs": {"B": "not in cache"}}]


def test_what_is_missing_and_unchanged_is_pulled_with_what_follows_from_it() -> None:
    assert pullable({"a": [ABSENT_A], "b": ABSENT_B}) == ["a", "b"]
    assert pullable({"b": [{"changed outs": {"B": "deleted"}}]}) == ["b"]
    assert pullable({}) == []


@pytest.mark.parametrize(
    "entries",
    [
        [{"changed deps": {"data": "modified"}}, ABSENT_A],
        [{"changed deps": {"data": "deleted"}}, ABSENT_A],  # of no stage: DVC says so
        [{"changed deps": {"params.yaml": {"p": "modified"}}}, ABSENT_A],
        ["changed command", ABSENT_A],
        ["always changed", ABSENT_A],
        [{"changed outs": {"A": "modified"}}],
        [{"changed outs": {"A": "not in cache", "metrics/a.json": "deleted"}}],  # git has it, the remote does not
        [{"changed deps": {"data": "modified"}}],
    ],
)
def test_what_has_changed_is_computed_with_what_follows_from_it(entries: list[object]) -> None:
    assert pullable({"a": entries, "b": ABSENT_B}) == []


def python(folder: Path, *arguments: str) -> str:
    """What Python writes to stderr in a folder."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


SCRIPT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from distill.errors import DistillError
from stages.ops.results import pull_missing
try:
    pull_missing()
except DistillError as error:
    sys.exit(f"{{error}} ({{error.exit_code}})")
"""


def pulled(folder: Path) -> str:
    """What `pull_missing` says in a folder."""
    return python(folder, "-c", SCRIPT)


@pytest.fixture
def project(tmp_path: Path, store: Store, proxy: LossyProxy, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """A small stage with a lock file, whose results are not here."""
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    config = f"[core]\n    no_scm = true\n    remote = studio\n['remote \"studio\"']\n    url = s3://{store.bucket}/results\n"
    files = {"dvc.yaml": PIPELINE, "dvc.lock": LOCK, "params.yaml": "p: 1\n", "data": "sound\n", ".dvc/config": config}
    for name, text in files.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "project"


FETCHING = "DVC: fetching the results of a from the remote studio; PULL=0 computes them instead"
FAILED = (
    "DVC: expected all of these results in the remote studio, found that some could not be fetched (see above); "
    "what is missing is computed"
)


def test_a_remote_that_does_not_answer_is_said_and_the_rest_is_computed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    said = pulled(project).splitlines()
    assert (said[0], said[-1]) == (FETCHING, FAILED)
    python(project, "-m", "dvc", "repro", "-q")
    assert (project / "A").exists()
    assert (project / "dvc.lock").read_text() == LOCK
    assert pulled(project) == ""  # nothing is missing
    (project / "A").unlink()
    shutil.rmtree(project / ".dvc/cache")
    (project / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    assert pulled(project) == ""  # there is no remote


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_while_results_are_fetched_ends_before_anything_is_computed(project: Path, proxy: LossyProxy) -> None:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=project, stderr=subprocess.PIPE, text=True)
    proxy.before = lambda _: process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert said.splitlines()[-1] == "interrupted by SIGINT: what was fetched is kept (130)"
