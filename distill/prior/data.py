"""Training data of a prior, and its batches.

A pass takes one random view of each recording, cuts it into windows and batches windows of similar length. An epoch
has enough passes for at least `MIN_STEPS` batches.
"""

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
    CodedRecording,
    CodeSequences,
    Window,
    covering_windows,
    pad_batch,
    random_windows,
)
from distill.codes.store import CodesConfig, CodesReader, IndexRow, rows_by_side
from distill.errors import ArtifactError, ParamsError
from distill.novelty.reference import Reference, make_reference
from distill.prior.base import LONGEST_LABEL, MOST_LABELS, PriorShape
from distill.prior.counts import count_folds
from distill.seeds import Stream, derive_seed
from distill.split import END
from distill.text import normal_form
from distill.training.distributed import WHOLE

MIN_STEPS = 10  # minimum batches per epoch: fewer are not worth a validation
PROBE_WINDOWS = 4

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class PriorData:
    """Coded training and held-out recordings.

    Their codes are uint16; a held-out recording has one view, without augmentation. `codewords` `[Q, V, C]` and `codes`
    come from the codec; levels with fewer than V codewords are padded with zeros. Label 1 is the first of `labels`;
    `lost_labels` occur in held-out recordings only.
    """

    train: Sequence[CodedRecording]
    held_out: Sequence[CodedRecording]
    codewords: Tensor
    codes: CodesConfig
    labels: Sequence[str] = ()
    lost_labels: Sequence[str] = ()

    @property
    def recordings(self) -> int:
        """Number of recordings on both sides; one whose end is held out counts once."""
        return len(self.train) + sum(
            not recording.group.endswith(END) for recording in self.held_out
        )

    @property
    def held_out_seconds(self) -> float:
        """Total length of the held-out recordings."""
        return sum(len(recording.views[0]) for recording in self.held_out) / self.codes.frame_rate

    def reference(self) -> Reference:
        """Novelty reference for generated sounds, without scores."""
        train, held_out = (
            [recording.views[0] for recording in side] for side in (self.train, self.held_out)
        )
        side_info = [recording.side_info for recording in self.train]
        return make_reference(
            [recording.path for recording in self.train], train, held_out, side_info
        )


@dataclass(frozen=True, eq=False)
class BatchShare:
    """One process's part of the batch of a step; `step` counts from 0 over the whole training.

    `tokens` is the number of targets of the whole batch, divided by the number of processes.
    """

    batch: Batch
    tokens: float
    step: int


