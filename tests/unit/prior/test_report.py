"""Reports of prior training: steps over the whole training, one warning when the prior memorises."""

from collections.abc import Mapping

import pytest

from distill.novelty.memorization import HOW_TO_STOP, check_memorization
from distill.prior.report import show_prior_progress
from distill.progress import ProgressReport
from distill.training.events import PriorEpochMetrics, PriorStepMetrics
from distill.training.tracking import Tracker


class Steps(Tracker):
    """Keeps the steps that it is given."""

    def __init__(self) -> None:
        super().__init__(None, "train_prior", "f00d")
        self.steps: list[int] = []

    def step(self, values: Mapping[str, float], step: int) -> None:  # noqa: ARG002
        self.steps.append(step)


def test_steps_are_tracked_over_the_whole_training_and_memorisation_is_warned_of_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tracker = Steps()
    check = check_memorization(1.2, 64, 12)
    with ProgressReport("prior") as progress:
        show = show_prior_progress(progress, tracker)
        for epoch in range(2):
            for step in (1, 2, 3):
                show(PriorStepMetrics(epoch, step, 3, 1.0, 1e-3, 0.1, 3 * epoch + step, 6))
            show(PriorEpochMetrics(epoch, 2, 1.0, 1.0, 1.2, 1.2, *check, 1.0, 1e-3))
    assert tracker.steps == [1, 2, 3, 4, 5, 6]
    printed = capsys.readouterr().err
    assert "prior 6/6 " in printed
    assert "prior 3/3" not in printed
    assert printed.count(f"warning: {check.memorization_message}") == 1
    assert HOW_TO_STOP in printed
