"""A corpus through a codec: recordings to tensors, tensors to codes on disk."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.audio.corpus import Corpus, CorpusEntry
from distill.codes.store import Codes, CodesWriter
from distill.models.packing import runs
from distill.models.vqvae import CHUNK_FRAMES, VQVAE

PCM_SCALE = 32768.0
# About 6 minutes of sound are coded before their codes go to the writer: what it keeps of each recording, allocated
# between tensors that come and go, would leave holes in memory.
WINDOW_FRAMES = 1 << 14


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

    Short recordings go through the codec together; long ones piece by piece, read as they are needed.
    """
    levels, size = codec.architecture.num_quantizers, codec.architecture.codebook_size
    counts = torch.zeros(levels, size, dtype=torch.int64)
    done = 0
    for window in runs(_with_frames(codec, corpus.entries), WINDOW_FRAMES):
        batches = runs(_with_frames(codec, window), CHUNK_FRAMES)
        coded = [codes for batch in batches for codes in encode_entries(codec, corpus, batch)]
        for entry, codes in zip(window, coded, strict=True):
            writer.append(entry.recording_id, 0, entry.group, codes)
            for level in range(levels):
                counts[level] += torch.bincount(torch.from_numpy(codes[:, level]), minlength=size)
        done += len(window)
        if progress is not None:
            progress(done, len(corpus.entries), window[-1].path)
    writer.close()
    return counts


def encode_entries(codec: VQVAE, corpus: Corpus, batch: Sequence[CorpusEntry]) -> list[Codes]:
    """Codes `[F, Q]` of recordings: several together, a single one piece by piece."""
    if len(batch) > 1:
        return [codes.cpu().numpy() for codes in codec.encode_together([waveform(corpus, entry) for entry in batch])]
    (entry,) = batch

    def read(start: int, stop: int) -> Tensor:
        return waveform(corpus, entry, start, stop - start)[None].to(codec.device)

    return [codec.encode_from(read, entry.samples)[0].cpu().numpy()]


def _with_frames(codec: VQVAE, entries: Iterable[CorpusEntry]) -> Iterator[tuple[int, CorpusEntry]]:
    return ((codec.spectrogram.frames_for(entry.samples), entry) for entry in entries)


def usage(counts: Tensor) -> dict[str, float]:
    """From how often each codeword was used, `[Q, V]`: share of codewords used and perplexity, level by level."""
    shares = counts.double() / counts.sum(dim=1, keepdim=True)
    perplexity = torch.special.entr(shares).sum(dim=1).exp()
    used = (counts > 0).double().mean(dim=1)
    figures = {f"level_{level}/utilization": float(used[level]) for level in range(len(counts))}
    return figures | {f"level_{level}/perplexity": float(perplexity[level]) for level in range(len(counts))}
