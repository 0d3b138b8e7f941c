"""Reports of codec training: a row for each codebook, warnings once, on a terminal and elsewhere."""

import io
from typing import Any

import pytest
from rich.console import Console
from unit.tiny import tiny_codec

from distill import progress as console
from distill.codec.report import print_codec, show_codec_progress
from distill.codec.task import utilization_warnings
from distill.codec.training import CodecTraining
from distill.progress import ProgressReport, health_table
from distill.training.events import VQEpochMetrics, VQStepMetrics
from distill.training.task import TrainingResult
from distill.training.tracking import Tracker


def health(*used: float) -> dict[str, dict[str, float]]:
    return {
        f"level_{level}": {"utilization": share, "perplexity": 9.5, "dead_codes": 100 * (1 - share)}
        for level, share in enumerate(used)
    }


def step(number: int) -> VQStepMetrics:
    return VQStepMetrics(0, number, 6, 2.0, 1.9, 0.1, 0.25, 1e-3, 0.1, {})


def epoch(number: int, *used: float) -> VQEpochMetrics:
    found = health(*used)
    return VQEpochMetrics(number, 3, 1.5, 1.75, 1.7, 0.2, 0.1, 1e-3, 1.0, 1.0, found, utilization_warnings(found))


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Tracker(None, "train_vqvae", "f00d")


def shown_progress(monkeypatch: pytest.MonkeyPatch, tracker: Tracker, terminal: bool) -> str:
    screen = io.StringIO()
    real = Console
    monkeypatch.setattr(console, "LINE_SECONDS", 1e9)
    monkeypatch.setattr(
        console, "Console", lambda **_: real(file=screen, width=120, force_terminal=terminal, color_system=None)
    )
    with ProgressReport("codec") as progress:
        show = show_codec_progress(progress, tracker)
        for number, used in enumerate([(0.5, 0.25), (0.5, 0.24), (0.2, 0.9)]):
            show(step(2 * number + 1))
            show(step(2 * number + 2))
            show(epoch(number, *used))
    return screen.getvalue()


def test_without_a_terminal_there_are_lines_and_each_level_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, tracker: Tracker
) -> None:
    lines = shown_progress(monkeypatch, tracker, terminal=False).splitlines()
    assert lines == [
        "warning: epoch 1: level_1: 25% of the codewords are used on held-out recordings (expected 30 % or more): "
        "lower the codebook size or add recordings",
        "codec 6/6 epoch 3: loss 1.500, held out 1.750; level_0 20% used, perplexity 9.5, 80 unused; "
        "level_1 90% used, perplexity 9.5, 10 unused",
        "warning: epoch 3: level_0: 20% of the codewords are used on held-out recordings (expected 30 % or more): "
        "lower the codebook size or add recordings",
    ]


def test_on_a_terminal_every_epoch_has_a_row_for_each_level(monkeypatch: pytest.MonkeyPatch, tracker: Tracker) -> None:
    tables: list[Any] = []
    monkeypatch.setattr(ProgressReport, "show_below", lambda _, table: tables.append(table))
    text = shown_progress(monkeypatch, tracker, terminal=True)
    assert text.count("warning: epoch") == 2
    assert "epoch 3: loss 1.500, held out 1.750" in text
    assert len(tables) == 3
    shown = Console(width=100, file=io.StringIO())
    shown.print(tables[1])
    rows = shown.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert rows[0].strip() == "codebooks on held-out sound, epoch 2"
    assert [row.split() for row in rows[2:]] == [["level_0", "50%", "9.5", "50"], ["level_1", "24%", "9.5", "76"]]


def test_a_table_below_the_bar_is_live_and_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, width=100, force_terminal=True)
    monkeypatch.setattr(console, "Console", lambda **_: terminal)
    with ProgressReport("codec") as progress:
        progress(1, 2, "half")
        progress.show_below(health_table(health(0.5), "first"))
        assert progress._bar is not None
        progress._bar.refresh()
        assert "level_0" in screen.getvalue()
        before = len(screen.getvalue())
    assert "level_0" not in screen.getvalue()[before:]


def test_the_end_has_losses_a_row_for_each_level_and_the_warnings() -> None:
    rows = [{"train_loss": 3.0, "val_loss": 2.5}, {"train_loss": 2.0, "val_loss": 2.75}]
    result = TrainingResult({}, {}, 0, 2.5, rows[0], rows)
    screen = io.StringIO()
    print_codec(CodecTraining(tiny_codec(), result, health(0.5, 0.1), ()), {}, Console(file=screen, width=60))
    lines = screen.getvalue().splitlines()
    assert lines[0] == "codec: best epoch 1 of 2, loss 3.000, held out 2.500; at the end 2.000 and 2.750"
    assert [line.split()[0] for line in lines[3:5]] == ["level_0", "level_1"]
    assert lines[5].startswith("warning: level_1: 10% of the codewords are used")
    assert lines[5].endswith("lower the codebook size or add recordings")


def test_a_training_without_improvement_is_reported() -> None:
    rows = [{"train_loss": 3.0, "val_loss": 2.5}]
    result = TrainingResult({}, {}, -1, 2.25, {"val_loss": 2.25}, rows)
    screen = io.StringIO()
    print_codec(CodecTraining(tiny_codec(), result, health(0.5, 0.5), ()), {}, Console(file=screen, width=60))
    assert screen.getvalue().splitlines()[0] == (
        "codec: no epoch of 1 was better than the start, held out 2.250; at the end 3.000 and 2.500"
    )


def test_a_training_that_was_stopped_at_once_is_reported() -> None:
    result = TrainingResult({}, {}, -1, 2.25, {"val_loss": 2.25}, [])
    screen = io.StringIO()
    print_codec(CodecTraining(tiny_codec(), result, health(0.5, 0.5), ()), {}, Console(file=screen, width=60))
    assert screen.getvalue().splitlines()[0] == "codec: stopped within the first epoch, held out 2.250"
