"""Side information: parts of it, to arrays and files and back, and a sentence for each way these can be wrong."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from distill.audio.image import BANDS, MONO
from distill.audio.side_info import (
    FILE,
    UNKNOWN,
    SideInfo,
    read_side_info,
    side_info_arrays,
    side_info_of,
    write_side_info,
)
from distill.errors import ArtifactError


def rows(count: int, *columns: int) -> NDArray[np.uint8]:
    """Rows `[count, columns]` that hold their number."""
    return np.arange(count, dtype=np.uint8).reshape(-1, *[1] * len(columns)) + np.zeros((count, *columns), np.uint8)


def sounds() -> list[SideInfo]:
    """A stereo sound, a mono one, and a longer stereo one."""
    return [
        SideInfo(rows(4, 2, BANDS), rows(4, 8)),
        SideInfo(noise=rows(1, 8)),
        SideInfo(rows(2, 2, BANDS), rows(2, 8)),
    ]


def is_same(one: SideInfo, other: SideInfo) -> bool:
    return np.array_equal(one.image, other.image) and np.array_equal(one.noise, other.noise)


def test_what_belongs_to_a_part_is_its_rows() -> None:
    whole = sounds()[0]
    for start, seconds, expected in ((0, 4, [0, 1, 2, 3]), (1.2, 2, [1, 2]), (2.6, 1, [3]), (9, 3, [3, 3, 3])):
        part = whole.cut(start, seconds)
        assert part.image[:, 0, 0].tolist() == part.noise[:, 0].tolist() == expected
    short = SideInfo(rows(1, 2, BANDS), rows(1, 8)).cut(0, 2)
    assert short.image[:, 0, 0].tolist() == short.noise[:, 0].tolist() == [0, 0]
    assert sounds()[1].cut(1, 5).noise.shape == (5, 8)
    assert not sounds()[1].cut(1, 5).is_stereo


def test_in_mono_the_noise_floor_stays() -> None:
    assert sounds()[0].is_stereo
    assert is_same(sounds()[0].in_mono, SideInfo(MONO, rows(4, 8)))
    assert not UNKNOWN.is_stereo
    assert UNKNOWN.noise.shape == (1, 8)


def test_arrays_and_files_give_the_same_back(tmp_path: Path) -> None:
    given = sounds()
    write_side_info(tmp_path, given)
    for found in (side_info_of(side_info_arrays(given), 3), read_side_info(tmp_path, 3)):
        assert all(map(is_same, found, given))
    write_side_info(tmp_path, [])
    assert read_side_info(tmp_path, 0) == []
    mono = side_info_arrays([about.in_mono for about in given])
    assert mono.keys() == {"noise", "noise_lengths"}
    assert mono["noise_lengths"].tolist() == [4, 1, 2]
    assert not any(about.is_stereo for about in side_info_of(mono, 3))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("noise", None, "noise is missing or of another type or shape"),
        ("noise_lengths", None, "noise_lengths is missing or of another type or shape"),
        ("image", None, "image is missing or of another type or shape"),
        ("image_lengths", None, "image_lengths is missing or of another type or shape"),
        ("noise", np.zeros((7, 8), np.int64), "noise is missing or of another type or shape"),
        ("noise", np.zeros((7, 9), np.uint8), "noise has 9 columns, not 8"),
        ("noise", np.full((7, 8), 16, np.uint8), "noise holds numbers that are no steps of its scale"),
        ("noise_lengths", np.array([4, 3]), "noise_lengths has 2 entries for 3 recordings"),
        ("noise_lengths", np.array([4, 1, 3]), "noise_lengths do not add up to noise"),
        ("noise_lengths", np.array([8, -1, 0]), "noise_lengths do not add up to noise"),
        ("image", np.full((6, 40), 15, np.uint8), "image holds numbers that are no steps of its scale"),
        ("image_lengths", np.array([4, 0, 1]), "image_lengths do not add up to image"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, name: str, value: NDArray[np.generic] | None, message: str
) -> None:
    arrays = {key: kept for key, kept in side_info_arrays(sounds()).items() if key != name}
    if value is not None:
        arrays[name] = value
    with pytest.raises(ValueError, match=f"^{message}$"):
        side_info_of(arrays, 3)
    save_file(arrays, tmp_path / FILE)
    expected = rf"{FILE}: expected stereo images and noise floors of recordings, found .*{message}"
    with pytest.raises(ArtifactError, match=expected):
        read_side_info(tmp_path, 3)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=rf"{FILE}: expected stereo images and noise floors of recordings, found"):
        read_side_info(tmp_path, 3)
