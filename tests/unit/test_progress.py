"""The files in which a command says how far it is."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from distill.progress import EVENTS, SAID, STATUS, VARIABLE, ProgressReport, Status


@dataclass(frozen=True)
class Event:
    epoch: int
    loss: float


def write_all(status: Status, place: Path) -> None:
    status.progress(1, 1, "x")
    status.say("x")
    status.event(Event(0, 1.0))
    status.metrics({}, 0)
    status.keep(place, "kept")


def test_progress_is_the_task_at_work(tmp_path: Path) -> None:
    status = Status(tmp_path, "codec")
    status.progress(0, 4, "loss 3")
    first = json.loads((tmp_path / STATUS).read_text())
    assert first == {"label": "codec", "done": 0, "total": 4, "text": "loss 3", "seconds_left": None}
    status.progress(1, 4, "too soon to be written")
    assert json.loads((tmp_path / STATUS).read_text()) == first
    status.progress(4, 4, "end")
    last = json.loads((tmp_path / STATUS).read_text())
    assert (last["done"], last["text"], last["seconds_left"]) == (4, "end", 0.0)
    assert [path.name for path in tmp_path.iterdir()] == [STATUS]


def test_lines_and_events_are_appended_and_what_is_watched_is_kept(tmp_path: Path) -> None:
    (tmp_path / "previews").mkdir()
    (tmp_path / "previews" / "a.wav").write_bytes(b"1")
    (tmp_path / "status").mkdir()
    status = Status(tmp_path / "status", "prior")
    status.say("warning: Größe")
    status.say("rejected \udcff.wav")
    status.event(Event(1, 2.5))
    status.metrics({"val_loss": math.nan, "epoch": 9.0}, 3)
    for name in ("previews", "previews", "none"):
        status.keep(tmp_path / name, name)
    said = (tmp_path / "status" / SAID).read_text(encoding="utf-8").splitlines()
    assert said == ["warning: Größe", "rejected \\udcff.wav"]
    first, second = map(json.loads, (tmp_path / "status" / EVENTS).read_text().splitlines())
    assert first == {"event": "Event", "task": "prior", "epoch": 1, "loss": 2.5}
    assert (second["event"], second["epoch"]) == ("metrics", 3)
    assert [path.name for path in (tmp_path / "status" / "previews").iterdir()] == ["a.wav"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_what_cannot_be_written_fails_no_command(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    for place in (tmp_path / "none", tmp_path / "file"):
        write_all(Status(place), tmp_path / "file")
    for name in (SAID, EVENTS, "kept"):
        (tmp_path / name).symlink_to("/dev/full")
    write_all(Status(tmp_path), tmp_path / "file")
    assert json.loads((tmp_path / STATUS).read_text())["done"] == 1


@pytest.mark.parametrize("value", [None, "", "here"])
def test_the_environment_names_the_folder_or_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "here").mkdir()
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    ProgressReport("codec")(1, 1, "")
    written = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert written == (["here", f"here/{STATUS}"] if value else ["here"])


def test_nothing_is_left_of_a_bar_that_did_not_reach_its_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sounds end before the last frame they may have: a bar at 60 % would read as a failure."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with ProgressReport("generate") as progress:
        progress(6, 10, "frames")
    assert capsys.readouterr().err.endswith("\x1b[1A\x1b[2K")  # up a line, erase it


def test_lines_of_a_task_end_with_one_that_says_so_unless_it_failed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.progress.LINE_SECONDS", -1.0)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    with ProgressReport("generate") as progress:
        progress(6, 10, "frames")
    assert capsys.readouterr().err == "generate 6/10 frames\ngenerate done\n"
    with ProgressReport("codec") as progress:
        progress(10, 10, "epochs")
    assert capsys.readouterr().err == "codec 10/10 epochs\n"

    def interrupted() -> None:
        with ProgressReport("codec") as progress:
            progress(6, 10, "epochs")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().err == "codec 6/10 epochs\n"
