"""Blocks: they divide the items, keep their bounds, and a new item changes those around it alone."""

from hypothesis import given
from hypothesis import strategies as st

from distill.storage.blocks import cut_blocks

NAMES = st.lists(st.text(max_size=8), max_size=200)


@given(names=NAMES, items=st.integers(1, 20), size=st.integers(1, 50))
def test_blocks_divide_the_items_and_keep_their_bounds(names: list[str], items: int, size: int) -> None:
    sizes = [len(name) for name in names]
    blocks = cut_blocks(names, sizes, items, size)
    assert [index for block in blocks for index in block] == list(range(len(names)))
    for block in blocks:
        assert 1 <= len(block) <= 2 * items
        assert len(block) == 1 or sum(sizes[index] for index in block) <= size


def test_a_new_item_changes_few_blocks() -> None:
    names = [f"{number:05d}" for number in range(20_000)]
    before = {tuple(names[index] for index in block) for block in cut_blocks(names, [1] * len(names), 64, 1 << 20)}
    assert 20_000 / 64 / 2 < len(before) < 2 * 20_000 / 64
    for place in (0, 7_000, 20_000):
        longer = [*names[:place], "new", *names[place:]]
        after = {
            tuple(longer[index] for index in block) for block in cut_blocks(longer, [1] * len(longer), 64, 1 << 20)
        }
        assert len(after - before) <= 8
