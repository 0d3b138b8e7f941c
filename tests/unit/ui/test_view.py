"""HTML of the page: text is text, and files that are damaged are no defect."""

import json
import math
import os
from pathlib import Path

import psutil
import pytest

from distill.ui import view
from distill.ui.jobs import Job

HOSTILE = "<img src=x onerror=alert(1)>\"'&"
COUNTS = {"used": 5, "warned": 1, "rejected": 1, "duplicates": 2, "near_duplicates": 3}
ESCAPED = "&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;&amp;"


def job(folder: Path, **files: object) -> Job:
    """A job with these JSON files."""
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("_", ".")).write_text(text)
    return Job(folder, "train", HOSTILE, ["x"], {})


def running(folder: Path, status: object) -> Job:
    """A job whose process is this one."""
    alive = {"pid": os.getpid(), "created": psutil.Process().create_time()}
    return job(folder, process_json=alive, status_json=status)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min")]
)
def test_durations_are_words(seconds: float, said: str) -> None:
    assert view.duration(seconds) == said


def test_text_is_escaped(tmp_path: Path) -> None:
    report = {
        "counts": COUNTS,
        "rejected": [{"path": HOSTILE, "reason": HOSTILE}],
        "warned": [],
        "groups": [{"paths": [HOSTILE]}],
        "seconds": 1,
    }
    metrics = [{"epoch": 0, f"codebook/{HOSTILE}/utilization": 0.5}]
    said = {"label": HOSTILE, "text": HOSTILE, "total": 2, "done": 1}
    shown = [
        view.note(HOSTILE),
        view.table([HOSTILE], [[HOSTILE]], HOSTILE),
        view.player(tmp_path / HOSTILE, HOSTILE),
        view.ingest(report),
        view.health(metrics),
        view.progress(running(tmp_path, said), ""),
        view.progress(job(tmp_path, process_json={}, exit_json={"status": 2}, stderr_txt=f"distill: {HOSTILE}"), ""),
    ]
    for one in shown:
        assert "<img" not in one
        assert ESCAPED in one


def test_nothing_is_said_of_nothing() -> None:
    assert view.note("") == view.health([]) == view.ingest({}) == view.codec_losses([]) == view.prior_curves([]) == ""
    assert view.progress(None, "No training yet.") == '<p class="note" role="status">No training yet.</p>'


def test_progress_says_what_is_left(tmp_path: Path) -> None:
    said = {"label": "codec", "done": 5, "total": 20, "text": "loss 1", "seconds_left": 90.0}
    shown = view.progress(running(tmp_path, said), "")
    assert "training the codec: 5 of 20, about 1 min 30 s left of this step" in shown
    assert '<progress max="20" value="5">' in shown


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0, "done"),
        (1, "this is a defect of Distill; its report is in "),
        (2, "one: expected two"),
        (130, "cancelled; what was done is saved"),
    ],
)
def test_an_end_is_told(tmp_path: Path, status: int, said: str) -> None:
    assert said in view.progress(
        job(tmp_path, exit_json={"status": status}, stderr_txt="distill: one: expected two"), ""
    )
    assert "Traceback" not in view.progress(job(tmp_path, exit_json={"status": 1}, stderr_txt="Traceback"), "")


def test_recordings_are_listed_with_reasons() -> None:
    rejected = [{"path": "a.wav", "reason": "no sound"}]
    groups = [{"paths": ["b.wav", "c.wav"]}]
    report = {"counts": COUNTS, "rejected": rejected, "warned": [], "groups": groups, "seconds": 12.34}
    shown = view.ingest(report)
    assert "5 used, 1 used with a warning, 1 rejected, 2 exact copies left out, 3 near-duplicates; 12.3 s" in shown
    assert "<td>a.wav</td><td>no sound</td>" in shown
    reason = "44100 Hz: 61 % of the sound has energy above 10 kHz"
    assert f"; {reason}</p>" in view.ingest({**report, "sample_rate_reason": reason})
    assert "<td>b.wav, c.wav</td>" in shown


def test_health_warns_of_codebooks_that_are_hardly_used() -> None:
    names = ("utilization", "perplexity", "dead_codes")
    levels = {"level_0": (0.29, 3.21, 40.0), "level_1": (0.3, 10.0, 0.0)}
    last = {
        f"codebook/{level}/{name}": value
        for level, row in levels.items()
        for name, value in zip(names, row, strict=True)
    }
    shown = view.health([{"epoch": 0}, {"epoch": 6, **last}])
    assert "<td>0</td><td>29% ⚠</td><td>3.2</td><td>40</td>" in shown
    assert "<td>1</td><td>30%</td>" in shown
    assert "epoch 7" in shown


def test_no_epoch_shows_numbers_that_are_none() -> None:
    bad = {"val_loss": math.nan, "train_loss": None, "codebook/level_0/utilization": math.nan, "val_perplexity": "x"}
    metrics = [{"epoch": 0, **bad}, {"epoch": 1, "val_loss": 2.0, "train_loss": math.inf}, {"epoch": 2, **bad}]
    for shown in (view.health(metrics), view.codec_losses(metrics), view.prior_curves(metrics)):
        assert not any(word in shown.lower() for word in ("nan%", ">nan", "inf ", ",nan"))
    assert "best epoch 2" in view.codec_losses(metrics)
