"""The tab Compare ends what it starts."""

import os
import subprocess
import sys

import psutil
import pytest

from distill.ui.compare_tab import _end

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.skipif(os.name == "nt", reason="needs groups of processes")
def test_mlflow_ends_with_the_processes_that_it_started() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, start_new_session=True) as server:
        assert server.stdout is not None
        child = psutil.Process(int(server.stdout.readline()))
        _end(server)
        server.wait(timeout=30)
        gone, alive = psutil.wait_procs([child], timeout=30)
        assert alive == [] or child.status() == psutil.STATUS_ZOMBIE
        _end(server)  # it has ended: nothing is signalled
    assert len(gone) + len(alive) == 1
