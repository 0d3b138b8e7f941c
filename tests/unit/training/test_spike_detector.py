"""The spike detector: what is a spike, what is noise."""

import json
import math

import pytest

from distill.training import spike_detector
from distill.training.spike_detector import MIN_THRESHOLD, SpikeDetector


def spikes(values: list[float]) -> list[bool]:
    detector = SpikeDetector()
    return [detector.observe(value).is_spike for value in values]


@pytest.mark.parametrize(("last", "spike"), [(106.0, True), (104.0, False), (105.0, False), (105.1, True)])
def test_more_than_five_percent_above_is_a_spike(last: float, spike: bool) -> None:
    assert spikes([100.0, 100.0, last]) == [False, False, spike]


def test_an_average_of_zero_allows_any_next_value() -> None:
    """The codec has no loss on digital silence."""
    assert spikes([0.0, 0.0, 0.0, 0.2, 0.1]) == [False] * 5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_a_spike_at_once(bad: float) -> None:
    assert spikes([bad]) == [True]


def test_a_spike_does_not_change_the_average() -> None:
    detector = SpikeDetector()
    for value in (100.0, 100.0, 150.0, 150.0, math.nan):
        detector.observe(value)
    assert detector.ema == 100.0
    assert detector.observe(100.0).delta == 0.0


def test_a_noisy_perplexity_has_a_higher_threshold() -> None:
    """Deltas of up to 12 % are common here, so 13 % is none."""
    detector = SpikeDetector(ema=100.0, seen=2, deltas=[-0.1, 0.12, -0.08, 0.1, -0.11, 0.12, -0.1, 0.09])
    assert detector.threshold > 0.2
    assert not detector.observe(113.0).is_spike


def test_a_training_that_has_just_begun_may_rise_more() -> None:
    allowed = [spike_detector.early_threshold(step) for step in (3, 16, 50, 150, 10_000)]
    assert allowed == pytest.approx([2.5, 7.5 / 16, 0.15, 0.05, 0.05])
    readings = [SpikeDetector(ema=100.0, seen=2).observe(140.0, least) for least in allowed]
    assert [reading.is_spike for reading in readings] == [False, False, True, True, True]
    assert [reading.threshold for reading in readings] == allowed


def test_falling_perplexity_never_spikes() -> None:
    assert not any(spikes([200 * 0.9**step for step in range(60)]))


def test_the_threshold_is_at_least_five_percent_and_survives_a_checkpoint() -> None:
    detector = SpikeDetector()
    for value in (100.0, 99.0, 98.5, 98.0):
        detector.observe(value)
    assert detector.threshold >= MIN_THRESHOLD
    again = SpikeDetector.restored(json.loads(json.dumps(vars(detector))))
    assert again == detector


def test_a_reading_is_logged_under_short_names() -> None:
    reading = SpikeDetector(ema=100.0, seen=2).observe(98.0)
    assert reading.line("perplexity") == {"perplexity": 98.0, "ppl_delta": -0.02, "ppl_threshold": 0.05}
    assert set(reading.line("recon_loss")) == {"recon_loss", "recon_delta", "recon_threshold"}
