"""The reference: to arrays and back, and refused arrays."""

from dataclasses import replace

import numpy as np
import pytest

from distill.audio.image import BANDS
from distill.audio.noise_floor import TYPICAL
from distill.audio.side_info import ARRAYS, UNKNOWN, SideInfo
from distill.novelty.reference import (
    COLUMNS,
    LIMITS,
    MAX_FRAMES,
    MAX_HELD_OUT,
    MEASURES,
    SCORES,
    Reference,
    make_reference,
    read_reference,
)

HEARD, STATISTICS, FAULTS = (COLUMNS[name] for name in ("heard", "training_statistics", "faults"))
RNG = np.random.default_rng(0)


def reference(names: tuple[str, ...] = ("a/b.wav", "ü.wav")) -> Reference:
    training = [RNG.integers(0, 8, (frames, 3)) for frames in (4, 1)]
    made = make_reference(names, training, [RNG.integers(0, 8, (7, 3))])
    rows = 1 + np.arange(2 * SCORES, dtype=np.float32).reshape(2, SCORES)
    statistics = {name: RNG.random((2, STATISTICS)) for name in ("held_out_statistics", "training_statistics")}
    measures = {"heard": np.array([[1.0, *[np.nan] * (HEARD - 1)]]), "limits": np.arange(LIMITS + 5.0), **statistics}
    return replace(made, scores=rows, reencoded=rows[:1], faults=np.eye(1, FAULTS, dtype=np.uint8), **measures)


def stereo() -> Reference:
    image, noise = (RNG.integers(0, 8, shape).astype(np.uint8) for shape in ((3, 2, BANDS), (3, 8)))
    return replace(reference(), side_info=[SideInfo(), SideInfo(image, noise)])


def test_measures_are_read_as_they_were_written() -> None:
    given = reference()
    read = read_reference(given.tensors(), (9, 8, 8))
    read.expect_measures(bands=5)
    for name in MEASURES:
        np.testing.assert_array_equal(getattr(read, name), getattr(given, name))


def test_measures_that_are_missing_or_do_not_fit_are_refused() -> None:
    made, given = make_reference(["a"], [np.ones((4, 3), int)], [np.ones((7, 3), int)]), reference()
    for of, message in (
        (made, "scores has no rows"),
        (replace(given, heard=made.heard), "heard has no rows"),
        (replace(given, limits=made.limits), "there are 0 limits, not 12"),
        (replace(given, training_statistics=made.training_statistics), "training_statistics has no rows"),
        (replace(given, faults=given.faults.repeat(2, axis=0)), "faults has 2 rows for 1 held-out recordings"),
    ):
        with pytest.raises(ValueError, match=message):
            read_reference(of.tensors(), (9, 8, 8)).expect_measures(bands=5)


def test_names_are_one_line_each() -> None:
    given = reference(("a\nb", "ü"))
    assert list(read_reference(given.tensors(), (9, 8, 8)).names) == ["a b", "ü"]


def test_of_many_and_long_held_out_recordings_a_part_is_kept() -> None:
    held_out = [np.full((MAX_FRAMES + 5, 3), number % 8) for number in range(3 * MAX_HELD_OUT + 1)]
    made = make_reference(["a"], [held_out[0]], held_out)
    assert MAX_HELD_OUT / 2 <= len(made.held_out) <= MAX_HELD_OUT
    assert {len(one) for one in made.held_out} == {MAX_FRAMES}
    assert len(made.codes[0]) == MAX_FRAMES + 5


def test_side_information_is_that_of_recordings_by_name() -> None:
    given = stereo()
    read = read_reference(given.tensors(), (9, 8, 8))
    assert [len(about.image) for about in read.side_info] == [0, 3]
    np.testing.assert_array_equal(read.side_info_of("ü.wav").image, given.side_info[1].image)
    np.testing.assert_array_equal(read.side_info_of("ü.wav").noise, given.side_info[1].noise)
    assert read.side_info_of("unknown") is UNKNOWN


def test_a_mono_reference_has_noise_floors_alone() -> None:
    arrays = reference().tensors()
    assert {"noise", "noise_lengths"} == arrays.keys() & ARRAYS
    assert [about.noise.tolist() for about in read_reference(arrays, (9, 8, 8)).side_info] == [TYPICAL.tolist()] * 2


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image", None, "image is missing"),
        ("image_lengths", None, "image_lengths is missing"),
        ("image", np.zeros((3, 2 * BANDS), np.int64), "image is missing or of another type"),
        ("image", np.zeros((3, BANDS), np.uint8), "image has 20 columns, not 40"),
        ("image", np.full((3, 2 * BANDS), 8, np.uint8), "image holds numbers that are no steps of its scale"),
        ("image_lengths", np.array([0, 4]), "image_lengths do not add up to image"),
        ("image_lengths", np.array([-1, 4]), "image_lengths do not add up to image"),
        ("image_lengths", np.array([2**62, 2**62]), "image_lengths do not add up to image"),
        ("image_lengths", np.array([3]), "image_lengths has 1 entries for 2 recordings"),
        ("noise", None, "noise is missing"),
        ("noise", np.full((4, 8), 16, np.uint8), "noise holds numbers that are no steps of its scale"),
        ("noise_lengths", np.array([1, 2]), "noise_lengths do not add up to noise"),
        ("codes", None, "codes is missing"),
        ("codes", np.zeros((5, 3)), "codes is missing or of another type"),
        ("codes", np.zeros((5, 2), np.uint16), "codes has 2 columns, not 3"),
        ("codes", np.full((5, 3), 8, np.uint16), "codes holds codewords that the codec does not have"),
        ("lengths", np.array([4, 2]), "lengths do not add up to codes"),
        ("lengths", np.array([-1, 6]), "lengths do not add up to codes"),
        ("lengths", np.array([2**62, 2**62]), "lengths do not add up to codes"),
        ("held_out_lengths", np.array([8]), "held_out_lengths do not add up to held_out"),
        ("names", np.frombuffer(b"a", np.uint8), "there are 1 names for 2 recordings"),
        ("scores", np.full((2, SCORES), np.nan, np.float32), "scores holds NaN or infinite values"),
        ("scores", np.zeros((2, SCORES), np.float32), "scores holds values out of range"),
        ("reencoded", np.zeros((2, 3), np.float32), "reencoded has 3 columns"),
        ("heard", np.full((1, HEARD), 0.5), "heard holds values out of range"),
        ("heard", np.zeros((1, 5)), "heard has 5 columns, not 6"),
        ("held_out_statistics", np.full((1, STATISTICS), 1e200), "held_out_statistics holds values out of range"),
        ("limits", np.full(LIMITS + 5, np.inf), "limits holds NaN or infinite values"),
        ("faults", np.full((1, FAULTS), 2, np.uint8), "faults holds values out of range"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, value: np.ndarray | None, message: str) -> None:
    arrays = {**stereo().tensors(), name: value}
    present = {key: array for key, array in arrays.items() if array is not None}
    with pytest.raises(ValueError, match=message):
        read_reference(present, (9, 8, 8))
