"""HTML of the page: text is text, files that are damaged are no defect, and charts are finite."""

import errno
import math
import os
import re
import xml.etree.ElementTree as ElementTree
from html import escape
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import ParamsError
from distill.ui import view
from distill.ui.chart import chart, charts
from distill.ui.forms import error_to_show, flags
from distill.ui.jobs import NO_JOB, Job
from unit.ui.handmade import write_job

HOSTILE = "<img src=x onerror=alert(1)>\"'&"
ESCAPED = "&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;&amp;"
COUNTS = {"audio_files": 22, "used": 5, "warned": 1, "rejected": 1, "duplicates": 2, "near_duplicates": 3}
EPOCH = {"epoch": 0, "codebook_health": {"level_0": {}}, "utilization_warnings": []}
NUMBERS = st.floats(-1e12, 1e12) | st.sampled_from([math.nan, math.inf, -math.inf])


def job(folder: Path, **files: object) -> Job:
    """A job with these files."""
    return write_job(folder, title=HOSTILE, **files)


def running(folder: Path, status: object) -> Job:
    """A job whose process is this one."""
    alive = {"pid": os.getpid(), "created": psutil.Process().create_time()}
    return job(folder, process_json=alive, status_json=status)


def test_text_is_escaped(tmp_path: Path) -> None:
    rejected, groups = [{"path": HOSTILE, "reason": HOSTILE}], [{"paths": [HOSTILE]}]
    report = {"counts": COUNTS, "rejected": rejected, "warned": [], "groups": groups, "seconds": 1}
    said = {"label": HOSTILE, "text": HOSTILE, "total": 2, "done": 1}
    shown = [
        view.note(HOSTILE),
        view.table([HOSTILE], [[HOSTILE]]),
        view.player(tmp_path / HOSTILE, HOSTILE),
        view.ingest(report),
        view.health([{**EPOCH, "level_names": [HOSTILE]}]),
        view.progress(running(tmp_path, said), ""),
        view.progress(job(tmp_path, process_json={}, exit_json={"status": 2}, stderr_txt=f"distill: {HOSTILE}"), ""),
    ]
    for one in shown:
        assert "<img" not in one
        assert ESCAPED in one


def test_nothing_is_said_of_nothing() -> None:
    assert view.note("") == view.health([]) == view.ingest({}) == charts({"codec": [], "prior": []}) == ""
    assert view.progress(NO_JOB, "No training yet.") == '<p class="note" role="status">No training yet.</p>'
    assert chart("loss", [{"epoch": 0, "a": math.nan, "b": "1"}], {"a": "a", "b": "b"}) == ""


def test_progress_says_what_is_left_and_how_it_ended(tmp_path: Path) -> None:
    said = {"label": "codec", "done": 5, "total": 20, "text": "loss 1", "seconds_left": 90.0}
    shown = view.progress(running(tmp_path, said), "")
    assert "training the codec: 25%, about 1:30 left" in shown
    assert re.search(r"at work, \d\.\d s</p>", shown)
    assert '<progress max="20" value="5">' in shown
    stderr = "Traceback\ndistill: one: expected two"
    ends = {0: "done", 1: "this is a defect of Dis", 2: "one: expected two", 130: "cancelled</p>"}
    for status, text in ends.items():
        shown = view.progress(job(tmp_path, process_json={}, exit_json={"status": status}, stderr_txt=stderr), "")
        assert (text in shown, "Traceback" in shown) == (True, False)
    stderr = "distill: interrupted by SIGINT: training is saved after step 3 of 4; run the same command to continue"
    saved = job(tmp_path, process_json={}, exit_json={"status": 130}, stderr_txt=stderr)
    assert "cancelled; what was done is saved" in view.progress(saved, "")


def test_a_training_that_has_ended_says_which_weights_it_kept(tmp_path: Path) -> None:
    figures = {"best_epoch": 0, "epochs_trained": 12}
    made = {"model": "models/a.distill", "recordings": 5, **figures, "prior": {"best_epoch": 7, "epochs_trained": 13}}
    kept = "no epoch of 12 was better on held-out recordings by enough, so the weights from before training are kept"
    ended = {"process_json": {}, "exit_json": {"status": 0}}
    both, prior = (write_job(tmp_path / kind, kind=kind, stdout_txt=made, **ended) for kind in ("train", "prior"))
    assert f"<p>codec: {kept}; prior: best epoch 7 of 13</p>" in view.learned(both)
    assert f"<p>prior: {kept}</p>" in view.learned(prior)


def test_an_upload_is_called_by_its_name(tmp_path: Path) -> None:
    stderr = f"distill: {tmp_path}/.distill/ui/uploads/7f83/notes.wav: expected a recording, found a file that is text"
    refused = job(tmp_path, process_json={}, exit_json={"status": 2}, stderr_txt=stderr)
    assert refused.message == "notes.wav: expected a recording, found a file that is text"


def test_recordings_are_listed_with_reasons() -> None:
    rejected, groups = [{"path": "a.wav", "reason": "no sound"}], [{"paths": ["b.wav", "c.wav"]}]
    reason = "44100 Hz: 61 % of the sound has energy above 10 kHz"
    report = {"counts": COUNTS, "rejected": rejected, "warned": [], "groups": groups, "seconds": 12.34}
    shown = view.ingest({**report, "sample_rate_reason": reason})
    assert "5 used, 1 used with a warning, 1 rejected, 2 exact copies left out, 3 near-duplicates; 12.3 s" in shown
    assert "codewords" not in shown  # where the codec is there already
    assert ". 19 usable recordings: 64 codewords in each shape level, by the preset small<" in view.ingest(
        report, "auto"
    )
    assert ": 64 codewords in each shape level, by the preset large<" in view.ingest(report, "large")
    assert "; 3 files left out: 2 .mid, 1 .txt</p>" in view.ingest({**report, "left_out": {".mid": 2, ".txt": 1}})
    for part in ("<td>a.wav</td><td>no sound</td>", "<td>b.wav, c.wav</td>", f"; {reason}</p>"):
        assert part in shown


