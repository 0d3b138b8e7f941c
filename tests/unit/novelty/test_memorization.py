"""The memorisation check."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from distill.codec.layout import NOTES, TUNINGS, FrameLayout
from distill.novelty.memorization import Memorization, check_memorization, deciding_perplexity, near_duplicates
from distill.params import get_adaptive_prior_config
from distill.training.events import HOW_TO_STOP


@pytest.mark.parametrize(("recordings", "threshold"), [(5, 2.0), (20, 2.0), (21, 3.0), (100, 3.0), (101, 5.0)])
def test_thresholds_follow_the_tiers(recordings: int, threshold: float) -> None:
    assert check_memorization(threshold - 0.01, 64, recordings).is_memorizing
    assert check_memorization(threshold, 64, recordings) == (False, "")


def test_corpora_that_are_learnt_by_heart_are_told_from_others() -> None:
    """By what priors measured on them: see `benchmarks/memorization.py`, of which this is the table."""
    with (Path(__file__).parents[3] / "benchmarks/results/memorization.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        threshold = get_adaptive_prior_config(int(row["recordings"])).memorization_perplexity
        perplexity, threshold = deciding_perplexity(
            float(row["perplexity"]), float(row["of three coarse levels"]), threshold
        )
        assert (perplexity < threshold) is (row["memorised"] == "yes"), row
        assert row["warns"] == row["memorised"]
    cases = Counter((row["levels"], row["memorised"]) for row in rows)
    assert cases == {(levels, told): n for levels in ("4", "8", "16") for told, n in (("yes", 5), ("no", 10))}


def test_the_message_says_what_it_means_and_what_to_do() -> None:
    message = check_memorization(1.2, 64, 12).memorization_message
    assert "perplexity 1.20, below 2 for 12 recordings; a uniform prediction has 64" in message
    assert "look for copies" in message
    assert message.endswith(HOW_TO_STOP)
    assert "`touch .distill/stop` ends it with the best weights" in HOW_TO_STOP


def test_near_duplicates_are_told_from_memorisation() -> None:
    figures = {"val_perplexity": 1.2, "threshold": 2.0, "codebook_size": 64, "recordings": 12, "compared": 4}
    many, few = (Memorization(was_memorizing=True, alike=alike, **figures) for alike in (3, 1))
    assert "Near-duplicates explain it: 3 of 4 held-out recordings have a near-duplicate" in many.message
    assert "Few held-out recordings (1 of 4) have a near-duplicate among training recordings, so copies" in few.message
    assert Memorization.model_validate_json(few.model_dump_json()) == few
    assert Memorization(was_memorizing=False, **figures).message == ""
    assert [one.is_of_copies for one in (many, few)] == [True, False]


def test_near_duplicates_are_found_at_any_lag() -> None:
    rng = np.random.default_rng(0)
    train = [rng.integers(0, 64, (40, 6)) for _ in range(3)]
    part = train[1][7:30].copy()
    part[:, 5:] = rng.integers(0, 64, (23, 1))  # finer levels differ, as they do in another format
    part[::5, 0] = 1
    assert near_duplicates(train, [part, rng.integers(0, 64, (23, 6))], FrameLayout((64,) * 6)) == (1, 2)


def test_equal_notes_make_no_near_duplicates_and_other_notes_hide_none() -> None:
    rng = np.random.default_rng(0)
    (train,) = recording = [rng.integers(0, 64, (40, 6))]
    other_key, same_notes = train.copy(), train.copy()
    other_key[:, 1:4] = rng.integers(0, 16, (40, 3))
    same_notes[:, [0, 4, 5]] = rng.integers(0, 64, (40, 3))
    assert near_duplicates(recording, [other_key, same_notes], FrameLayout((71, NOTES, TUNINGS, 97, 64, 64))) == (1, 2)
