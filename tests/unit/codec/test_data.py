"""Audio for the codec's training."""

import pytest

from distill.codec.data import evenly_spaced


@pytest.mark.parametrize(
    ("count", "most", "chosen"),
    [(6, 9, [0, 1, 2, 3, 4, 5]), (6, 3, [0, 2, 5]), (6, 2, [0, 5]), (6, 1, [0]), (1, 4, [0]), (0, 4, [])],
)
def test_evenly_spaced_numbers_have_both_ends(count: int, most: int, chosen: list[int]) -> None:
    assert evenly_spaced(count, most) == chosen