def test_cells_of_a_table_of_many_columns_say_their_column_in_a_narrow_window() -> None:
    assert "data-name" not in view.table("abcde", ["12345"])
    shown = view.table(["a", "b", "c", "d", "e", HOSTILE], ["123456"])
    assert f'<td data-name="{ESCAPED}">6</td>' in shown
    assert '<div class="wide many">' in shown


def test_health_marks_the_codebooks_that_training_warns_of() -> None:
    figures = {"utilization": 0.29, "perplexity": 3.21, "dead_codes": 40.0}
    last = {"codebook_health": dict.fromkeys(("level_0", "level_1"), figures), "utilization_warnings": ["shape 1: low"]}
    last["level_names"] = ["loudness", "shape 1"]
    shown = view.health([{"epoch": 0}, {"epoch": 6, **last}])
    assert "<td>loudness</td><td>29%</td><td>3.2</td><td>40</td>" in shown
    assert "<td>shape 1</td><td>29% ⚠</td><td>3.2</td><td>40</td>" in shown
    assert "epoch 7" in shown


def test_no_epoch_shows_numbers_that_are_none() -> None:
    bad = {"val_loss": math.nan, "train_loss": None, "val_perplexity": "x", "utilization_warnings": ()}
    bad["codebook_health"] = {"level_0": {"utilization": math.nan}}
    metrics = [{"epoch": 0, **bad}, {"epoch": 1, "val_loss": 2.0, "train_loss": math.inf}, {"epoch": 2, **bad}]
    shown_charts = charts({"codec": metrics, "prior": metrics})
    for shown in (view.health(metrics), shown_charts):
        assert not any(word in shown.lower() for word in ("nan%", ">nan", "inf ", ",nan"))
    assert "best: epoch 2" in shown_charts


@given(st.lists(st.dictionaries(st.sampled_from(["val_loss", "b", "c"]), NUMBERS), max_size=4))
def test_no_chart_has_numbers_that_are_none(metrics: list[dict[str, float]]) -> None:
    metrics = [{"epoch": epoch, **values} for epoch, values in enumerate(metrics)]
    svg = chart("loss", metrics, {"val_loss": "a", "b": "b", "c": "c"})
    drawn = " ".join(re.findall(r'(?:points|x\d?|y\d?|cx|cy)="([^"]*)"', svg))
    assert not re.search("nan|inf", drawn)


@pytest.mark.parametrize(
    ("kept", "said", "place"), [(None, "best: epoch 2", 2), (-1, "kept: before training", 0), (0, "kept: epoch 1", 1)]
)
def test_a_chart_begins_before_training_and_marks_the_epoch_that_is_kept(
    kept: int | None, said: str, place: int
) -> None:
    metrics = [{"epoch": epoch, "val_loss": loss} for epoch, loss in ((-1, 2.0), (0, 2.5), (1, 1.999))]
    svg = ElementTree.fromstring(chart("loss", metrics, {"val_loss": "held out"}, kept))
    assert svg.findtext("figcaption") == f"loss, {said}"
    (line,) = svg.iter("polyline")
    (mark,) = (one for one in svg.iter("line") if one.get("class") == "mark")
    points = [pair.split(",")[0] for pair in str(line.get("points")).split()]
    assert points.index(str(mark.get("x1"))) == place


def test_points_keep_their_order_and_place() -> None:
    metrics = [{"epoch": epoch, "val_loss": loss} for epoch, loss in enumerate((3.0, math.nan, 1.0))]
    metrics[0]["b"] = 2.0
    text = chart(HOSTILE, metrics, {"val_loss": HOSTILE, "b": "one point"})
    assert "<img" not in text
    svg = ElementTree.fromstring(text)  # which fails where a tag or a quote is left open
    assert HOSTILE in (svg.findtext("figcaption") or "")
    line, _ = svg.iter("polyline")
    (x1, y1), (x2, y2) = (map(float, pair.split(",")) for pair in str(line.get("points")).split())
    assert (x1 < x2, y1 < y2) == (True, True)  # down, as the loss
    (mark,) = (one for one in svg.iter("line") if one.get("class") == "mark")
    assert float(str(mark.get("x1"))) == x2
    assert len(list(svg.iter("circle"))) == 2  # also of the line of one point
    assert text.count(escape(f"{HOSTILE}: 1")) == 2  # in the legend, and for those who hear the page


@pytest.mark.parametrize(
    ("error", "title", "said"),
    [
        (ParamsError("<b>: expected a, found b"), "Not done", "&lt;b&gt;: expected a, found b"),
        (OSError(errno.ENOSPC, "No space left on device", "x.json"), "Not done", "x.json: expected to read and write"),
        (ValueError("secret"), "Failed", "this is a defect of Distill; its report is in the window"),
        (OSError(errno.EBADF, "Bad file descriptor"), "Failed", "this is a defect of Distill"),
    ],
)
def test_an_error_is_a_sentence(error: Exception, title: str, said: str) -> None:
    shown = error_to_show(error)
    assert said in str(shown.message)
    assert (shown.title, "secret" in str(shown.message)) == (title, False)


def test_flags_leave_out_what_is_not_given() -> None:
    made = flags(top_k=0, label="", seed=None, pictures=True, prior=False, top_p=0.30000000000000004, min_novelty="new")
    assert made == ["--top-k", "0", "--pictures", "--top-p", "0.3", "--min-novelty", "new"]
