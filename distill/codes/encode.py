"""Encode a corpus: recordings through the codec to codes on disk."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.audio.augment import AS_IS, View, views_of
from distill.audio.corpus import Corpus, CorpusEntry, load_corpus
from distill.cluster import Cluster, cluster_of
from distill.codec.coordinates import codewords_of
from distill.codec.model import VQVAE
from distill.codes.blocks import CodeStore, blocks_of
from distill.codes.encode_block import encode_block, encode_there, encoder_version
from distill.codes.store import CodesConfig, CodesWriter, RecordingRow
from distill.execution import Execution
from distill.params import Labels, Params
from distill.progress import ProgressReport
from distill.split import split_groups
from distill.status import Progress
from distill.storage.files import atomic_folder
from distill.training.device import device_of


def encode_corpus(
    codec: VQVAE,
    corpus: Corpus,
    writer: CodesWriter,
    progress: Progress | None = None,
    views: Callable[[CorpusEntry], Sequence[View]] = lambda _: (AS_IS,),
    store: CodeStore | None = None,
    cluster: Cluster | None = None,
) -> Tensor:
    """Encode every view of every recording of a corpus; return the codeword counts of unmodified recordings, `[Q, V]`.

    Short recordings are encoded in batches; long ones in chunks, read as they are needed. What `store` has is not
    encoded again; with a store the workers of a `cluster` can encode.
    """
    levels, size = codec.architecture.num_quantizers, codec.architecture.codebook_size
    counts = torch.zeros(levels, size, dtype=torch.int64)
    done = 0
    blocks = blocks_of(corpus.entries, views, codec.spectrogram.frames_for)
    if cluster is not None and store is not None:
        missing = [block for block in blocks if not store.path(block).exists()]  # what is damaged is encoded below
        encode_there(cluster, codec, corpus, missing, store, progress)
        progress = None
    for block in blocks:
        coded = None if store is None else store.read(block, levels)
        if coded is None:
            coded = encode_block(codec, corpus, block)
            if store is not None:
                store.write(block, coded)
        for (entry, view), codes in zip(block.takes, coded, strict=True):
            writer.append(entry.recording_id, view.number, entry.group, codes)
            if view.number == 0:
                done += 1
                for level in range(levels):
                    counts[level] += torch.bincount(torch.from_numpy(codes[:, level].astype(np.int64)), minlength=size)
        if progress is not None:
            progress(done, len(corpus.entries), block.takes[-1].entry.path)
    writer.close()
    if store is not None:
        store.keep_only(blocks)
    return counts


@dataclass(frozen=True)
class CodesReport:
    """Frames and codes of the unmodified recordings, views of each training recording, and codebook `usage`."""

    frames: int
    tokens: int
    views: int
    usage: dict[str, float]

    def metrics(self) -> dict[str, float]:
        """The metrics of `metrics/encode_codes.json`."""
        return {"frames": self.frames, "tokens": self.tokens, "views": self.views, **self.usage}


def code_corpus(
    codec: VQVAE,
    codec_sha256: str,
    corpus_folder: Path,
    folder: Path,
    params: Params,
    execution: Execution,
    kept: Path | None = None,
) -> CodesReport:
    """Encode a corpus with the settings `params` and write the artefact of codes `folder`, with progress.

    The codec runs on the device of `execution`, on the CPU where that names a cluster, whose workers do so too, and is
    moved back to the CPU. Codes of blocks are kept in `kept`, where one is given.
    """
    corpus = load_corpus(corpus_folder)
    seconds = sum(entry.samples for entry in corpus.entries) / corpus.sample_rate
    views, fraction = params.codes.resolve(seconds), params.split.resolve(len(corpus.entries))
    codec.to("cpu" if execution.cluster else device_of(execution))
    began = time.monotonic()
    with ProgressReport("encode") as progress, cluster_of(execution) as cluster:
        counts = encode_for_prior(
            codec,
            codec_sha256,
            corpus,
            folder,
            views,
            fraction,
            params.seed,
            progress,
            params.corpus.labels,
            kept,
            cluster,
        )
        frames, taken = int(counts[0].sum()), time.monotonic() - began
        progress.say(f"{frames} frames, {views} views of each training recording, {taken:.1f} s")
    codec.cpu()
    return CodesReport(frames, int(counts.sum()), views, usage(counts))


def encode_for_prior(
    codec: VQVAE,
    codec_sha256: str,
    corpus: Corpus,
    folder: Path,
    views: int,
    val_fraction: float,
    seed: int,
    progress: Progress | None = None,
    labels: Labels = "none",
    kept: Path | None = None,
    cluster: Cluster | None = None,
) -> Tensor:
    """Write the artefact of codes atomically: training recordings in `views` views, held-out ones unmodified.

    `labels` is the source of labels. Returns the codeword counts of `encode_corpus`, `[Q, V]`.
    """
    shape = codec.architecture
    codewords = codewords_of(codec)
    geometry = CodesConfig(
        codebook_size=shape.codebook_size,
        num_quantizers=shape.num_quantizers,
        frame_rate=shape.spectrogram.frame_rate,
        codec_sha256=codec_sha256,
        shared_coordinates=codewords.are_shared,
    )
    sides = split_groups((entry.group for entry in corpus.entries), seed, val_fraction)
    step = codec.spectrogram.samples_per_frame

    def chosen(entry: CorpusEntry) -> list[View]:
        return views_of(entry, views if sides[entry.group] == "train" else 1, step, seed)

    with atomic_folder(folder) as temporary:
        named = [RecordingRow(one.recording_id, one.path, one.label * (labels == "folder")) for one in corpus.entries]
        writer = CodesWriter(temporary, geometry, codewords.vectors.numpy(), named)
        store = None if kept is None else CodeStore(kept, encoder_version(codec_sha256, codec.device.type))
        return encode_corpus(codec, corpus, writer, progress, chosen, store, cluster)


def usage(counts: Tensor) -> dict[str, float]:
    """Codebook utilization and perplexity of each level, from codeword counts `[Q, V]`."""
    shares = counts.double() / counts.sum(dim=1, keepdim=True)
    perplexity = torch.special.entr(shares).sum(dim=1).exp()
    used = (counts > 0).double().mean(dim=1)
    figures = {f"level_{level}/utilization": float(used[level]) for level in range(len(counts))}
    return figures | {f"level_{level}/perplexity": float(perplexity[level]) for level in range(len(counts))}
