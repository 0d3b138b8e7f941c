"""Audio of a corpus as the codec's training sees it: random crops to learn from, fixed pieces to be judged on."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from distill.audio.corpus import Corpus, CorpusEntry
from distill.encoding import waveform
from distill.seeds import derive_seed

GAIN_RANGE = (0.5, 1.2)


class CropSampler:
    """Batches of random crops `[B, N]`: recordings drawn by length, random start, gain and polarity.

    Every draw is a function of (seed, epoch, step). A recording shorter than the crop is padded with silence.
    """

    def __init__(self, corpus: Corpus, entries: Sequence[CorpusEntry], batch_size: int, crop: int, seed: int) -> None:
        self.corpus, self.entries = corpus, entries
        self.batch_size, self.crop, self.seed = batch_size, crop, seed
        lengths = np.array([max(entry.samples, crop) for entry in entries], dtype=np.float64)
        self.weights = lengths / lengths.sum()
        self.steps_per_epoch = max(1, int(np.ceil(lengths.sum() / (batch_size * crop))))

    def batches(self, epoch: int, skip: int) -> Iterator[Tensor]:
        """The crops of one epoch from step `skip` on."""
        for step in range(skip, self.steps_per_epoch):
            generator = np.random.default_rng(derive_seed(self.seed, 2, epoch, step))
            yield self._batch(generator)

    def _batch(self, generator: np.random.Generator) -> Tensor:
        batch = torch.zeros(self.batch_size, self.crop)
        for row, index in enumerate(generator.choice(len(self.entries), self.batch_size, p=self.weights)):
            entry = self.entries[index]
            length = min(self.crop, entry.samples)
            start = int(generator.integers(entry.samples - length + 1))
            gain = generator.uniform(*GAIN_RANGE) * generator.choice((-1.0, 1.0))
            batch[row, :length] = waveform(self.corpus, entry, start, length) * gain
        return batch


def fixed_pieces(corpus: Corpus, entries: Sequence[CorpusEntry], crop: int, most: int) -> Tensor:
    """At most `most` pieces `[n, crop]` that cover the recordings evenly, every recording represented if there is room."""
    places = [(entry, start) for entry in entries for start in range(0, max(1, entry.samples - crop // 2), crop)]
    if len(places) > most:
        places = [places[int(i)] for i in np.linspace(0, len(places) - 1, most)]
    pieces = torch.zeros(len(places), crop)
    for row, (entry, start) in enumerate(places):
        length = min(crop, entry.samples - start)
        pieces[row, :length] = waveform(corpus, entry, start, length)
    return pieces
