"""The warning about memorising."""

import pytest

from distill.training.memorization import check_memorization


@pytest.mark.parametrize(("recordings", "threshold"), [(5, 2.0), (20, 2.0), (21, 3.0), (100, 3.0), (101, 5.0)])
def test_thresholds_follow_the_tiers(recordings: int, threshold: float) -> None:
    assert check_memorization(threshold - 0.01, 64, recordings).is_memorizing
    assert check_memorization(threshold, 64, recordings) == (False, "")


def test_the_message_says_what_it_means_and_what_to_do() -> None:
    is_memorizing, message = check_memorization(1.2, 64, 12)
    assert is_memorizing
    for part in ("perplexity 1.20, below 2 for 12 recordings", "guessing would give 64", "report.json", "prior.epochs"):
        assert part in message
