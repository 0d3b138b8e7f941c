"""The reference: to arrays and back, and refused arrays."""

from dataclasses import replace

import numpy as np
import pytest

from distill.audio.image import BANDS, MONO
from distill.novelty.reference import MOST_FRAMES, MOST_HELD_OUT, SCORES, Reference, make_reference, read_reference

RNG = np.random.default_rng(0)


def reference(names: tuple[str, ...] = ("a/b.wav", "ü.wav")) -> Reference:
    training = [RNG.integers(0, 8, (frames, 3)) for frames in (4, 1)]
    made = make_reference(names, training, [RNG.integers(0, 8, (7, 3))])
    rows = 1 + np.arange(2 * SCORES, dtype=np.float32).reshape(2, SCORES)
    return Reference(made.names, made.codes, made.held_out, rows, rows[:1])


def stereo() -> Reference:
    return replace(reference(), images=[MONO, RNG.integers(0, 8, (3, 2, BANDS)).astype(np.uint8)])


def test_names_are_one_line_each() -> None:
    given = reference(("a\nb", "ü"))
    assert list(read_reference(given.tensors(), (9, 8, 8)).names) == ["a b", "ü"]


def test_of_many_and_long_held_out_recordings_a_part_is_kept() -> None:
    held_out = [np.full((MOST_FRAMES + 5, 3), number % 8) for number in range(3 * MOST_HELD_OUT + 1)]
    made = make_reference(["a"], [held_out[0]], held_out)
    assert MOST_HELD_OUT / 2 <= len(made.held_out) <= MOST_HELD_OUT
    assert {len(one) for one in made.held_out} == {MOST_FRAMES}
    assert len(made.codes[0]) == MOST_FRAMES + 5


def test_images_are_those_of_recordings_by_name() -> None:
    given = stereo()
    read = read_reference(given.tensors(), (9, 8, 8))
    assert [len(image) for image in read.images] == [0, 3]
    np.testing.assert_array_equal(read.image_of("ü.wav"), given.images[1])
    assert len(read.image_of("a/b.wav")) == len(read.image_of("unknown")) == 0


def test_a_mono_reference_has_no_tensors_of_images() -> None:
    mono = reference()
    assert replace(mono, images=[MONO, MONO]).tensors().keys() == mono.tensors().keys()
    assert len(read_reference(mono.tensors(), (9, 8, 8)).images) == 2
    assert len(mono.image_of("a/b.wav")) == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("images", None, "images is missing"),
        ("image_lengths", None, "image_lengths is missing"),
        ("images", np.zeros((3, 2 * BANDS), np.int64), "images is missing or of another type"),
        ("images", np.zeros((3, BANDS), np.uint8), "images has 20 columns, not 40"),
        (
            "images",
            np.full((3, 2 * BANDS), 8, np.uint8),
            "images holds steps that no level difference or coherence has",
        ),
        ("images", np.full((3, 2 * BANDS), 15, np.uint8), "images holds steps that no level"),
        ("image_lengths", np.array([0, 4]), "image_lengths do not add up to images"),
        ("image_lengths", np.array([-1, 4]), "image_lengths do not add up to images"),
        ("image_lengths", np.array([2**62, 2**62]), "image_lengths do not add up to images"),
        ("image_lengths", np.array([3]), "there are 1 images for 2 recordings"),
    ],
)
def test_images_that_do_not_fit_are_refused(name: str, value: np.ndarray | None, message: str) -> None:
    arrays = {key: kept for key, kept in stereo().tensors().items() if key != name or value is not None}
    if value is not None:
        arrays[name] = value
    with pytest.raises(ValueError, match=message):
        read_reference(arrays, (9, 8, 8))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
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
    ],
)
def test_what_does_not_fit_is_refused(name: str, value: np.ndarray | None, message: str) -> None:
    arrays = {**reference().tensors()}
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    with pytest.raises(ValueError, match=message):
        read_reference(arrays, (9, 8, 8))
