"""A clock that jumps by years while the pipeline runs."""

import itertools
import threading
from pathlib import Path

import pytest
from pipeline.project import Project, hashes, new_project, write_sounds

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
JUMPS = ("-3650d", "+3650d", "+0", "-1d", "+5000d")
SECONDS = 0.7  # between two jumps


def test_a_clock_that_jumps_changes_no_result(tmp_path: Path, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("runs the pipeline twice: make faults")
    if FAKETIME is None:
        pytest.skip("needs libfaketime: apt-get install faketime")
    steady, jumping = (new_project(tmp_path / name) for name in ("steady", "jumping"))
    for project in (steady, jumping):
        write_sounds(project.folder / "sounds")
    assert _repro(steady)[0] == 0
    clock, ended = tmp_path / "clock", threading.Event()
    clock.write_text("+0")

    def jump() -> None:
        for by in itertools.cycle(JUMPS):
            if ended.wait(SECONDS):
                return
            (tmp_path / "next").write_text(by)
            (tmp_path / "next").replace(clock)

    thread = threading.Thread(target=jump)
    thread.start()
    try:
        status, printed = _repro(
            jumping,
            LD_PRELOAD=str(FAKETIME),
            FAKETIME_TIMESTAMP_FILE=str(clock),
            FAKETIME_NO_CACHE="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",  # which no clock sets
        )
    finally:
        ended.set()
        thread.join()
    assert status == 0, printed
    assert hashes(jumping.folder) == hashes(steady.folder)
    again, printed = _repro(jumping)
    assert again == 0, printed
    assert hashes(jumping.folder) == hashes(steady.folder)


def _repro(project: Project, **environment: str) -> tuple[int, str]:
    done = project.run("python", "-m", "stages.repro", DISTILL_WORKERS="1", SOURCE_DATE_EPOCH="0", **environment)
    return done.returncode, done.stdout + done.stderr
