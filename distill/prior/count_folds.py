"""Counts that leave a recording out, so that a prior does not learn to trust counts of what it predicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from distill.codes.store import Codes
from distill.prior.counting import Counts, CountTables, count, count_tables
from distill.seeds import Stream, derive_seed
from distill.storage.files import sha256_text

MAX_FOLDS = 8


def fold_numbers(groups: Sequence[str], seed: int) -> list[int]:
    """Fold of each recording, from 1 on: recordings of a fold are left out of counts together, and so are duplicates."""
    names = sorted(
        set(groups), key=lambda group: derive_seed(seed, Stream.COUNT_FOLDS, int(sha256_text(group)[:15], 16))
    )
    numbers = {name: 1 + index % MAX_FOLDS for index, name in enumerate(names)}
    return [numbers[group] for group in groups]


@dataclass(frozen=True, eq=False)
class FoldTables:
    """Tables of all recordings, `whole`, and of all but those of each fold, `without`."""

    whole: CountTables
    without: list[CountTables]

    @classmethod
    def of(
        cls,
        recordings: Sequence[Sequence[Codes]],
        folds: Sequence[int],
        codebook_size: int,
        levels: int,
        labels: Sequence[int] | None = None,
        num_labels: int = 0,
    ) -> "FoldTables":
        """Count recordings, given as their views `[F, Q]`, with the folds of `fold_numbers` and `count`'s labels."""
        parts = []
        for fold in range(1, max(folds) + 1):
            own = [index for index, number in enumerate(folds) if number == fold]
            own_labels = None if labels is None else [labels[index] for index in own]
            parts.append(count([recordings[index] for index in own], codebook_size, levels, own_labels, num_labels))
        whole = reduce(add, parts)
        return cls(count_tables(whole), [count_tables(_difference(whole, part)) for part in parts])


def _difference(whole: Counts, part: Counts) -> Counts:
    return Counts(*(np.maximum(0.0, vars(whole)[name] - value) for name, value in vars(part).items()))
