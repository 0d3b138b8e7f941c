"""A corpus through a codec: recordings to tensors, tensors to codes on disk."""

from collections.abc import Callable

import torch
from torch import Tensor

from distill.audio.corpus import Corpus, CorpusEntry
from distill.codes.store import Codes, CodesWriter
from distill.models.vqvae import VQVAE

PCM_SCALE = 32768.0


def waveform(corpus: Corpus, entry: CorpusEntry, start: int = 0, length: int | None = None) -> Tensor:
    """Samples `[N]` in [-1, 1), fp32."""
    return torch.from_numpy(corpus.pcm(entry, start, length)).float() / PCM_SCALE


def encode_entry(codec: VQVAE, corpus: Corpus, entry: CorpusEntry) -> Codes:
    """Codes `[F, Q]` of one recording."""
    codes: Codes = codec.encode(waveform(corpus, entry)[None].to(codec.head.weight.device))[0].cpu().numpy()
    return codes


def encode_corpus(
    codec: VQVAE, corpus: Corpus, writer: CodesWriter, progress: Callable[[int, int, str], None] | None = None
) -> Tensor:
    """Code every recording of a corpus as it is (view 0). Returns how often each codeword was used, `[Q, V]`."""
    levels, size = codec.architecture.num_quantizers, codec.architecture.codebook_size
    counts = torch.zeros(levels, size, dtype=torch.int64)
    for done, entry in enumerate(corpus.entries):
        codes = encode_entry(codec, corpus, entry)
        writer.append(entry.recording_id, 0, entry.group, codes)
        for level in range(levels):
            counts[level] += torch.bincount(torch.from_numpy(codes[:, level]), minlength=size)
        if progress is not None:
            progress(done + 1, len(corpus.entries), entry.path)
    writer.close()
    return counts


def usage(counts: Tensor) -> dict[str, float]:
    """From how often each codeword was used, `[Q, V]`: share of codewords used and perplexity, level by level."""
    shares = counts.double() / counts.sum(dim=1, keepdim=True)
    perplexity = torch.special.entr(shares).sum(dim=1).exp()
    used = (counts > 0).double().mean(dim=1)
    figures = {f"level_{level}/utilization": float(used[level]) for level in range(len(counts))}
    return figures | {f"level_{level}/perplexity": float(perplexity[level]) for level in range(len(counts))}
