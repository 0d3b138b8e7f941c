"""Audio for the codec's training: random crops to train on, fixed pieces to validate on."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from distill.audio.augment import VARISPEED_SEMITONES, varispeed, waveform
from distill.audio.corpus import Corpus, CorpusEntry
from distill.seeds import Stream, derive_seed

GAIN_RANGE = (0.5, 1.2)
SHORTEST_SHARE = 0.25  # a recording is sampled as if it had at least this share of a crop


class CropSampler:
    """Sampler of batches of random crops `[B, N]`: recordings drawn by length; random start, speed, gain and polarity.

    Short recordings are joined until a crop is full: with padding, crops would be mostly silence. Every batch is a
    function of (seed, epoch, step).
    """

    def __init__(self, corpus: Corpus, entries: Sequence[CorpusEntry], batch_size: int, crop: int, seed: int) -> None:
        self.corpus, self.entries = corpus, entries
        self.batch_size, self.crop, self.seed = batch_size, crop, seed
        lengths = np.array([entry.samples for entry in entries], dtype=np.float64)
        self.steps_per_epoch = max(1, int(np.ceil(lengths.sum() / (batch_size * crop))))
        weights = np.maximum(lengths, crop * SHORTEST_SHARE)
        self.weights = weights / weights.sum()

    def batches(self, epoch: int, skip: int) -> Iterator[Tensor]:
        """Batches `[B, N]` of one epoch from step `skip` on."""
        for step in range(skip, self.steps_per_epoch):
            generator = np.random.default_rng(derive_seed(self.seed, Stream.CROPS, epoch, step))
            yield torch.stack([self._crop(generator) for _ in range(self.batch_size)])

    def probe(self, count: int) -> Tensor:
        """A fixed batch `[count, N]` of crops."""
        generator = np.random.default_rng(derive_seed(self.seed, Stream.PROBE_WINDOWS))
        return torch.stack([self._crop(generator) for _ in range(count)])

    def _crop(self, generator: np.random.Generator) -> Tensor:
        crop = torch.zeros(self.crop)
        filled = 0
        while filled < self.crop:
            entry = self.entries[int(generator.choice(len(self.entries), p=self.weights))]
            speed = 2.0 ** (generator.uniform(-VARISPEED_SEMITONES, VARISPEED_SEMITONES) / 12)
            length = min(int((self.crop - filled) * speed) + 1, entry.samples)
            start = int(generator.integers(entry.samples - length + 1))
            gain = generator.uniform(*GAIN_RANGE) * generator.choice((-1.0, 1.0))
            piece = varispeed(waveform(self.corpus, entry, start, length), speed)[: self.crop - filled]
            crop[filled : filled + len(piece)] = piece * gain
            filled += len(piece)
        return crop


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 to `count` - 1, in order; the first is one of them, of several the last, too."""
    chosen: list[int] = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()
    return chosen


def fixed_pieces(corpus: Corpus, entries: Sequence[CorpusEntry], crop: int, max_pieces: int) -> Tensor:
    """At most `max_pieces` pieces `[n, crop]` of the joined recordings, evenly spaced; the last is zero-padded."""
    ends = np.cumsum([entry.samples for entry in entries])
    count = -(-int(ends[-1]) // crop)
    chosen = evenly_spaced(count, max_pieces)
    pieces = torch.zeros(len(chosen), crop)
    for row, piece in enumerate(chosen):
        position, stop = piece * crop, min((piece + 1) * crop, int(ends[-1]))
        while position < stop:
            index = int(np.searchsorted(ends, position, side="right"))
            entry, offset = entries[index], position - int(ends[index] - entries[index].samples)
            length = min(stop - position, entry.samples - offset)
            target = position - piece * crop
            pieces[row, target : target + length] = waveform(corpus, entry, offset, length)
            position += length
    return pieces
