"""Split into training and held-out recordings, the same for codec and prior."""

import hashlib
from collections.abc import Iterable
from typing import Literal

Side = Literal["train", "val"]


def draw(group: str, seed: int) -> float:
    """Hash of the group and the seed, uniform in [0, 1)."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def split_groups(groups: Iterable[str], seed: int, fraction: float) -> dict[str, Side]:
    """Split groups of near-duplicate recordings: a group is held out when its draw is below `fraction`.

    A group keeps its side when others are added or removed. The exception: where a side would be empty, it gets the
    group whose draw is nearest. Raises ValueError for fewer than two groups.
    """
    drawn = sorted((draw(group, seed), group) for group in set(groups))
    if len(drawn) < 2:
        raise ValueError(f"a split needs at least 2 groups, found {len(drawn)}")
    held_out = sum(value < fraction for value, _ in drawn)
    held_out = min(max(held_out, 1), len(drawn) - 1)
    return {group: "val" if rank < held_out else "train" for rank, (_, group) in enumerate(drawn)}
