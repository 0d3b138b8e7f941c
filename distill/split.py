"""Which recordings are held out: the one place that decides, for the codec and the prior alike."""

import hashlib
from collections.abc import Iterable
from typing import Literal

Side = Literal["train", "val"]


def draw(group: str, seed: int) -> float:
    """A number in [0, 1) that depends on the group and the seed alone."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def split_groups(groups: Iterable[str], seed: int, fraction: float) -> dict[str, Side]:
    """Side of every group of near-duplicate recordings: held out when its draw is below `fraction`.

    A group keeps its side when others come or go. The exception keeps both sides inhabited: were one of them empty,
    the group nearest to it moves over. Raises ValueError for fewer than two groups.
    """
    drawn = sorted((draw(group, seed), group) for group in set(groups))
    if len(drawn) < 2:
        raise ValueError(f"a split needs at least 2 groups, found {len(drawn)}")
    held_out = sum(value < fraction for value, _ in drawn)
    held_out = min(max(held_out, 1), len(drawn) - 1)
    return {group: "val" if rank < held_out else "train" for rank, (_, group) in enumerate(drawn)}
