"""What observers show of a training: on the console, in MLflow, in the status files, and to a callback."""

import json
from pathlib import Path
from typing import Any

import pytest

from distill.codec.training import CodecConsole
from distill.novelty.memorization import HOW_TO_STOP, check_memorization
from distill.prior.training import PriorConsole
from distill.progress import ProgressReport
from distill.status import EVENTS, Status
from distill.training import PriorEpochMetrics, PriorMemoryMetrics, PriorStepMetrics, RollbackEvent, WatchMetrics
from distill.training.events import Epoch, PriorTrainingCompleteEvent, Step, TrainingEnd, VQEpochMetrics, VQStepMetrics
from distill.training.observers import Observer, ToCallback, ToConsole, ToFiles, ToMlflow
from distill.training.tracking import Tracker

CHECK = check_memorization(1.2, 64, 12)
WATCH = WatchMetrics(8, "perplexity", 12.345, -0.031, 0.05, False, {"gates/layer_0/mean": 0.5})
ROLLBACK = RollbackEvent(9, 4, 2, False, "found train_loss nan, 3 steps in a row")
METRICS = {"train_loss": 1.0, "val_loss": 1.5, "val_perplexity": 4.5}
EPOCH = Epoch(1, METRICS, 1e-3, 2.0, 9.0, 0.0)
PRIOR_EPOCH = PriorEpochMetrics(1, 2, 1.0, 1.5, 1.2, 1.1, *CHECK, 2.0, 1e-3)
END = TrainingEnd({"rollbacks": 2.0}, ["one thing", "another"])


def step(number: int) -> Step:
    return Step(number // 10, number, 20, 1e-3, 0.1, {"train_loss": 2.0})


def send(observer: Observer, *events: object) -> None:
    for event in events:
        observer.on_event(event)


def shown(capsys: pytest.CaptureFixture[str], kind: type[ToConsole], *events: object) -> list[str]:
    with ProgressReport("prior") as progress:
        send(kind(progress), *events)
    return capsys.readouterr().err.splitlines()


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Tracker(None, "train_prior", "f00d")


@pytest.mark.parametrize("kind", [ToConsole, CodecConsole, PriorConsole])
def test_a_console_shows_probes_beside_the_loss_and_says_rollbacks_and_remarks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: type[ToConsole]
) -> None:
    monkeypatch.setattr("distill.progress.LINE_SECONDS", 0.0)
    assert shown(capsys, kind, step(7), WATCH, ROLLBACK, step(8), END) == [
        "prior 7/20 loss 2.000",
        "warning: step 9: training goes back 4 steps, rollback 2: found train_loss nan, 3 steps in a row",
        "prior 8/20 loss 2.000; probe 12.3 (-3%)",
        *END.remarks,
    ]


def test_the_line_of_the_last_step_waits_for_its_epoch_and_memorisation_is_warned_of_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, PriorConsole, *(step(20), EPOCH, PRIOR_EPOCH, PRIOR_EPOCH))
    assert lines[0] == "prior 20/20 epoch 2: loss 1.000, held-out perplexity 4.5 (best 1.0)"
    assert " ".join(lines).count(f"warning: {CHECK.memorization_message}") == 1
    assert HOW_TO_STOP in lines[1]


def test_a_prior_says_what_its_memory_retrieves_and_where_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    probe = {"ranked": 0.25, "ranked_ablated": 0.05}
    lines = shown(
        capsys,
        PriorConsole,
        PriorMemoryMetrics(1000, {}, probe),
        PriorMemoryMetrics(1050, {}, {}),
        PriorTrainingCompleteEvent(1.0, 1.5, 4.5, 4.25, 2, False),
    )
    assert [line.partition(" of motifs")[0] for line in lines] == [
        "warning: after 1000 steps the memory retrieves 25%",
        "2 epochs, best held-out perplexity 4.2",
    ]


def test_mlflow_gets_metrics_under_the_names_of_event_fields(tracker: Tracker) -> None:
    codec_epoch = VQEpochMetrics(1, 2, 1.0, 1.5, 1.4, 0.1, 0.4, 1e-3, 1.0, 9.0, {}, ())
    codec_step = VQStepMetrics(0, 10, 20, 2.0, 1.9, 0.1, 0.25, 1e-3, 0.1, {})
    prior_step = PriorStepMetrics(3, 1, 10, 1.25, 1e-3, 0.1, 30, 99)
    send(ToMlflow(tracker), WATCH, codec_step, codec_epoch, step(3), prior_step, EPOCH, PRIOR_EPOCH, ROLLBACK, END)
    sent = {(name, at): value for name, value, _, at in tracker._pending}
    assert sent == {
        ("step/watch_perplexity", 8): 12.345,
        ("step/watch_change", 8): -0.031,
        ("step/watch_threshold", 8): 0.05,
        ("gates/layer_0/mean", 8): 0.5,
        ("step/train_loss", 10): 2.0,
        ("step/recon_loss", 10): 1.9,
        ("overfitting_gap", 1): 0.4,
        ("step/train_loss", 30): 1.25,
        **{(name, 1): value for name, value in METRICS.items()},
        ("learning_rate", 1): 1e-3,
        ("epoch_time_s", 1): 2.0,
        ("best_perplexity", 1): 1.1,
        ("rollbacks", 0): 2.0,
    }


def test_the_status_files_have_the_metrics_of_each_epoch_and_whether_a_prior_memorises(tmp_path: Path) -> None:
    send(ToFiles(Status(tmp_path, "prior")), step(1), WATCH, EPOCH, PRIOR_EPOCH, END)
    first, second = map(json.loads, (tmp_path / EVENTS).read_text().splitlines())
    assert first == {
        "event": "metrics",
        "task": "prior",
        **METRICS,
        "learning_rate": 1e-3,
        "epoch_time_s": 2.0,
        "epoch": 1,
    }
    assert (second["event"], second["is_memorizing"]) == ("PriorEpochMetrics", True)


def test_a_callback_gets_the_public_events() -> None:
    got: list[Any] = []
    send(ToCallback(got.append), step(1), WATCH, ROLLBACK, EPOCH, PRIOR_EPOCH, END)
    assert got == [WATCH, ROLLBACK, PRIOR_EPOCH]
