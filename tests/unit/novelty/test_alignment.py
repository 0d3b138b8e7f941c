"""Alignment at given lags, against slow obvious versions."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.novelty.alignment import best_piece, edit_distance, longest_run, windows_at


def slow_edit_distance(costs: np.ndarray) -> float:
    rows, columns = costs.shape
    table = np.zeros((rows + 1, columns + 1))
    table[:, 0] = np.arange(rows + 1)
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            table[i, j] = min(table[i - 1, j - 1] + costs[i - 1, j - 1], table[i - 1, j] + 1, table[i, j - 1] + 1)
    return float(table[-1].min()) / rows


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12))
def test_edit_distance_is_that_of_the_table(seed: int, rows: int, columns: int) -> None:
    costs = np.random.default_rng(seed).choice([0, 0.25, 0.5, 1], (rows, columns)).astype(np.float32)
    assert edit_distance(costs) == pytest.approx(slow_edit_distance(costs))


def test_what_was_left_out_or_put_in_costs_one_frame() -> None:
    sound = np.arange(20)
    for other in (np.delete(sound, 7), np.insert(sound, 7, 99), np.where(sound == 7, 99, sound)):
        costs = (sound[:, None] != other).astype(np.float32)
        assert edit_distance(costs) == pytest.approx(1 / 20)


@given(st.integers(0, 10_000), st.integers(1, 9))
def test_pieces_and_runs_are_those_of_a_loop(seed: int, frames: int) -> None:
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *rng.integers(1, 8, 4)])
    lags = np.arange(1 - frames, starts[-1])
    values = rng.random((len(lags), frames))
    alike = rng.random((len(lags), frames)) < 0.6
    windows = windows_at(starts, lags, frames)
    best, longest = (-1.0, 0, 0), 0
    for number, lag in enumerate(lags):
        for recording, (begin, end) in enumerate(pairwise(starts)):
            inside = [frame for frame in range(frames) if begin <= lag + frame < end]
            if not inside:
                continue
            best = max(best, (values[number, inside].sum() / frames, -number, recording))
            run = 0
            for frame in inside:
                run = run + 1 if alike[number, frame] else 0
                longest = max(longest, run)
    number, recording, likeness = best_piece(windows, values)
    assert (likeness, recording) == (pytest.approx(best[0]), best[2])
    assert longest_run(windows, alike & (windows.owners >= 0)) == longest
