"""Encode a corpus: recordings through the codec to codes on disk.

Views of a run of recordings are a block, which is encoded at once and kept. Its codes are a function of its samples and
the codec alone, so the codes of a corpus depend neither on what was encoded before nor on who does it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor

from distill.audio.augment import View, views_of, waveform
from distill.audio.corpus import Corpus, ManifestRow, load_corpus
from distill.codec.coordinates import codewords_of
from distill.codec.model import VQVAE
from distill.codec.streaming import CHUNK_FRAMES, encode_from, encode_together, runs
from distill.codes.store import CodesConfig, CodesWriter, RecordingRow
from distill.errors import ArtifactError
from distill.execution import Execution
from distill.params import Labels, Params
from distill.progress import ProgressReport
from distill.split import split_groups
from distill.status import Progress
from distill.storage.files import atomic_folder, canonical_json, sha256_text, write_bytes
from distill.storage.work import HERE, Cache, Executor, cut_blocks, map_cached, work_folder, work_version
from distill.training.device import device_of

BLOCK_RECORDINGS = 64
BLOCK_FRAMES = 1 << 14  # about 6 minutes of sound

Coded = NDArray[np.uint16]  # [F, Q]


class RecordingView(NamedTuple):
    """One view of a recording."""

    entry: ManifestRow
    view: View


@dataclass(frozen=True)
class ViewBlock:
    """Views of a run of recordings, with the frames of each, and the key of what they are."""

    views: tuple[RecordingView, ...]
    frames: tuple[int, ...]
    key: str


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
    executor: Executor,
    kept: Path | None = None,
) -> CodesReport:
    """Encode a corpus with the settings `params` and write the artefact of codes `folder`, with progress.

    The codec runs on the device of `execution` where `executor` works in this process, else on CPUs, and is moved back
    to the CPU. Codes of blocks are kept in `kept`, where one is given.
    """
    corpus = load_corpus(corpus_folder)
    seconds = sum(entry.samples for entry in corpus.entries) / corpus.sample_rate
    views, fraction = params.codes.resolve(seconds), params.split.resolve(len(corpus.entries))
    codec.to(device_of(execution) if executor.is_here else "cpu")
    began = time.monotonic()
    with ProgressReport("encode") as progress:
        settings = (views, fraction, params.seed, params.corpus.labels)
        counts = encode_for_prior(codec, codec_sha256, corpus, folder, *settings, executor, progress, kept)
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
    labels: Labels = "none",
    executor: Executor = HERE,
    progress: Progress | None = None,
    kept: Path | None = None,
) -> Tensor:
    """Write the artefact of codes atomically: training recordings in `views` views, held-out ones unmodified.

    `labels` is the source of labels. Returns the codeword counts of unmodified recordings, `[Q, V]`.
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

    def chosen(entry: ManifestRow) -> list[View]:
        return views_of(entry, views if sides[entry.group] == "train" else 1, step, seed)

    blocks = blocks_of(corpus.entries, chosen, codec.spectrogram.frames_for)
    named = [RecordingRow(one.recording_id, one.path, one.label * (labels == "folder")) for one in corpus.entries]
    with atomic_folder(folder) as temporary, work_folder(kept, temporary) as work:
        cache = Cache(work, work_version("encode_codes", codec_sha256, codec.device.type))
        paths = encode_blocks(codec, corpus, blocks, cache, executor, progress)
        counts = torch.zeros(shape.num_quantizers, shape.codebook_size, dtype=torch.int64)
        with CodesWriter(temporary, geometry, codewords.vectors.numpy(), named) as writer:
            for block, path in zip(blocks, paths, strict=True):
                for (entry, view), codes in zip(block.views, _read_block(path, block), strict=True):
                    writer.append(entry.recording_id, view.number, entry.group, codes)
                    if view.number == 0:
                        for level, column in enumerate(torch.from_numpy(codes.astype(np.int64)).T):
                            counts[level] += torch.bincount(column, minlength=shape.codebook_size)
        cache.keep_only(paths)
    return counts


