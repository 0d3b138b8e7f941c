"""Recordings left out together: of the counts that a prior learns to trust, and of its training for cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np

from distill.codes.store import Codes
from distill.errors import ParamsError
from distill.params import PriorConfig
from distill.prior.counting import Counts, CountTables, count, count_tables
from distill.prior.data import PriorData
from distill.seeds import Stream, derive_seed
from distill.split import draw
from distill.storage.files import sha256_text

MAX_COUNT_FOLDS = 8
MAX_RECORDINGS = 20  # from here on one split is enough


def fold_numbers(groups: Sequence[str], seed: int) -> list[int]:
    """Fold of each recording, from 1 on: recordings of a fold are left out of counts together, and so are duplicates."""
    names = sorted(
        set(groups), key=lambda group: derive_seed(seed, Stream.COUNT_FOLDS, int(sha256_text(group)[:15], 16))
    )
    numbers = {name: 1 + index % MAX_COUNT_FOLDS for index, name in enumerate(names)}
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


def planned_folds(data: PriorData, config: PriorConfig, seed: int) -> list[PriorData]:
    """The data of each fold of the cross-validation that the settings ask for; none from `MAX_RECORDINGS` on."""
    if not config.folds or data.recordings >= MAX_RECORDINGS:
        return []
    return fold_data(data, config.folds, seed)


def fold_data(data: PriorData, folds: int, seed: int) -> list[PriorData]:
    """Split all recordings into folds: each is held out once, groups stay together.

    The codec was trained on most recordings; the prior of a fold on none that the fold holds out. Raises ParamsError
    for too many folds.
    """
    views = [*data.train, *([codes] for codes in data.held_out)]
    view_groups = [*data.train_groups, *data.held_out_groups]
    labels = [*(data.train_labels or ()), *(data.held_out_labels or ())]
    groups = sorted(set(view_groups), key=lambda group: draw(f"fold:{group}", seed))
    if not 2 <= folds <= len(groups):
        raise ParamsError(
            f"prior.folds: expected 0 or from 2 to {len(groups)}, the number of different sounds, found {folds}"
        )
    parts = []
    for number in range(folds):
        fold_groups = set(groups[number::folds])
        kept = [index for index, group in enumerate(view_groups) if group not in fold_groups]
        held_out = [index for index, group in enumerate(view_groups) if group in fold_groups]
        parts.append(
            replace(
                data,
                train=[views[index] for index in kept],
                train_groups=[view_groups[index] for index in kept],
                held_out=[views[index][0] for index in held_out],
                held_out_groups=[view_groups[index] for index in held_out],
                train_labels=[labels[index] for index in kept] if labels else None,
                held_out_labels=[labels[index] for index in held_out] if labels else None,
                train_names=(),
            )
        )
    return parts
