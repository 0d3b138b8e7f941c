"""Reports of codec training: a row for each codebook, warnings once, on a terminal and elsewhere."""

import io

import pytest
from rich.console import Console
from unit.tiny import tiny_codec

from distill import progress as progress_module
from distill.codec.training import CodecConsole, CodecTraining, print_codec, utilization_warnings
from distill.progress import ProgressReport, health_table
from distill.training.events import Epoch, Step, VQEpochMetrics
from distill.training.task import TrainingResult


def health(*used: float) -> dict[str, dict[str, float]]:
    return {
        f"level_{level}": {"utilization": share, "perplexity": 9.5, "dead_codes": 100 * (1 - share)}
        for level, share in enumerate(used)
    }


def screen_of(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> io.StringIO:
    screen, real = io.StringIO(), Console
    options = {"file": screen, "width": 120, "force_terminal": terminal, "color_system": None}
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 1e9)
    monkeypatch.setattr(progress_module, "Console", lambda **_: real(**options))  # type: ignore[arg-type]
    return screen


@pytest.mark.parametrize("terminal", [False, True])
def test_each_level_is_warned_of_once_and_a_terminal_has_a_row_for_each(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    screen, tables = screen_of(monkeypatch, terminal), []
    monkeypatch.setattr(ProgressReport, "show_below", lambda _, table: tables.append(table))
    with ProgressReport("codec") as progress:
        show = CodecConsole(progress)
        for number, used in enumerate([(0.5, 0.25), (0.5, 0.24), (0.2, 0.9)]):
            found = health(*used)
            show.on_event(Step(0, number + 1, 3, 1e-3, 0.1, {"train_loss": 2.0}))
            show.on_event(Epoch(number, {"train_loss": 1.5, "val_loss": 1.75}, 1e-3, 1.0, 1.0, 1.75))
            told = utilization_warnings(found)
            show.on_event(VQEpochMetrics(number, 3, 1.5, 1.75, 1.7, 0.2, 0.1, 1e-3, 1.0, 1.0, found, told))
    shown = Console(width=100, file=io.StringIO())
    shown.print(tables[1])
    rows = shown.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert rows[0].strip() == "codebooks on held-out sound, epoch 2"
    assert [row.split() for row in rows[2:]] == [["level_0", "50%", "9.5", "50"], ["level_1", "24%", "9.5", "76"]]
    advice = "of the codewords are used on held-out recordings (expected 30 % or more): lower the codebook size or add"
    lines = [
        f"warning: epoch 1: level_1: 25% {advice} recordings",
        "codec 3/3 epoch 3: loss 1.500, held out 1.750",
        f"warning: epoch 3: level_0: 20% {advice} recordings",
    ]
    if terminal:
        assert screen.getvalue().count("warning: epoch") == 2
    else:
        assert screen.getvalue().splitlines() == lines


def test_a_table_below_the_bar_is_live_and_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_of(monkeypatch, True)
    with ProgressReport("codec") as progress:
        progress(1, 2, "half")
        progress.show_below(health_table(health(0.5), "first"))
        assert progress._bar is not None
        progress._bar.refresh()
        assert "level_0" in screen.getvalue()
        before = len(screen.getvalue())
    assert "level_0" not in screen.getvalue()[before:]


@pytest.mark.parametrize(
    ("best_epoch", "rows", "line"),
    [
        (0, [(3.0, 2.5), (2.0, 2.75)], "best epoch 1 of 2, loss 3.000, held out 2.500; at the end 2.000 and 2.750"),
        (-1, [(3.0, 2.5)], "no epoch of 1 was better than the start, held out 2.250; at the end 3.000 and 2.500"),
        (-1, [], "no epoch of 0 was better than the start, held out 2.250"),
    ],
)
def test_the_end_has_losses_a_row_for_each_level_and_the_warnings(
    best_epoch: int, rows: list[tuple[float, float]], line: str
) -> None:
    history = [{"train_loss": train, "val_loss": val} for train, val in rows]
    best = history[best_epoch] if best_epoch >= 0 else {"val_loss": 2.25}
    result = TrainingResult({}, {}, best_epoch, best["val_loss"], best, history)
    screen = io.StringIO()
    training = CodecTraining(result=result, model=tiny_codec(), codebook_health=health(0.5, 0.1))
    print_codec(training, Console(file=screen, width=60))
    lines = screen.getvalue().splitlines()
    assert lines[0] == f"codec: {line}"
    assert [text.split()[0] for text in lines[3:5]] == ["level_0", "level_1"]
    assert lines[5].startswith("warning: level_1: 10% of the codewords are used")
