"""A corpus through a codec: recordings to tensors, tensors to codes on disk."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.audio.corpus import Corpus, CorpusEntry
from distill.codes.store import Codes, CodesWriter
from distill.models.spectral import SpectrogramConfig
from distill.models.vqvae import VQVAE

PCM_SCALE = 32768.0
WINDOW_FRAMES = 1 << 14  # about 6 minutes of sound among which recordings of equal length are sought
BATCH_FRAMES = 512


def waveform(corpus: Corpus, entry: CorpusEntry, start: int = 0, length: int | None = None) -> Tensor:
    """Samples `[N]` in [-1, 1), fp32."""
    return samples_of(corpus.pcm(entry, start, length))


def samples_of(pcm: NDArray[np.int16]) -> Tensor:
    """int16 samples `[N]` to `[N]` in [-1, 1), fp32."""
    return torch.from_numpy(pcm).float() / PCM_SCALE


def encode_corpus(
    codec: VQVAE, corpus: Corpus, writer: CodesWriter, progress: Callable[[int, int, str], None] | None = None
) -> Tensor:
    """Code every recording of a corpus as it is (view 0). Returns how often each codeword was used, `[Q, V]`.

    Recordings of equal length go through the codec together; long ones piece by piece, read as they are needed.
    """
    levels, size = codec.architecture.num_quantizers, codec.architecture.codebook_size
    counts = torch.zeros(levels, size, dtype=torch.int64)
    done = 0
    for window in _windows(corpus.entries, codec.spectrogram):
        coded: dict[str, Codes] = {}
        for batch in _equal_lengths(window, codec.spectrogram):
            coded |= zip((entry.recording_id for entry in batch), encode_entries(codec, corpus, batch), strict=True)
        for entry in window:
            codes = coded[entry.recording_id]
            writer.append(entry.recording_id, 0, entry.group, codes)
            for level in range(levels):
                counts[level] += torch.bincount(torch.from_numpy(codes[:, level]), minlength=size)
        done += len(window)
        if progress is not None:
            progress(done, len(corpus.entries), window[-1].path)
    writer.close()
    return counts


def encode_entries(codec: VQVAE, corpus: Corpus, batch: Sequence[CorpusEntry]) -> list[Codes]:
    """Codes `[F, Q]` of recordings that all have F frames."""
    longest = max(entry.samples for entry in batch)

    def read(start: int, stop: int) -> Tensor:
        audio = torch.zeros(len(batch), stop - start)
        for row, entry in zip(audio, batch, strict=True):
            length = max(0, min(stop, entry.samples) - start)
            row[:length] = waveform(corpus, entry, start, length)
        return audio.to(codec.device)

    return list(codec.encode_from(read, longest).cpu().numpy())


def _windows(entries: Sequence[CorpusEntry], config: SpectrogramConfig) -> Iterator[list[CorpusEntry]]:
    """Runs of recordings in order, each of about `WINDOW_FRAMES` frames."""
    window: list[CorpusEntry] = []
    frames = 0
    for entry in entries:
        window.append(entry)
        frames += config.frames_for(entry.samples)
        if frames >= WINDOW_FRAMES:
            yield window
            window, frames = [], 0
    if window:
        yield window


def _equal_lengths(window: Sequence[CorpusEntry], config: SpectrogramConfig) -> Iterator[list[CorpusEntry]]:
    """The recordings of a window by number of frames, at most `BATCH_FRAMES` frames or one recording at a time."""
    by_frames: dict[int, list[CorpusEntry]] = {}
    for entry in window:
        by_frames.setdefault(config.frames_for(entry.samples), []).append(entry)
    for frames, alike in by_frames.items():
        most = max(1, BATCH_FRAMES // frames)
        for first in range(0, len(alike), most):
            yield alike[first : first + most]


def usage(counts: Tensor) -> dict[str, float]:
    """From how often each codeword was used, `[Q, V]`: share of codewords used and perplexity, level by level."""
    shares = counts.double() / counts.sum(dim=1, keepdim=True)
    perplexity = torch.special.entr(shares).sum(dim=1).exp()
    used = (counts > 0).double().mean(dim=1)
    figures = {f"level_{level}/utilization": float(used[level]) for level in range(len(counts))}
    return figures | {f"level_{level}/perplexity": float(perplexity[level]) for level in range(len(counts))}
