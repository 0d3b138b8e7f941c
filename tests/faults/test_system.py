"""Limits of the system, a terminal that closes, a server that hangs: a sentence, and nothing lost."""

import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from distill.audio.ingest import ingest
from distill.training.tracking import Tracker
from programs import ROOT, environment
from unit.command import CommandLine
from unit.tiny import RATE, write_prior_model, write_tone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and terminals of Linux")


def test_too_little_memory_for_a_stage_to_start_is_a_sentence(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    limit = partial(resource.setrlimit, resource.RLIMIT_AS, (1 << 30, 1 << 30))
    done = subprocess.run(
        [sys.executable, "-m", "stages.train_vqvae"],
        cwd=tmp_path,
        env=environment(),
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("train_vqvae: memory: expected enough for this work, found no more; close other")
    assert len(done.stderr.splitlines()) == 1


def test_a_poor_environment_makes_no_difference(tmp_path: Path) -> None:
    """No home, no folder for temporary files, no encoding but ASCII, no input, files that others may not read."""
    folder = tmp_path / "with spaces, ü and 😀"
    folder.mkdir()
    write_prior_model(folder / "a b.distill")
    poor = {"HOME": "/nonexistent/home", "TMPDIR": "/nonexistent/tmp", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "distill",
            "generate",
            "a b.distill",
            "--seconds",
            "0.2",
            "--seed",
            "1",
            "--out",
            "made",
        ],
        cwd=folder,
        env=environment(**poor, PYTHONCOERCECLOCALE="0"),
        preexec_fn=lambda: (os.umask(0o077), os.close(0)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = (folder / "made").iterdir()
    assert (made.name, made.stat().st_mode & 0o777) == ("a b_1_000.wav", 0o600)


def test_files_of_the_future_and_of_before_1970_are_learnt_and_listed(shell: CommandLine) -> None:
    """As where a computer has no clock, or it was set back."""
    write_prior_model(Path("a.distill"))
    for number, seconds in enumerate((-86_400.0, 0.0, 9e9)):
        write_tone(Path(f"sounds/{number}.wav"), pitch=200.0 + 90 * number)
        os.utime(f"sounds/{number}.wav", (seconds, seconds))
    for _ in range(2):  # the second time blocks that are kept are used
        report = ingest("sounds", Path("corpus"), RATE, 0.0, kept=Path("kept"))
        assert report["counts"]["used"] == 3
    for seconds, date in ((-86_400.0, "1969-12-31"), (4_102_444_800.0, "2100-01-01")):
        os.utime("a.distill", (seconds, seconds))
        assert date in shell("list", ".").out


# Prints to a terminal that is gone, as a training does before it looks at its signals, and then saves.
TRAINING = """
import fcntl, signal, termios
from pathlib import Path
from distill.progress import ProgressReport
from distill.training.interruption import catch_interruption, raise_interrupted, raise_on_signals

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which these tests may run, lets it be ignored
raise_on_signals()
with catch_interruption() as interruption, ProgressReport("train") as progress:
    progress.say("ready")
    while not interruption.signal:
        progress(1, 2, "a step")
    progress.say("a signal")
    progress(2, 2, "the last step")
    Path("saved").touch()
    raise_interrupted(interruption.signal, "saved")
"""


def test_a_terminal_that_closes_ends_training_saved(tmp_path: Path) -> None:
    import pty

    terminal, inside = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        cwd=tmp_path,
        env=environment(TERM="xterm"),
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


@pytest.mark.filterwarnings("ignore")
def test_a_tracking_server_that_never_answers_is_asked_at_the_start_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once more for each thing that there is to send: each time takes as long as it takes to give up."""
    asked: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    asked.append(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with Tracker(tmp_path, "train_vqvae", "cafe", {"a": 1}) as tracker:
            for epoch in range(10):
                tracker.metrics({"loss": 1.0}, epoch)
                tracker.flush()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in asked:
        connection.close()
    assert len(asked) == 2
