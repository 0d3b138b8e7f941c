"""Audio for the codec: random crops for training, fixed pieces for validation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distill.audio.augment import VARISPEED_SEMITONES, varispeed, varispeed_length, waveform
from distill.audio.corpus import Corpus, ManifestRow
from distill.audio.noise_floor import MIDDLES, by_frame
from distill.audio.read import SILENT_PEAK
from distill.seeds import Stream, derive_seed
from distill.split import END, split_recordings, split_remark
from distill.training.distributed import WHOLE


@dataclass(frozen=True, eq=False)
class CodecData:
    """A corpus and its recordings on both sides of the split.

    A recording that is cut has its beginning in `train` and its end in `held_out`. `remark` describes what could not be
    held out.
    """

    corpus: Corpus
    train: Sequence[ManifestRow]
    held_out: Sequence[ManifestRow]
    remark: str = ""

    @classmethod
    def split(
        cls, corpus: Corpus, val_fraction: float, seed: int, by_label: bool = False
    ) -> "CodecData":
        """Split a corpus by `distill.split`; near-duplicates that it separates get groups of their own."""
        chosen = split_recordings(corpus.entries, seed, val_fraction, by_label)
        train: list[ManifestRow] = []
        held_out: list[ManifestRow] = []
        for entry in corpus.entries:
            side = held_out if entry.pcm_sha256 in chosen.held_out else train
            row = replace(entry, group=entry.pcm_sha256[:16]) if chosen.is_apart else entry
            if entry.pcm_sha256 == chosen.cut:
                row, end = parted(row, chosen.end)
                held_out.append(end)
            side.append(row)
        remark = split_remark(corpus.entries, chosen, corpus.sample_rate, val_fraction, by_label)
        return cls(corpus, train, held_out, remark)


def parted(entry: ManifestRow, end: int) -> tuple[ManifestRow, ManifestRow]:
    """Split a recording before its last `end` samples into two recordings with the same path."""
    start = entry.samples - end
    first, last = (
        replace(
            entry,
            pcm_sha256=f"{entry.pcm_sha256}:{offset}:{samples}",
            seconds=entry.seconds * samples / entry.samples,
            frames_in_shard=samples,
            offset=entry.offset + offset,
        )
        for offset, samples in ((0, start), (start, end))
    )
    return first, replace(last, recording_id=entry.recording_id + END, group=entry.group + END)


class Crops(NamedTuple):
    """Samples `[B, N]`, and log10 of noise to tone `[B, F, noise bands]` from the noise floors of their recordings."""

    audio: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> "Crops":
        """Copy to a device."""
        return Crops(self.audio.to(device), self.noise.to(device))


class Piece(NamedTuple):
    """Piece of a recording: `length` samples from `start`, played at `speed` and multiplied by `gain` in a crop."""

    entry: ManifestRow
    start: int
    length: int
    speed: float
    gain: float


class CropSampler:
    """Sampler of batches of random crops, with random start, speed, gain and polarity.

    The probability of a recording grows with its length. Short recordings are joined until a crop is full, since padded
    crops would be mostly silence. Silent crops, such as between two sounds of a recording, are sampled again.
    """

    def __init__(
        self,
        corpus: Corpus,
        entries: Sequence[ManifestRow],
        batch_size: int,
        crop: int,
        step: int,
        seed: int,
    ) -> None:
        """`step` is the number of samples per frame."""
        self.corpus, self.entries, self.gain, self.step = corpus, entries, corpus.gain, step
        self.batch_size, self.crop, self.seed = batch_size, crop, seed
        lengths = np.array([entry.samples for entry in entries], dtype=np.float64)
        self.steps_per_epoch = max(1, int(np.ceil(lengths.sum() / (batch_size * crop))))
        weights = np.maximum(lengths, crop * 0.25)  # short recordings count as a quarter of a crop
        self.probabilities = weights / weights.sum()

    def batches(self, epoch: int, skip: int, share: slice = WHOLE) -> Iterator[Crops]:
        """Yield a slice (`share`) of each batch of an epoch, from step `skip`: a function of (seed, epoch, step)."""
        for step in range(skip, self.steps_per_epoch):
            generator = np.random.default_rng(derive_seed(self.seed, Stream.CROPS, epoch, step))
            drawn = [(number, self._draw(generator)) for number in range(self.batch_size)]
            yield _stacked(
                [self._sounding(pieces, epoch, step, number) for number, pieces in drawn[share]]
            )

    def probe(self, count: int) -> Crops:
        """Fixed batch of `count` crops with sound, filled up with silent crops if necessary.

        The loss on silence says nothing about training. A crop is silent if its peak is below -60 dB.
        """
        generator = np.random.default_rng(derive_seed(self.seed, Stream.PROBE_WINDOWS))
        crops = [self._read(self._draw(generator)) for _ in range(64)]
        return _stacked(
            sorted(crops, key=lambda crop: bool(crop.audio.abs().max() * self.gain < 1e-3))[:count]
        )

    def _sounding(self, pieces: list[Piece], *position: int) -> "_Crop":
        """Read the crop of these pieces; if it is silent, sample others, up to 32 times."""
        crop = self._read(pieces)
        for redraw in range(32):
            if float(crop.audio.abs().max()) * self.gain >= SILENT_PEAK:
                break
            seed = derive_seed(self.seed, Stream.CROPS, *position, redraw)
            crop = self._read(self._draw(np.random.default_rng(seed)))
        return crop

    def _draw(self, generator: np.random.Generator) -> list[Piece]:
        """Sample pieces that fill a crop."""
        pieces: list[Piece] = []
        filled = 0
        while filled < self.crop:
            entry = self.entries[generator.choice(len(self.entries), p=self.probabilities)]
            speed = 2.0 ** (generator.uniform(-VARISPEED_SEMITONES, VARISPEED_SEMITONES) / 12)
            length = min(int((self.crop - filled) * speed) + 1, entry.samples)
            start = int(generator.integers(entry.samples - length + 1))
            gain = generator.uniform(0.5, 1.2) * generator.choice((-1.0, 1.0))
            pieces.append(Piece(entry, start, length, speed, gain))
            filled += varispeed_length(length, speed)
        return pieces

    def _read(self, pieces: Sequence[Piece]) -> "_Crop":
        """Read the crop of these pieces."""
        crop = _Crop(self.corpus, self.crop, self.step)
        for entry, start, length, speed, gain in pieces:
            crop.add(
                entry, start, varispeed(waveform(self.corpus, entry, start, length), speed) * gain
            )
        return crop


class _Crop:
    """A crop with this number of samples, filled by pieces of recordings; the remainder is silent."""

    def __init__(self, corpus: Corpus, samples: int, step: int) -> None:
        self.corpus, self.step, self.length = corpus, step, 0
        self.audio = torch.zeros(samples)
        self.noise = torch.zeros(samples // step, len(MIDDLES))

    def add(self, entry: ManifestRow, start: int, samples: Tensor) -> None:
        """Append samples `[n]` of a recording, from its sample `start`; samples beyond the crop are dropped."""
        kept = samples[: len(self.audio) - self.length]
        stop, rate = self.length + len(kept), self.corpus.sample_rate
        self.audio[self.length : stop] = kept
        first, last = self.length // self.step, min(len(self.noise), -(-stop // self.step))
        floor = self.corpus.side_info(entry).cut(start / rate, len(kept) / rate).noise
        self.noise[first:last] = torch.from_numpy(by_frame(floor, last - first, rate / self.step))
        self.length = stop


def _stacked(crops: Sequence[_Crop]) -> Crops:
    """Stack crops into a batch."""
    return Crops(
        torch.stack([crop.audio for crop in crops]), torch.stack([crop.noise for crop in crops])
    )


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` evenly spaced integers from 0 to `count` - 1, in order; several include both ends."""
    chosen: list[int] = np.unique(
        np.linspace(0, count - 1, min(most, count)).round().astype(int)
    ).tolist()
    return chosen


def fixed_pieces(
    corpus: Corpus,
    entries: Sequence[ManifestRow],
    crop: int,
    step: int,
    max_pieces: int,
    share: slice = WHOLE,
) -> Crops:
    """A slice (`share`) of at most `max_pieces` evenly spaced pieces of `crop` samples of the joined recordings.

    The last piece is padded with silence. `step` is the number of samples per frame.
    """
    ends = np.cumsum([entry.samples for entry in entries])
    chosen = evenly_spaced(-(-int(ends[-1]) // crop), max_pieces)[share]
    pieces = []
    for piece in chosen:
        filled = _Crop(corpus, crop, step)
        for index in range(int(np.searchsorted(ends, piece * crop, side="right")), len(entries)):
            entry = entries[index]
            offset = piece * crop + filled.length - int(ends[index] - entry.samples)
            length = min(crop - filled.length, entry.samples - offset)
            filled.add(entry, offset, waveform(corpus, entry, offset, length))
            if filled.length == crop:
                break
        pieces.append(filled)
    return _stacked(pieces)
