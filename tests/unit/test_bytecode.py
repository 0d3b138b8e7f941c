"""Compiled modules where there is little room."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill.bytecode import ROOM


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("limited", [False, True])
def test_none_are_kept_that_a_limit_may_cut_off(tmp_path: Path, limited: bool) -> None:
    import resource

    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    limit = ROOM // 2 if limited else resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import distill, os, sys; print(sys.dont_write_bytecode, os.environ.get('PYTHONDONTWRITEBYTECODE'))",
        ],
        env={**environment, "PYTHONPYCACHEPREFIX": str(tmp_path)},
        preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == (["True", "1"] if limited else ["False", "None"])
