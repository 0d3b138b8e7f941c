"""How loudness goes on: states, changes, and what a table adds to the logits."""

import math

import numpy as np
import pytest
import torch

from distill.prior.loudness_course import CHANGES, SITUATIONS, STATES, LoudnessCourse

SIZE, BOS = 71, 71  # codes of steps of 2 dB
SAME, UP, JUMP, END = 2, 3, 5, CHANGES - 1
START = STATES - 1
MANY = 1000


def state(frame: int, fall: int, has_been_loud: bool = True) -> int:
    return SITUATIONS * min(7, int(math.log2(frame))) + 2 * fall + has_been_loud


def recording(*loudness: int) -> np.ndarray:
    return np.array([[level, 0] for level in loudness])


@pytest.fixture
def course() -> LoudnessCourse:
    """Of recordings that become as loud as 70 and 50."""
    made = LoudnessCourse(SIZE)
    made.hear([recording(70, 20), recording(10, 50)])
    return made


def states(course: LoudnessCourse, loudness: list[int], position: int) -> list[int]:
    return course.states(torch.tensor([loudness]), torch.tensor([position]))[0][0].tolist()  # type: ignore[no-any-return]


def test_states_tell_the_time_the_fall_and_whether_a_sound_has_been_loud(course: LoudnessCourse) -> None:
    loudness, falls = [60, 70, 67, 66, 60, 59, 55, 50, 49], [0, 0, 0, 1, 2, 2, 3, 4, 4]
    assert states(course, loudness, 1) == [state(1 + index, fall) for index, fall in enumerate(falls)]
    assert states(course, loudness, MANY) == [state(MANY, fall) for fall in falls]
    soft = states(course, [BOS, 40, 46, 47, 30], 0)
    assert soft == [START, state(1, 0, False), state(2, 0, False), state(3, 0), state(4, 3)]


@pytest.mark.parametrize(("others", "softest"), [(150, 100), (50, 10)])
def test_one_very_soft_recording_of_many_does_not_tell_how_loud_sounds_are(
    course: LoudnessCourse, others: int, softest: float
) -> None:
    course.hear([recording(5)] + [recording(50)] * others)
    assert float(course.softest) == pytest.approx(softest)


def test_changes_are_classes_of_differences(course: LoudnessCourse) -> None:
    classes = course.changes(torch.tensor([50]))[0]
    assert classes[[40, 46, 47, 49, 50, 51, 53, 54, 59, 60, 70]].tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 5]
    assert classes[SIZE:].tolist() == [END, END]
    first = course.changes(torch.tensor([BOS]))[0]  # against the softest recording, of 50
    assert first[[0, 47, 48, 50, 51, 53, 54, 56, 57, 59, 60, 70]].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_sounds_count_with_the_root_of_their_frames_and_cut_ones_have_no_end(course: LoudnessCourse) -> None:
    counts = course.count([recording(70, 70, 70, 30, 30, 70)], MANY)
    root = 1 / math.sqrt(2)
    assert counts[START].tolist() == [0, 0, 0, 0, 0, 1, 0]
    assert counts[state(1, 0), SAME] == 1
    assert counts[state(2, 0)].tolist() == pytest.approx([root, 0, root, 0, 0, 0, 0])
    assert counts[state(4, 4)].tolist() == pytest.approx([0, 0, root, 0, 0, root, 0])
    assert counts[state(6, 0), END] == 1
    assert counts.sum() == pytest.approx(1 + 1 + 4 * root + 1)
    sound = recording(70, 70, 70)
    cut = course.count([sound], 3)
    assert course.count([sound], 4)[:, END].sum() > 0 == cut[:, END].sum()
    np.testing.assert_array_equal(course.count([recording(70, 70, 70, 10, 10)], 3), cut)


def test_the_table_raises_what_follows_whole_and_frame_by_frame(course: LoudnessCourse) -> None:
    loudness, positions = torch.tensor([[BOS, 60, 20], [60, 20, 21]]), torch.tensor([0, 5])
    assert not bool(course(loudness, positions, None)[0].any())
    course.table.normal_(generator=torch.Generator().manual_seed(0))
    raised, loudest = course(loudness, positions, None)
    assert float(raised[0, 0, 60]) == float(course.table[START, JUMP])
    assert float(raised[0, 1, 60]) == float(course.table[state(1, 0), SAME])
    assert float(raised[0, 2, SIZE + 1]) == float(course.table[state(2, 4), END])
    assert float(raised[1, 2, 22]) == float(course.table[state(7, 4), UP])
    before = None
    for frame in range(3):  # what was the loudest is remembered
        single, before = course(loudness[:, frame : frame + 1], positions + frame, before)
        assert torch.equal(single[:, 0], raised[:, frame])
    assert torch.equal(before, loudest)
