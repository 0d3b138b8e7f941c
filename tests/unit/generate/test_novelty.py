"""Novelty: alignment against a slow search, verdicts for copies and for sounds that are new."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.codes.matching import AlignmentIndex
from distill.generate.distance import kernel_distance
from distill.generate.novelty import Calibration


def recordings(seed: int, count: int = 6) -> list[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [(f"r{n}", rng.integers(0, 5, (int(rng.integers(3, 30)), 3))) for n in range(count)]


def slow_match(known: list[tuple[str, np.ndarray]], codes: np.ndarray) -> tuple[float, int]:
    best, longest = 0, 0
    for _, other in known:
        for lag in range(-len(codes) + 1, len(other)):
            agreeing = run = 0
            for frame, row in enumerate(codes):
                place = frame + lag
                equal = other[place] == row if 0 <= place < len(other) else np.zeros(3, dtype=bool)
                agreeing += int(equal.sum())
                run = run + 1 if equal[0] and 2 * equal.sum() >= 3 else 0
                longest = max(longest, run)
            best = max(best, agreeing)
    return best / codes.size, longest


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_matches_agree_with_a_slow_search(seed: int) -> None:
    known = recordings(seed)
    codes = np.random.default_rng(seed + 1).integers(0, 5, (12, 3))
    match = AlignmentIndex(known, 40).match(codes)
    agreement, run = slow_match(known, codes)
    assert match.agreement == pytest.approx(agreement)
    assert match.copied_frames == run


def test_a_recording_matches_itself_whole() -> None:
    known = recordings(0)
    index = AlignmentIndex(known, 40)
    for name, codes in known:
        match = index.match(codes)
        assert (match.recording_id, match.agreement, match.copied_frames) == (name, 1.0, len(codes))


def test_nearly_copied_sounds_are_called_copies_and_random_ones_new() -> None:
    rng = np.random.default_rng(0)
    known = [(f"r{n}", rng.integers(0, 64, (50, 4))) for n in range(20)]
    index = AlignmentIndex(known, 60)
    calibration = Calibration([index.match(rng.integers(0, 64, (50, 4))) for _ in range(20)])
    for _, codes in known:
        copy = np.where(rng.random(codes.shape) < 0.05, rng.integers(0, 64, codes.shape), codes)
        assert calibration.judge(index.match(copy)).verdict == "copy"
    novelty = calibration.judge(index.match(rng.integers(0, 64, (50, 4))))
    assert novelty.verdict != "copy"
    assert 0 <= novelty.percentile <= 1


def test_queries_longer_than_announced_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 5 frames, found 6"):
        AlignmentIndex(recordings(0), 5).match(np.zeros((6, 3), dtype=np.int64))


def test_kernel_distance_tells_other_sounds_from_the_same_kind() -> None:
    rng = np.random.default_rng(0)
    same, held_out, training = (list(rng.normal(0, 1, (30, 8))) for _ in range(3))
    other = list(rng.normal(2, 1, (30, 8)))
    near, far = kernel_distance(same, held_out, training, 0), kernel_distance(other, held_out, training, 0)
    assert near is not None
    assert far is not None
    assert abs(near.value - near.null_mean) < 5 * near.null_deviation + 1
    assert far.value > near.value + 10
    assert kernel_distance(same[:1], held_out, training, 0) is None


def test_a_whole_copy_is_a_copy_even_where_held_out_one_shots_are_found_whole() -> None:
    known = [("short", np.zeros((2, 3), dtype=np.int64)), *recordings(3)]
    index = AlignmentIndex(known, 40)
    calibration = Calibration([index.match(np.zeros((1, 3), dtype=np.int64)) for _ in range(5)])
    assert calibration.close_above == 1.0
    assert calibration.judge(index.match(known[2][1])).verdict == "copy"
