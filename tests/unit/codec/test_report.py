"""Reports of codec training: a row for each codebook, warnings once, on a terminal and elsewhere."""

import io
from typing import Any

import pytest
from rich.console import Console
from unit.tiny import tiny_codec

from distill import progress as console
from distill.codec.training import CodecConsole, CodecTraining, print_codec, utilization_warnings
from distill.progress import ProgressReport, health_table
from distill.training.events import Epoch, Step, VQEpochMetrics
from distill.training.task import TrainingResult


def health(*used: float) -> dict[str, dict[str, float]]:
    return {
        f"level_{level}": {"utilization": share, "perplexity": 9.5, "dead_codes": 100 * (1 - share)}
        for level, share in enumerate(used)
    }


def step(number: int) -> Step:
    return Step(0, number, 6, 1e-3, 0.1, {"train_loss": 2.0})


def epoch(number: int, *used: float) -> tuple[Epoch, VQEpochMetrics]:
    found = health(*used)
    flat = {f"codebook/{level}/{name}": value for level, values in found.items() for name, value in values.items()}
    return (
        Epoch(number, {"train_loss": 1.5, "val_loss": 1.75, **flat}, 1e-3, 1.0, 1.0, 1.75),
        VQEpochMetrics(number, 3, 1.5, 1.75, 1.7, 0.2, 0.1, 1e-3, 1.0, 1.0, found, utilization_warnings(found)),
    )


def shown_progress(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> str:
    screen = io.StringIO()
    real = Console
    monkeypatch.setattr(console, "LINE_SECONDS", 1e9)
    monkeypatch.setattr(
        console, "Console", lambda **_: real(file=screen, width=120, force_terminal=terminal, color_system=None)
    )
    with ProgressReport("codec") as progress:
        show = CodecConsole(progress)
        for number, used in enumerate([(0.5, 0.25), (0.5, 0.24), (0.2, 0.9)]):
            for event in (step(2 * number + 1), step(2 * number + 2), *epoch(number, *used)):
                show.on_event(event)
    return screen.getvalue()


def test_without_a_terminal_there_are_lines_and_each_level_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = shown_progress(monkeypatch, terminal=False).splitlines()
    assert lines == [
        "warning: epoch 1: level_1: 25% of the codewords are used on held-out recordings (expected 30 % or more): "
        "lower the codebook size or add recordings",
        "codec 6/6 epoch 3: loss 1.500, held out 1.750; level_0 20% used, perplexity 9.5, 80 unused; "
        "level_1 90% used, perplexity 9.5, 10 unused",
        "warning: epoch 3: level_0: 20% of the codewords are used on held-out recordings (expected 30 % or more): "
        "lower the codebook size or add recordings",
    ]


def test_on_a_terminal_every_epoch_has_a_row_for_each_level(monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[Any] = []
    monkeypatch.setattr(ProgressReport, "show_below", lambda _, table: tables.append(table))
    text = shown_progress(monkeypatch, terminal=True)
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


def printed(result: TrainingResult, *used: float) -> list[str]:
    screen = io.StringIO()
    training = CodecTraining(result=result, model=tiny_codec(), codebook_health=health(*used))
    print_codec(training, Console(file=screen, width=60))
    return screen.getvalue().splitlines()


def test_the_end_has_losses_a_row_for_each_level_and_the_warnings() -> None:
    rows = [{"train_loss": 3.0, "val_loss": 2.5}, {"train_loss": 2.0, "val_loss": 2.75}]
    lines = printed(TrainingResult({}, {}, 0, 2.5, rows[0], rows), 0.5, 0.1)
    assert lines[0] == "codec: best epoch 1 of 2, loss 3.000, held out 2.500; at the end 2.000 and 2.750"
    assert [line.split()[0] for line in lines[3:5]] == ["level_0", "level_1"]
    assert lines[5].startswith("warning: level_1: 10% of the codewords are used")
    assert lines[5].endswith("lower the codebook size or add recordings")


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (
            [{"train_loss": 3.0, "val_loss": 2.5}],
            "codec: no epoch of 1 was better than the start, held out 2.250; at the end 3.000 and 2.500",
        ),
        ([], "codec: stopped within the first epoch, held out 2.250"),
    ],
)
def test_a_training_without_improvement_is_reported(rows: list[dict[str, float]], line: str) -> None:
    assert printed(TrainingResult({}, {}, -1, 2.25, {"val_loss": 2.25}, rows), 0.5, 0.5)[0] == line
