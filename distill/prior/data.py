"""Training data of a prior, and its batches.

An epoch takes one view of each recording, cuts it into windows and batches windows of similar length; where that is
less than `MIN_STEPS` batches, it does so several times.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.codes.held_out import rows_by_side
from distill.codes.sequences import (
    Batch,
    CodeSequences,
    Window,
    covering_windows,
    pad_batch,
    random_windows,
    window_count,
)
from distill.codes.store import Codes, CodesConfig, CodesReader, StoredViews, first_views
from distill.errors import ArtifactError
from distill.novelty.reference import Reference, make_reference
from distill.seeds import Stream, derive_seed
from distill.training.distributed import WHOLE, Share

MIN_STEPS = 10  # of an epoch: what is shorter is not worth a validation
SORTED_BATCHES = 8  # batches within which windows are sorted by length, to keep padding small
PROBE_WINDOWS = 4
SPAN_SHARE = 0.25  # share of the long recordings of an epoch that are trained on in spans


@dataclass(frozen=True, eq=False)
class PriorData:
    """Coded recordings of both sides of the split.

    `train` holds the views `[F, Q]` of each recording, the first without augmentation; `held_out` one each. The groups
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
        return first_views(self.train)

    def in_memory(self) -> "PriorData":
        """The same with all codes read, so that the files they are stored in may be deleted."""
        return replace(self, train=[list(views) for views in self.train], held_out=list(self.held_out))

    def reference(self) -> Reference:
        """Novelty reference of generated sounds, without scores."""
        return make_reference(self.train_names, self.unaugmented, self.held_out)


class SharedBatch(NamedTuple):
    """One process's share of a batch, and the number of targets of the whole batch."""

    batch: Batch
    targets: int


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """Settings of a sampler of windows.

    A window loses its label with probability `label_dropout`, so that the prior also learns the unconditional
    distribution. Spans have at most `span_frames`.
    """

    codebook_size: int
    num_quantizers: int
    context_frames: int
    batch_size: int
    seed: int
    label_dropout: float = 0.0
    span_frames: int = 0


