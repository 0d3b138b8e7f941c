"""Changes of loudness in the recordings: what they say about starting again and ending."""

import math

import numpy as np
import pytest
import torch

from distill.prior.count_folds import fold_changes
from distill.prior.loudness_course import (
    CHANGES,
    STATES,
    TRUST,
    LoudnessCourse,
    changes,
    count_changes,
    expected_changes,
    log_ratios,
    states,
)
from distill.prior.pretrained import load_expected_changes

SIZE = 71  # steps of 2 dB
SAME, JUMP, END = 2, 5, CHANGES - 1
FALLEN = 3  # more than 40 dB below the loudest


def state(frame: int, fall: int) -> int:
    return 4 * min(7, int(math.log2(frame))) + fall


def recording(*loudness: int) -> np.ndarray:
    return np.array([[level, 0] for level in loudness])


def test_states_tell_the_time_and_how_far_a_sound_has_fallen() -> None:
    loudness = torch.tensor([[60, 70, 67, 66, 60, 59, 50, 49]])
    found = states(loudness, torch.tensor([1]), SIZE)[0].tolist()
    assert found == [state(1 + index, fall) for index, fall in enumerate([0, 0, 0, 1, 2, 2, 3, 3])]
    later = states(loudness, torch.tensor([1000]), SIZE)[0].tolist()
    assert later == [state(1000, one % 4) for one in found]
    beginning = states(torch.tensor([[SIZE, 60]]), torch.tensor([0]), SIZE)[0].tolist()
    assert beginning == [state(1, 0), state(1, 0)]


def test_changes_are_classes_of_differences() -> None:
    classes = changes(SIZE)
    assert classes[50, [40, 46, 47, 49, 50, 51, 53, 54, 59, 60, 70]].tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 5]
    assert classes[50, [SIZE, SIZE + 1]].tolist() == [END, END]
    assert bool((classes[SIZE:] == CHANGES).all())
    # With few codewords the steps are larger.
    assert changes(8)[3, [2, 3, 4]].tolist() == [0, SAME, JUMP]


def test_recordings_count_with_the_root_of_their_frames() -> None:
    counts = count_changes([recording(70, 70, 70, 30, 30, 70)], SIZE)
    assert counts[state(1, 0), SAME] == 1
    assert counts[state(2, 0)].tolist() == pytest.approx([1 / math.sqrt(2), 0, 1 / math.sqrt(2), 0, 0, 0, 0])
    assert counts[state(4, FALLEN)].tolist() == pytest.approx([0, 0, 1 / math.sqrt(2), 0, 0, 1 / math.sqrt(2), 0])
    assert counts[state(6, 0), END] == 1
    assert counts.sum() == pytest.approx(1 + 2 * math.sqrt(2) + 1)


def test_what_never_happens_becomes_less_likely_and_nothing_counted_changes_nothing() -> None:
    expected = expected_changes([count_changes([recording(70, 30, 30, 70, 30)], SIZE)])
    assert expected.shape == (STATES, CHANGES)
    assert bool((expected > 0).all())
    torch.testing.assert_close(expected.sum(dim=1), torch.ones(STATES))
    assert not bool(log_ratios(np.zeros((STATES, CHANGES)), expected).any())
    silent = [recording(70, 30, 30, 30, 30, 30)] * 10
    ratios = log_ratios(count_changes(silent, SIZE), expected)
    counted = 10 * math.sqrt(2)  # two frames of each recording
    usual = float(expected[state(2, FALLEN), JUMP])
    assert float(ratios[state(2, FALLEN), JUMP]) == pytest.approx(
        math.log((TRUST * usual) / (counted + TRUST) / usual), rel=1e-4
    )
    assert float(ratios[state(2, FALLEN), SAME]) > 0


def test_shipped_expectations_are_shares() -> None:
    expected = load_expected_changes()
    torch.testing.assert_close(expected.sum(dim=1), torch.ones(STATES), atol=5e-3, rtol=0)
    assert float(expected.min()) > 1e-5
    # Sounds that have faded end; sounds at their loudest go on.
    assert bool((expected[3::4][2:, END] > expected[::4][2:, END]).all())


def test_the_first_level_is_raised_by_the_table_of_the_fold() -> None:
    course = LoudnessCourse(SIZE)
    assert not bool(course.ratios.any())
    tables = torch.randn(3, STATES, CHANGES, generator=torch.Generator().manual_seed(0))
    course.set_tables(tables[0], list(tables[1:]))
    inputs = torch.tensor([[[SIZE, SIZE], [60, 1], [20, 2]]] * 3)
    logits = torch.zeros(3, 3, 2, SIZE + 2)
    raised = course(logits, inputs, torch.zeros(3, dtype=torch.int64), torch.tensor([0, 2, 1])).detach()
    assert not bool(raised[:, :, 1].any())
    assert not bool(raised[:, 0].any())  # BOS says nothing
    for row, table in enumerate(tables[[0, 2, 1]]):
        assert float(raised[row, 1, 0, 60]) == pytest.approx(float(table[state(1, 0), SAME]))
        assert float(raised[row, 2, 0, 60]) == pytest.approx(float(table[state(2, FALLEN), JUMP]))
        assert float(raised[row, 2, 0, SIZE + 1]) == pytest.approx(float(table[state(2, FALLEN), END]))
    torch.testing.assert_close(course(logits, inputs, torch.zeros(3, dtype=torch.int64))[1].detach(), raised[0])


def test_folds_leave_their_recordings_out() -> None:
    recordings = [recording(70, 30, 70), recording(70, 70, 70), recording(70, 70)]
    whole, first, second = fold_changes(recordings, [1, 2, 2], SIZE)
    expected = load_expected_changes()
    for found, kept in ((whole, recordings), (first, recordings[1:]), (second, recordings[:1])):
        torch.testing.assert_close(found, log_ratios(count_changes(kept, SIZE), expected))
