"""Commands that are killed, stopped, or out of room at any change to a file: nothing is lost, and they go on to the same bytes."""

import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from faults.disturbed import COMMANDS, NEED_ROOM, Command, Disturbance, Trials, prepare
from programs import MakeOnce

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks of POSIX")
SAMPLE = ("ingest", "generate")  # that `make test` tries; see pipeline/test_interruption.py for a training
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(scope="module", params=COMMANDS, ids=lambda command: command.name)
def trials(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_once: MakeOnce,
    trained: Path,
    exhaustive: bool,
) -> Trials:
    command: Command = request.param
    if not exhaustive and command.name not in SAMPLE:
        pytest.skip("another command is the sample: make faults")
    tried = COMMANDS if exhaustive else [one for one in COMMANDS if one.name in SAMPLE]
    bases = make_once("disturbed", lambda folder: prepare(folder, trained / "a.distill", tried))
    return Trials(command, bases, tmp_path_factory.mktemp(command.name))


def sample(count: int, points: int) -> list[int]:
    """So many numbers from 1 to `count`, evenly apart."""
    return sorted({1 + int(count * (number + 0.5) / points) for number in range(points)})


def test_a_kill_at_any_change(trials: Trials, exhaustive: bool) -> None:
    for at in sample(len(trials.changes), 100 if exhaustive else 1):
        assert trials.disturbed(Disturbance(trials.log, at, signal.SIGKILL)).returncode == -signal.SIGKILL


def test_a_signal_to_stop_at_any_change(trials: Trials, exhaustive: bool) -> None:
    """It ends with the signal's status, or has done its work."""
    for turn, at in enumerate(sample(len(trials.changes), 30 if exhaustive else 1)):
        number = STOPS[turn % len(STOPS)]
        assert trials.disturbed(Disturbance(trials.log, at, number)).returncode in (128 + number, 0)


def test_a_disk_that_is_full_at_any_change(trials: Trials, exhaustive: bool) -> None:
    """A sentence, or the work goes on where only MLflow's record or a lock's note is missing."""
    places = [number for number, change in enumerate(trials.changes, 1) if change in NEED_ROOM]
    statuses = []
    for place in sample(len(places), 30 if exhaustive else 2):
        ended = trials.disturbed(Disturbance(trials.log, places[place - 1]))
        statuses.append(ended.returncode)
        assert ended.returncode in (0, 2), ended.stderr
        assert ended.returncode == 0 or "free some space and run again" in ended.stderr, ended.stderr
    assert 2 in statuses


def test_files_that_may_not_grow(trials: Trials, exhaustive: bool) -> None:
    """A limit fails the writes of all libraries, of Arrow and libsndfile too."""
    import resource

    largest = max(path.stat().st_size for name in trials.units for path in _files(trials.trial / name))
    for size in [largest * number // 10 for number in range(1, 10)] if exhaustive else [largest // 2]:
        ended = trials.disturbed(partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size)))
        assert ended.returncode in (0, 2), ended.stderr
        assert ended.returncode == 0 or "raise the limit of file sizes and run again" in ended.stderr, ended.stderr


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
