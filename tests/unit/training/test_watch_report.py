"""Probes and rollbacks on the console and in MLflow."""

import pytest

from distill.codec.report import show_codec_progress
from distill.prior.report import show_prior_progress
from distill.progress import ProgressReport
from distill.training import PriorStepMetrics, RollbackEvent, VQStepMetrics, WatchMetrics
from distill.training.tracking import Tracker

ROLLBACK = RollbackEvent(9, 4, 2, False, "found train_loss nan, 3 steps in a row")
SAID = "warning: step 9: training goes back 4 steps, rollback 2: found train_loss nan, 3 steps in a row"


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Tracker(None, "train_prior", "f00d")


def test_a_prior_shows_probes_beside_the_loss_and_says_rollbacks(
    tracker: Tracker, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressReport("prior") as progress:
        show = show_prior_progress(progress, tracker)
        show(WatchMetrics(8, "perplexity", 12.345, -0.031, 0.05, False, {}))
        show(ROLLBACK)
        assert SAID in capsys.readouterr().err  # at once
        show(PriorStepMetrics(0, 10, 10, 1.0, 1e-3, 0.1, 10, 10))
    assert "prior 10/10 loss 1.000; probe 12.3 (-3%)" in capsys.readouterr().err
    sent = {name: (value, step) for name, value, _, step in tracker._pending}
    assert sent["step/watch_perplexity"] == (12.345, 8)
    assert sent["step/watch_change"] == (-0.031, 8)
    assert sent["step/watch_threshold"] == (0.05, 8)


def test_so_does_a_codec(tracker: Tracker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.progress.LINE_SECONDS", 0.0)
    with ProgressReport("codec") as progress:
        show = show_codec_progress(progress, tracker)
        show(WatchMetrics(8, "recon_loss", 1.9, 0.02, 0.05, False, {}))
        show(ROLLBACK)
        show(VQStepMetrics(0, 9, 20, 2.0, 1.9, 0.1, 0.25, 1e-3, 0.1, {}))
    printed = capsys.readouterr().err
    assert SAID in printed
    assert "codec 9/20 loss 2.000; probe 1.9 (+2%)" in printed
    assert ("step/watch_recon_loss", 1.9) in [(name, value) for name, value, *_ in tracker._pending]
