"""Codes as batches for a prior: a view of each recording an epoch, windows of it, windows of like length together."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from distill.codes.sequences import (
    Batch,
    CodeSequences,
    Window,
    covering_windows,
    pad_batch,
    random_windows,
    window_count,
)
from distill.codes.store import Codes
from distill.seeds import derive_seed

SORTED_BATCHES = 8  # windows are sorted by length within so many batches, so that padding stays small
PROBE_WINDOWS = 16


class WindowSampler:
    """Random windows of the training side. What an epoch holds is a function of (seed, epoch)."""

    def __init__(
        self,
        recordings: Sequence[Sequence[Codes]],
        codebook_size: int,
        num_quantizers: int,
        context_frames: int,
        batch_size: int,
        seed: int,
        labels: Sequence[int] | None = None,
        label_dropout: float = 0.0,
    ) -> None:
        """`recordings` are the views `[F, Q]` of each recording, the first as it is; `labels` the recordings', 0 for none.

        A window loses its label with probability `label_dropout`: so a prior learns what sounds are like without.
        """
        self.context_frames, self.batch_size, self.seed = context_frames, batch_size, seed
        self.label_dropout = label_dropout
        every = (
            None if labels is None else [label for label, views in zip(labels, recordings, strict=True) for _ in views]
        )
        self.sequences = CodeSequences(
            (view for views in recordings for view in views), codebook_size, num_quantizers, every
        )
        self.views = [len(views) for views in recordings]
        self.first = np.concatenate([[0], np.cumsum(self.views)])[:-1]  # sequence of each recording as it is
        self.counts = [window_count(self.sequences.lengths[index], context_frames) for index in self.first]
        self.batches_per_epoch = -(-sum(self.counts) // batch_size)

    def batches(self, epoch: int, skip: int) -> Iterator[Batch]:
        """The batches of an epoch, the first `skip` left out."""
        generator = np.random.default_rng(derive_seed(self.seed, 6, epoch))
        chosen = self.first + generator.integers(self.views)
        lengths = [self.sequences.lengths[index] for index in chosen]
        windows = [
            Window(int(chosen[window.sequence]), window.start, window.stop)
            for window in random_windows(lengths, self.counts, self.context_frames, generator)
        ]
        for number, some in enumerate(shuffled_batches(windows, self.batch_size, generator)):
            known = None
            if self.sequences.labels is not None:
                known = torch.from_numpy(generator.random(len(some)) >= self.label_dropout)
            if number >= skip:
                batch = pad_batch(self.sequences, some)
                yield batch if batch.labels is None or known is None else replace(batch, labels=batch.labels * known)

    def probe(self) -> Batch:
        """A fixed batch of windows, of recordings as they are."""
        generator = np.random.default_rng(derive_seed(self.seed, 7))
        windows = [
            Window(int(self.first[window.sequence]), window.start, window.stop)
            for window in covering_windows([self.sequences.lengths[index] for index in self.first], self.context_frames)
        ]
        chosen = generator.permutation(len(windows))[:PROBE_WINDOWS]
        return pad_batch(self.sequences, [windows[index] for index in chosen])


def shuffled_batches(windows: Sequence[Window], size: int, generator: np.random.Generator) -> list[list[Window]]:
    """Random batches whose windows are of similar length, in random order. The short batch, if any, is as random."""
    order = generator.permutation(len(windows))
    batches = []
    for start in range(0, len(order), size * SORTED_BATCHES):
        chunk = sorted(order[start : start + size * SORTED_BATCHES], key=lambda index: len(windows[index]))
        batches += [[windows[index] for index in chunk[first : first + size]] for first in range(0, len(chunk), size)]
    return [batches[index] for index in generator.permutation(len(batches))]