class WindowSampler:
    """Random windows of the training recordings. The batches of an epoch are a function of (seed, epoch).

    A window loses its label with probability `label_dropout`, so the prior also learns the unconditional distribution.
    """

    def __init__(
        self,
        recordings: Sequence[CodedRecording],
        shape: PriorShape,
        batch_size: int,
        seed: int,
        label_dropout: float = 0.0,
    ) -> None:
        self.shape, self.batch_size, self.seed, self.label_dropout = (
            shape,
            batch_size,
            seed,
            label_dropout,
        )
        every_view = [view for recording in recordings for view in recording.views]
        self.views = np.array([len(recording.views) for recording in recordings])
        self.first = self.views.cumsum() - self.views  # index of the first view of each recording
        labels, folds = np.repeat(
            [(recording.label, recording.fold) for recording in recordings], self.views, axis=0
        ).T
        self.sequences = CodeSequences(every_view, shape.codebook_sizes, labels, folds)
        self.counts = -(
            -(self.sequences.lengths[self.first] - 1) // shape.context_frames
        )  # windows per recording
        self.batches_per_pass = self._count_batches()
        self.passes = -(-MIN_STEPS // self.batches_per_pass)  # per epoch
        self.batches_per_epoch = self.passes * self.batches_per_pass

    def _count_batches(self) -> int:
        """Count the batches of a pass through the recordings."""
        return -(-int(self.counts.sum()) // self.batch_size)

    def batches(self, epoch: int, skip: int, share: slice = WHOLE) -> Iterator[BatchShare]:
        """Yield a share of each batch of an epoch, from index `skip` on, padded to the length of the whole batch.

        Every process samples all windows but reads only its own.
        """
        first, number = divmod(epoch * self.batches_per_epoch + skip, self.batches_per_pass)
        for part in range(first, (epoch + 1) * self.passes):
            generator = np.random.default_rng(derive_seed(self.seed, Stream.WINDOWS, part))
            chosen = self.first + generator.integers(self.views)
            for index, windows in enumerate(self._windows(chosen, generator)):
                is_dropped = generator.random(len(windows)) < self.label_dropout
                if part == first and index < number:
                    continue
                batch = pad_batch(self.sequences, windows, *self._padded(windows), share)
                dropped = torch.from_numpy(np.flatnonzero(is_dropped[share]))
                assert batch.labels is not None
                batch = batch._replace(labels=batch.labels.index_fill(0, dropped, 0))
                tokens = self.sequences.count_targets(windows) / share.step
                yield BatchShare(batch, tokens, part * self.batches_per_pass + index)

    def _padded(self, windows: Sequence[Window]) -> tuple[int, int]:
        """Rows and positions of a batch of these windows."""
        return len(windows), max(map(len, windows))

    def _windows(self, chosen: NDArray[np.int64], generator: Generator) -> list[list[Window]]:
        """Sample windows of these sequences and group them into the batches of a pass, in random order.

        A batch holds windows of similar length. An incomplete batch lands anywhere in the order.
        """
        # Batches within which windows are sorted by length, to keep padding small
        sorted_batches = 8
        size = self.batch_size
        windows = self._random_windows(chosen, self.counts, self.shape.context_frames, generator)
        windows = shuffled(windows, generator)
        batches = []
        for start in range(0, len(windows), size * sorted_batches):
            chunk = sorted(windows[start : start + size * sorted_batches], key=len)
            batches += [chunk[first : first + size] for first in range(0, len(chunk), size)]
        return shuffled(batches, generator)

    def _random_windows(
        self,
        chosen: NDArray[np.int64],
        counts: NDArray[np.int64],
        frames: int,
        generator: Generator,
    ) -> list[Window]:
        windows = random_windows(
            self.sequences.lengths[chosen].tolist(), counts.tolist(), frames, generator
        )
        return [replace(window, sequence=int(chosen[window.sequence])) for window in windows]

    def probe(self) -> Batch:
        """A fixed batch of windows without augmentation."""
        generator = np.random.default_rng(derive_seed(self.seed, Stream.PROBE_WINDOWS))
        lengths = self.sequences.lengths[self.first].tolist()
        windows = shuffled(covering_windows(lengths, self.shape.context_frames), generator)
        chosen = [
            replace(window, sequence=int(self.first[window.sequence]))
            for window in windows[:PROBE_WINDOWS]
        ]
        return pad_batch(self.sequences, chosen)


def shuffled(items: Sequence[T], generator: Generator) -> list[T]:
    """The items in random order."""
    return [items[index] for index in generator.permutation(len(items))]


def read_prior_data(codes: Path, split: Path, seed: int) -> PriorData:
    """Read the training data of a prior from the codes and split artefacts; `seed` assigns the count folds.

    Raises ArtifactError, and ParamsError if there are too many labels or too long a label.
    """
    reader = CodesReader(codes)
    sides, about, side_info = rows_by_side(reader, split), reader.recordings(), reader.side_info()
    if nameless := [name for rows in sides.values() for name in rows if name not in about]:
        raise ArtifactError(
            f"{codes}: expected a name for every recording, found none for {nameless[0]!r}; run `dvc repro` again"
        )
    spelt, spelt_held_out = (
        {
            normal_form(label): label
            for label in sorted({about[name].label for name in sides[side]} - {""})
        }
        for side in ("train", "val")
    )
    labels = sorted(spelt.values())
    lost_labels = [spelt_held_out[label] for label in sorted({*spelt_held_out} - {*spelt})]
    longest = max(map(len, labels), default=0)
    if len(labels) > MOST_LABELS or longest > LONGEST_LABEL:
        raise ParamsError(
            f"corpus.labels: folder: expected at most {MOST_LABELS} folders, and paths of {LONGEST_LABEL} characters, "
            f"found {len(labels)}, the longest of {longest}; put recordings into fewer folders, or train without labels"
        )
    label_ids = {normal_form(label): number for number, label in enumerate(labels, start=1)}
    folds = count_folds([rows[0].group for rows in sides["train"].values()], seed)

    def recording(name: str, rows: Sequence[IndexRow]) -> CodedRecording:
        views, group = [reader.codes(row) for row in rows], rows[0].group
        label = label_ids.get(normal_form(about[name].label), 0)
        return CodedRecording(
            views, group, label, folds.get(group, 0), about[name].path, side_info[name]
        )

    train, held_out = (
        [recording(*rows) for rows in sides[side].items()] for side in ("train", "val")
    )
    return PriorData(
        train, held_out, torch.from_numpy(reader.codewords()), reader.config, labels, lost_labels
    )
