"""Training data of a prior, its batches, and its folds for cross-validation.

An epoch takes one view of each recording, cuts it into windows and batches windows of similar length; where that is
less than `MIN_STEPS` batches, it does so several times.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from distill.codes.sequences import (
    Batch,
    CodeSequences,
    Window,
    covering_windows,
    pad_batch,
    random_windows,
)
from distill.codes.store import Codes, CodesConfig, CodesReader, rows_by_side
from distill.errors import ArtifactError, ParamsError
from distill.novelty.reference import Reference, make_reference
from distill.prior.base import PriorShape
from distill.seeds import Stream, derive_seed
from distill.split import draw
from distill.training.distributed import WHOLE, Share

MIN_STEPS = 10  # of an epoch: what is shorter is not worth a validation
SORTED_BATCHES = 8  # batches within which windows are sorted by length, to keep padding small
PROBE_WINDOWS = 4
MAX_RECORDINGS = 20  # from here on one split is enough

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class PriorData:
    """Coded recordings of both sides of the split.

    `train` holds the views `[F, Q]` of each recording, uint16, the first without augmentation; `held_out` one each. The groups
    are those of near-duplicates. `codewords` `[Q, V, C]` and `codes` are the codec's. Labels of recordings are indices
    into `labels` from 1 on; 0 is no label. `train_names` are paths for reports.
    """

    train: Sequence[Sequence[Codes]]
    train_groups: Sequence[str]
    held_out: Sequence[Codes]
    held_out_groups: Sequence[str]
    codewords: Tensor
    codes: CodesConfig
    labels: Sequence[str] = ()
    train_labels: Sequence[int] | None = None
    held_out_labels: Sequence[int] | None = None
    train_names: Sequence[str] = ()

    @property
    def recordings(self) -> int:
        """Number of recordings on both sides."""
        return len(self.train) + len(self.held_out)

    @property
    def unaugmented(self) -> Sequence[Codes]:
        """The first view of each training recording."""
        return [views[0].astype(np.int64) for views in self.train]

    def reference(self) -> Reference:
        """Novelty reference of generated sounds, without scores."""
        return make_reference(self.train_names, [views[0] for views in self.train], self.held_out)


@dataclass(frozen=True, eq=False)
class BatchShare:
    """One process's part of the batch of a step, which counts from 0 over the training.

    `tokens` are the targets of the whole batch over the number of processes.
    """

    batch: Batch
    tokens: float
    step: int


class WindowSampler:
    """Random windows of the training recordings. The batches of an epoch are a function of (seed, epoch).

    A window loses its label with probability `label_dropout`: the prior learns the unconditional distribution, too.
    """

    def __init__(
        self,
        recordings: Sequence[Sequence[Codes]],
        shape: PriorShape,
        batch_size: int,
        seed: int,
        labels: Sequence[int] | None = None,
        folds: Sequence[int] | None = None,
        label_dropout: float = 0.0,
    ) -> None:
        """`recordings` holds the views `[F, Q]` of each recording, the first without augmentation.

        `labels` are the recordings' labels, 0 for none, and `folds` their folds, see `Batch`.
        """
        self.shape, self.batch_size, self.seed, self.label_dropout = shape, batch_size, seed, label_dropout
        every_view, starts = list(itertools.chain(*recordings)), np.cumsum([0, *map(len, recordings)])
        own = (None if each is None else np.repeat(each, np.diff(starts)) for each in (labels, folds))
        self.sequences = CodeSequences(every_view, shape.codebook_size, shape.num_quantizers, *own)
        self.views, self.first = np.diff(starts), starts[:-1]  # how many views a recording has, and where they begin
        self.counts = -(-(self.sequences.lengths[self.first] - 1) // shape.context_frames)  # of windows
        self.batches_per_pass = self._count_batches()
        self.passes = -(-MIN_STEPS // self.batches_per_pass)  # through the recordings, an epoch
        self.batches_per_epoch = self.passes * self.batches_per_pass

    def _count_batches(self) -> int:
        """Count the batches of a pass through the recordings."""
        return -(-int(self.counts.sum()) // self.batch_size)

    def batches(self, epoch: int, skip: int, share: Share = WHOLE) -> Iterator[BatchShare]:
        """Yield a share of each batch of an epoch from index `skip` on, with as many positions as the whole batch has.

        Every process draws all windows, but reads its own.
        """
        first, number = divmod(epoch * self.batches_per_epoch + skip, self.batches_per_pass)
        for part in range(first, (epoch + 1) * self.passes):
            generator = np.random.default_rng(derive_seed(self.seed, Stream.WINDOWS, part))
            chosen = self.first + generator.integers(self.views)
            for index, windows in enumerate(self._windows(chosen, generator)):
                is_dropped = np.zeros(0, dtype=bool)
                if self.sequences.labels is not None:
                    is_dropped = generator.random(len(windows)) < self.label_dropout
                if part == first and index < number:
                    continue
                batch = pad_batch(self.sequences, windows, *self._padded(windows), share)
                if batch.labels is not None:
                    dropped = torch.from_numpy(np.flatnonzero(is_dropped[share.items]))
                    batch = batch._replace(labels=batch.labels.index_fill(0, dropped, 0))
                tokens = self.sequences.count_targets(windows) / share.of
                yield BatchShare(batch, tokens, part * self.batches_per_pass + index)

    def _padded(self, windows: Sequence[Window]) -> tuple[int, int]:
        """Rows and positions of the batch of these windows."""
        return len(windows), max(map(len, windows))

    def _windows(self, chosen: NDArray[np.int64], generator: Generator) -> list[list[Window]]:
        """Windows of these sequences, grouped into the batches of a pass, all in random order.

        A batch has windows of similar length; the short one, if any, is as random.
        """
        size = self.batch_size
        windows = self._random_windows(chosen, self.counts, self.shape.context_frames, generator)
        windows = shuffled(windows, generator)
        batches = []
        for start in range(0, len(windows), size * SORTED_BATCHES):
            chunk = sorted(windows[start : start + size * SORTED_BATCHES], key=len)
            batches += [chunk[first : first + size] for first in range(0, len(chunk), size)]
        return shuffled(batches, generator)

    def _random_windows(
        self, chosen: NDArray[np.int64], counts: NDArray[np.int64], frames: int, generator: Generator
    ) -> list[Window]:
        windows = random_windows(self.sequences.lengths[chosen].tolist(), counts.tolist(), frames, generator)
        return [replace(one, sequence=int(chosen[one.sequence])) for one in windows]

    def probe(self) -> Batch:
        """A fixed batch of windows of views without augmentation."""
        generator = np.random.default_rng(derive_seed(self.seed, Stream.PROBE_WINDOWS))
        lengths = self.sequences.lengths[self.first].tolist()
        windows = shuffled(covering_windows(lengths, self.shape.context_frames), generator)
        chosen = [replace(one, sequence=int(self.first[one.sequence])) for one in windows[:PROBE_WINDOWS]]
        return pad_batch(self.sequences, chosen)


def shuffled(items: Sequence[T], generator: Generator) -> list[T]:
    """The items in random order."""
    return [items[index] for index in generator.permutation(len(items))]


def read_prior_data(codes: Path, split: Path) -> PriorData:
    """Read the training data of a prior from the artefacts of codes and split. Raises ArtifactError."""
    reader = CodesReader(codes)
    rows, recordings = rows_by_side(reader, split), reader.recordings()
    try:
        train, held_out = ([recordings[name] for name in rows[side]] for side in ("train", "val"))
    except KeyError as error:
        raise ArtifactError(
            f"{codes}: expected a name for every recording, found none for {error}; run `dvc repro` again"
        ) from error
    labels = sorted({row.label for row in train} - {""})
    label_ids = {label: number for number, label in enumerate(labels, start=1)}
    return PriorData(
        [[reader.codes(view) for view in views] for views in rows["train"].values()],
        [views[0].group for views in rows["train"].values()],
        [reader.codes(view).astype(np.int64) for (view,) in rows["val"].values()],
        [view.group for (view,) in rows["val"].values()],
        torch.from_numpy(reader.codewords()),
        reader.config,
        labels,
        [label_ids.get(row.label, 0) for row in train] if labels else None,
        [label_ids.get(row.label, 0) for row in held_out] if labels else None,
        [row.path for row in train],
    )


def fold_data(data: PriorData, folds: int, seed: int) -> list[PriorData]:
    """Split all recordings into folds: each is held out once, groups stay together. None from `MAX_RECORDINGS` on.

    The codec was trained on most recordings; the prior of a fold on none that the fold holds out. Raises ParamsError
    for too many folds.
    """
    if not folds or data.recordings >= MAX_RECORDINGS:
        return []
    views = [*data.train, *([codes] for codes in data.held_out)]
    groups = [*data.train_groups, *data.held_out_groups]
    labels = [*(data.train_labels or ()), *(data.held_out_labels or ())]
    recordings = list(zip(views, groups, labels or [0] * len(views), strict=True))
    ordered = sorted(set(groups), key=lambda group: draw(f"fold:{group}", seed))
    if not 2 <= folds <= len(ordered):
        raise ParamsError(
            f"prior.folds: expected 0 or from 2 to {len(ordered)}, the number of different sounds, found {folds}"
        )
    parts = []
    for number in range(folds):
        left_out = set(ordered[number::folds])
        train, train_groups, train_labels = zip(*(one for one in recordings if one[1] not in left_out), strict=True)
        held_out, held_out_groups, held_out_labels = zip(
            *(one for one in recordings if one[1] in left_out), strict=True
        )
        parts.append(
            replace(
                data,
                train=train,
                train_groups=train_groups,
                held_out=[views[0].astype(np.int64) for views in held_out],
                held_out_groups=held_out_groups,
                train_labels=train_labels if labels else None,
                held_out_labels=held_out_labels if labels else None,
                train_names=(),
            )
        )
    return parts