class WindowSampler:
    """Random windows of the training recordings. The batches of an epoch are a function of (seed, epoch).

    A process that takes a share of the batches draws all windows, but reads its own.
    """

    def __init__(
        self,
        recordings: Sequence[Sequence[Codes]],
        settings: WindowSettings,
        labels: Sequence[int] | None = None,
        folds: Sequence[int] | None = None,
    ) -> None:
        """`recordings` holds the views `[F, Q]` of each recording, the first without augmentation.

        `labels` are the recordings' labels, 0 for none, and `folds` their folds, see `Batch`.
        """
        self.settings = settings
        every_view, starts = joined_views(recordings)
        own = (None if each is None else np.repeat(each, np.diff(starts)) for each in (labels, folds))
        self.sequences = CodeSequences(every_view, settings.codebook_size, settings.num_quantizers, *own)
        self.views, self.first = np.diff(starts), starts[:-1]  # how many views a recording has, and where they begin
        self.counts = [window_count(length, settings.context_frames) for length in self._lengths(self.first)]
        batches = self._count_batches()
        self.passes = -(-MIN_STEPS // batches)  # through the recordings, an epoch
        self.batches_per_epoch = self.passes * batches

    def _count_batches(self) -> int:
        """Count the batches of a pass through the recordings."""
        return -(-sum(self.counts) // self.settings.batch_size)

    def batches(self, epoch: int, skip: int) -> Iterator[Batch]:
        """Yield the batches of an epoch from index `skip` on."""
        return (batch for batch, _ in self.shared_batches(epoch, skip, WHOLE))

    def shared_batches(self, epoch: int, skip: int, share: Share) -> Iterator[SharedBatch]:
        """Yield a share of each of these batches, with as many positions as the whole batch has."""
        per_pass = self.batches_per_epoch // self.passes
        for part in range(skip // per_pass, self.passes):
            yield from self._batches_of_pass(epoch * self.passes + part, max(0, skip - part * per_pass), share)

    def _batches_of_pass(self, number: int, skip: int, share: Share) -> Iterator[SharedBatch]:
        generator = np.random.default_rng(derive_seed(self.settings.seed, Stream.WINDOWS, number))
        chosen = self.first + generator.integers(self.views)
        for index, windows in enumerate(self._windows(chosen, generator)):
            is_dropped = None
            if self.sequences.labels is not None:
                is_dropped = generator.random(len(windows)) < self.settings.label_dropout
            if index >= skip:
                batch = pad_batch(self.sequences, windows, *self._shape(windows), share)
                if batch.labels is not None and is_dropped is not None:
                    dropped = torch.from_numpy(np.flatnonzero(is_dropped[share.items]))
                    batch = replace(batch, labels=batch.labels.index_fill(0, dropped, 0))
                yield SharedBatch(batch, self.sequences.count_targets(windows))

    def _shape(self, windows: Sequence[Window]) -> tuple[int, int]:
        """Rows and positions of the batch of these windows."""
        return len(windows), max(map(len, windows))

    def _lengths(self, chosen: NDArray[np.int64]) -> list[int]:
        lengths: list[int] = self.sequences.lengths[chosen].tolist()
        return lengths

    def _windows(self, chosen: NDArray[np.int64], generator: np.random.Generator) -> list[list[Window]]:
        """Windows of these sequences, grouped into the batches of a pass."""
        windows = self._random_windows(chosen, self.counts, self.settings.context_frames, generator)
        return shuffled_batches(windows, self.settings.batch_size, generator)

    def _random_windows(
        self, chosen: NDArray[np.int64], counts: Sequence[int], frames: int, generator: np.random.Generator
    ) -> list[Window]:
        return [
            Window(int(chosen[window.sequence]), window.start, window.stop)
            for window in random_windows(self._lengths(chosen), counts, frames, generator)
        ]

    def probe(self) -> Batch:
        """A fixed batch of windows of views without augmentation."""
        generator = np.random.default_rng(derive_seed(self.settings.seed, Stream.PROBE_WINDOWS))
        windows = covering_windows(self._lengths(self.first), self.settings.context_frames)
        chosen = [windows[index] for index in generator.permutation(len(windows))[:PROBE_WINDOWS]]
        views = self.first[[window.sequence for window in chosen]].tolist()
        return pad_batch(
            self.sequences,
            [Window(view, window.start, window.stop) for view, window in zip(views, chosen, strict=True)],
        )


class SpanSampler(WindowSampler):
    """Windows, and for some of the long recordings of an epoch spans of many windows.

    Spans train the memory; windows keep many recordings in a batch. All batches have about as many frames, in few
    shapes: torch keeps kernels for each shape in memory.
    """

    def _count_batches(self) -> int:
        inputs = self.sequences.lengths[self.first] - 1
        self.long_recordings = np.flatnonzero(inputs > self.settings.context_frames)
        self.num_spanned = math.ceil(SPAN_SHARE * len(self.long_recordings))
        share = self.num_spanned / max(1, len(self.long_recordings))
        self.span_counts = [
            window_count(int(inputs[index]) + 1, self.settings.span_frames) for index in self.long_recordings
        ]
        target = math.ceil(
            share
            * float(inputs[self.long_recordings].sum())
            / (self.settings.batch_size * self.settings.context_frames)
        )
        self.span_batches = min(target, sum(sorted(self.span_counts)[: self.num_spanned]))
        window_counts = sorted(self.counts[index] for index in self.long_recordings)
        short_windows = sum(self.counts) - sum(window_counts)
        target = math.ceil((short_windows + (1 - share) * sum(window_counts)) / self.settings.batch_size)
        self.window_batches = min(
            target, short_windows + sum(window_counts[: len(self.long_recordings) - self.num_spanned])
        )
        return self.span_batches + self.window_batches

    def _shape(self, windows: Sequence[Window]) -> tuple[int, int]:
        longest = max(map(len, windows))
        most = self.settings.context_frames if longest <= self.settings.context_frames else self.settings.span_frames
        return round_up_shape(len(windows)), min(round_up_shape(longest), most)

    def _windows(self, chosen: NDArray[np.int64], generator: np.random.Generator) -> list[list[Window]]:
        num_spanned = generator.permutation(len(self.long_recordings))[: self.num_spanned]
        counts = [self.span_counts[index] for index in num_spanned]
        spans = self._random_windows(
            chosen[self.long_recordings[num_spanned]], counts, self.settings.span_frames, generator
        )
        others = np.setdiff1d(np.arange(len(chosen)), self.long_recordings[num_spanned])
        counts = [self.counts[index] for index in others]
        windows = self._random_windows(chosen[others], counts, self.settings.context_frames, generator)
        mixed = [windows[index] for index in generator.permutation(len(windows))]
        batches = [
            *even_batches(sorted(spans, key=len), self.span_batches),
            *even_batches(mixed, self.window_batches),
        ]
        return [batches[index] for index in generator.permutation(len(batches))]


def joined_views(recordings: Sequence[Sequence[Codes]]) -> tuple[Sequence[Codes], NDArray[np.int64]]:
    """The views of all recordings, one after another, and where those of each recording begin, `[n + 1]`."""
    if isinstance(recordings, StoredViews):
        return recordings.views, recordings.starts
    return list(itertools.chain(*recordings)), np.cumsum([0, *map(len, recordings)])


def round_up_shape(number: int) -> int:
    """Round up to a grid of eight sizes from each power of two to the next."""
    step = 1 << max(0, number.bit_length() - 4)
    return -(-number // step) * step


def even_batches(windows: Sequence[Window], count: int) -> list[list[Window]]:
    """Split windows, in order, into `count` batches of about as many frames each.

    No batch is empty where there are at least `count` windows.
    """
    total = np.cumsum([0, *(len(window) for window in windows)])
    edges = [0]
    for number in range(1, count):
        target = int(np.searchsorted(total, total[-1] * number / count))
        edges.append(min(max(target, edges[-1] + 1), len(windows) - (count - number)))
    edges.append(len(windows))
    return [list(windows[first:last]) for first, last in itertools.pairwise(edges)] if count else []


def shuffled_batches(windows: Sequence[Window], size: int, generator: np.random.Generator) -> list[list[Window]]:
    """Shuffle windows into batches of similar length, in random order. The short batch, if any, is as random."""
    order = generator.permutation(len(windows))
    batches = []
    for start in range(0, len(order), size * SORTED_BATCHES):
        chunk = sorted(order[start : start + size * SORTED_BATCHES], key=lambda index: len(windows[index]))
        batches += [[windows[index] for index in chunk[first : first + size]] for first in range(0, len(chunk), size)]
    return [batches[index] for index in generator.permutation(len(batches))]


def read_prior_data(codes: Path, split: Path) -> PriorData:
    """Read the training data of a prior from the artefacts of codes and split. Raises ArtifactError.

    Codes stay on disk, and are read when they are asked for.
    """
    reader = CodesReader(codes)
    sides, recordings = rows_by_side(reader, split), reader.recordings()
    try:
        train, held_out = ([recordings[name] for name in side] for side in (sides.train, sides.held_out))
    except KeyError as error:
        raise ArtifactError(
            f"{codes}: expected a name for every recording, found none for {error}; run `dvc repro` again"
        ) from error
    labels = sorted({row.label for row in train} - {""})
    label_ids = {label: number for number, label in enumerate(labels, start=1)}
    return PriorData(
        StoredViews(reader.stored(list(itertools.chain(*sides.train.values()))), [*map(len, sides.train.values())]),
        [sides.groups[name] for name in sides.train],
        reader.stored(list(sides.held_out.values())),
        [sides.groups[name] for name in sides.held_out],
        torch.from_numpy(reader.codewords()),
        reader.config,
        labels,
        [label_ids.get(row.label, 0) for row in train] if labels else None,
        [label_ids.get(row.label, 0) for row in held_out] if labels else None,
        [row.path for row in train],
    )
