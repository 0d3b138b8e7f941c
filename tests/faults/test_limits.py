"""Limits of the system: a sentence, and nothing half-written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from unit.tiny import write_prior_model

GENERATE = (sys.executable, "-m", "distill", "generate", "a.distill", "-n", "3", "--seed", "1", "--seconds", "1")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_file_that_may_not_grow_is_a_sentence_without_home_or_temporary_folder(tmp_path: Path) -> None:
    import resource

    write_prior_model(tmp_path / "a.distill")
    done = subprocess.run(
        GENERATE,
        cwd=tmp_path,
        env={
            **os.environ,
            "HOME": "/dev/null/nowhere",
            "TMPDIR": "/dev/null/nowhere",
            "PYTHONDONTWRITEBYTECODE": "1",  # Python would keep files of its own that the limit cuts off
        },
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "distill: generated/a_1_000.wav: expected to read and write there, found: File too large; "
        "raise the limit of file sizes and run again"
    )
    assert list((tmp_path / "generated").iterdir()) == []