def blocks_of(
    entries: Sequence[ManifestRow], views: Callable[[ManifestRow], Sequence[View]], frames_for: Callable[[int], int]
) -> list[ViewBlock]:
    """Cut the views of recordings into blocks; `frames_for` gives the frames of so many samples."""
    chosen = [tuple(views(entry)) for entry in entries]
    sizes = [len(own) * frames_for(entry.samples) for entry, own in zip(entries, chosen, strict=True)]
    names = [entry.recording_id for entry in entries]
    blocks = []
    for indices in cut_blocks(names, sizes, BLOCK_RECORDINGS, BLOCK_FRAMES):
        own_views = tuple(RecordingView(entries[index], view) for index in indices for view in chosen[index])
        frames = tuple(frames_for(one.entry.samples - one.view.shift) for one in own_views)
        made_of = [[one.entry.pcm_sha256, one.view.shift, one.view.gain] for one in own_views]
        blocks.append(ViewBlock(own_views, frames, sha256_text(canonical_json(made_of))[:32]))
    return blocks


def encode_blocks(
    codec: VQVAE,
    corpus: Corpus,
    blocks: Sequence[ViewBlock],
    cache: Cache,
    executor: Executor,
    progress: Progress | None = None,
) -> list[Path]:
    """Files with the codes of each block. Short recordings are encoded in batches, long ones in chunks."""
    total, done = len(corpus.entries), 0

    def say(block: ViewBlock) -> None:
        nonlocal done
        done += sum(one.view.number == 0 for one in block.views)
        if progress is not None:
            progress(done, total, block.views[-1].entry.path)

    samples = Corpus(corpus.folder.absolute(), corpus.sample_rate, ())  # as it is sent to others, without its list
    function = partial(_encode_block, codec, samples)
    return map_cached(function, blocks, attrgetter("key"), executor, cache, say, [samples.folder])


def _encode_block(codec: VQVAE, corpus: Corpus, block: ViewBlock, path: Path) -> None:
    batches = runs(zip(block.frames, block.views, strict=True), CHUNK_FRAMES)
    codes = [codes for batch in batches for codes in encode_views(codec, corpus, batch)]
    write_bytes(path, save({"codes": np.concatenate(codes)}))


def encode_views(codec: VQVAE, corpus: Corpus, batch: Sequence[RecordingView]) -> list[Coded]:
    """Codes `[F, Q]` of views of recordings: several in one batch, a single one in chunks, read as they are needed."""
    if len(batch) > 1:
        sounds = [waveform(corpus, entry, view=view) for entry, view in batch]
        return [_at_rest(codes) for codes in encode_together(codec, sounds)]
    ((entry, view),) = batch

    def read(start: int, stop: int) -> Tensor:
        return waveform(corpus, entry, start, stop - start, view)[None].to(codec.device)

    return [_at_rest(encode_from(codec, read, entry.samples - view.shift)[0])]


def _at_rest(codes: Tensor) -> Coded:
    return codes.cpu().numpy().astype(np.uint16)


def _read_block(path: Path, block: ViewBlock) -> list[Coded]:
    """Codes of the views of a block. Raises ArtifactError."""
    try:
        return np.split(load_file(path)["codes"], np.cumsum(block.frames)[:-1])
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: expected codes of recordings, found {error}; remove it and run again") from error


def usage(counts: Tensor) -> dict[str, float]:
    """Codebook utilization and perplexity of each level, from codeword counts `[Q, V]`."""
    shares = counts.double() / counts.sum(dim=1, keepdim=True)
    perplexity = torch.special.entr(shares).sum(dim=1).exp()
    used = (counts > 0).double().mean(dim=1)
    figures = {f"level_{level}/utilization": float(used[level]) for level in range(len(counts))}
    return figures | {f"level_{level}/perplexity": float(perplexity[level]) for level in range(len(counts))}
