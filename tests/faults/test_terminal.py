"""A terminal that closes while something trains in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Prints to a terminal that is gone, as a training does before it looks at its signals, and then saves.
TRAINING = """
import fcntl, signal, termios
from pathlib import Path
from distill.progress import ProgressReport
from distill.training.interruption import catch_interruption, raise_on_signals

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which these tests may run, lets it be ignored
raise_on_signals()
with catch_interruption() as interruption, ProgressReport("train") as progress:
    progress.say("ready")
    while interruption.signal is None:
        progress(1, 2, "a step")
    progress.say("a signal")
    progress(2, 2, "the last step")
    Path("saved").touch()
    interruption.raise_interrupted(interruption.signal, "saved")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
def test_a_terminal_that_closes_ends_training_saved(tmp_path: Path) -> None:
    import pty

    terminal, inside = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm"},
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    ) as process:
        os.close(inside)
        try:
            shown = b""
            while b"ready" not in shown:
                shown += os.read(terminal, 1000)
            os.close(terminal)
            process.wait(timeout=60)
        finally:
            process.kill()
    assert (tmp_path / "saved").exists()
