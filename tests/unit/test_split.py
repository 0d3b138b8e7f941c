"""The split: pure, stable, never empty on a side; and seeds from seeds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.seeds import derive_seed
from distill.split import draw, split_groups

groups = st.sets(st.text("0123456789abcdef", min_size=1, max_size=16), min_size=2, max_size=60)
seeds = st.integers(0, 2**32 - 1)
fractions = st.floats(0.01, 0.99)


@given(groups, seeds, fractions)
def test_both_sides_are_inhabited_and_order_does_not_matter(names: set[str], seed: int, fraction: float) -> None:
    sides = split_groups(sorted(names), seed, fraction)
    assert set(sides.values()) == {"train", "val"}
    assert sides == split_groups(sorted(names, reverse=True), seed, fraction)


@given(groups, seeds, fractions)
def test_a_side_is_a_matter_of_the_group_alone_unless_a_side_would_be_empty(
    names: set[str], seed: int, fraction: float
) -> None:
    alone = {name: "val" if draw(name, seed) < fraction else "train" for name in names}
    if set(alone.values()) == {"train", "val"}:
        assert split_groups(names, seed, fraction) == alone


def test_the_share_is_met_on_average() -> None:
    names = [f"{number:016x}" for number in range(20_000)]
    held_out = sum(side == "val" for side in split_groups(names, 3, 0.2).values())
    assert abs(held_out / len(names) - 0.2) < 0.01


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="at least 2 groups, found 1"):
        split_groups(["a", "a"], 0, 0.5)


def test_seeds_differ_in_every_part() -> None:
    derived = {derive_seed(a, b, c) for a in range(8) for b in range(8) for c in range(8)}
    assert len(derived) == 512
    assert all(0 <= seed < 2**63 for seed in derived)
