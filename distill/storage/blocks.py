"""Blocks: runs of consecutive items, cut such that a new item changes its own block and no other.

Content-defined chunking, as Muthitacharoen, Chen and Mazières, "A Low-bandwidth Network File System" (SOSP 2001) cut
files: where a block ends depends on what lies there, not on how much lies before it.
"""

import hashlib
from collections.abc import Sequence


def cut_blocks(names: Sequence[str], sizes: Sequence[int], items: int, size: int) -> list[range]:
    """Cut items, given by names and sizes, into blocks of about `items` items each.

    A block has at most twice as many, and more than one item only while their sizes add up to `size` or less.
    """
    blocks: list[range] = []
    begin, total = 0, 0
    for index, (name, own) in enumerate(zip(names, sizes, strict=True)):
        is_full = index - begin >= 2 * items or total + own > size
        if index > begin and (is_full or _is_cut(name, items)):
            blocks.append(range(begin, index))
            begin, total = index, 0
        total += own
    return [*blocks, range(begin, len(names))] if names else []


def _is_cut(name: str, items: int) -> bool:
    """Whether a block begins at the item of this name, as one of `items` names does."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % items == 0
